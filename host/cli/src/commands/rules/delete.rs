//! `weir rules delete PATTERN`.

use clap::Args;
use weir_engine::Pattern;
use weir_http::api::{ChangeBody, PatternText};

use crate::client::{AdminArgs, Client};
use crate::error::Failure;

/// Which rule
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir rules delete tenant-a
  weir rules delete tenant-a --if-version 3     only if nobody has changed it since")]
pub(crate) struct DeleteArgs {
    /// The rule's pattern
    #[arg(value_parser = super::pattern)]
    pattern: Pattern,

    /// Only if the rule still has this version
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) fn run(args: &DeleteArgs) -> Result<(), Failure> {
    let delete = Some(PatternText(args.pattern.clone()));
    Client::new(&args.admin)?.apply(ChangeBody { delete, if_version: args.if_version, ..ChangeBody::default() })?;
    super::say(args.admin.json, "deleted", &args.pattern, None)
}
