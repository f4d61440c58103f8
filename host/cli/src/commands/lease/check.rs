//! `weir lease check KEY`.

use clap::Args;
use weir_engine::ScopedKey;

use super::wanted::{WantedArgs, key};
use crate::client::{IngressArgs, LeaseClient};
use crate::error::Failure;
use crate::output;

/// Whether a lease would be granted now; takes nothing
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 it would be granted, 4 not now, 1 never. `weir explain` says more, to operators.")]
pub(crate) struct CheckArgs {
    /// What it would be under: scope[/l1[/l2]]
    #[arg(value_name = "SCOPE[/L1[/L2]]", value_parser = key)]
    key: ScopedKey,

    #[command(flatten)]
    wanted: WantedArgs,

    #[command(flatten)]
    ingress: IngressArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let checked = LeaseClient::new(&args.ingress)?.check(&args.wanted.body(&args.key))?;
    if args.json {
        output::json(&checked)?;
    } else {
        output::data(if checked.granted { "granted" } else { checked.detail.as_deref().unwrap_or("refused") })?;
    }
    match checked.reason.as_deref() {
        _ if checked.granted => Ok(()),
        Some("too-large" | "denied" | "invalid") => Err(Failure::quiet(1)),
        _ => Err(Failure::quiet(4)),
    }
}
