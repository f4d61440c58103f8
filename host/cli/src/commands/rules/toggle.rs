//! `weir rules enable PATTERN` and `weir rules disable PATTERN`.

use clap::Args;
use weir_engine::Pattern;
use weir_http::api::{ChangeBody, LimitsPatch, PatchBody, PatternText};

use crate::client::{AdminArgs, Client, ClientError};
use crate::error::Failure;

/// How often to try again when the rule changes between looking and patching.
const TRIES: usize = 5;

/// Which rule
#[derive(Debug, Args)]
pub(crate) struct ToggleArgs {
    /// The rule's pattern
    #[arg(value_parser = super::pattern)]
    pattern: Pattern,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) fn run(args: &ToggleArgs, disabled: bool) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let mut tries = 0;
    let outcome = loop {
        // A patch creates what is absent, which is not what was asked for: the version makes sure that there is a rule.
        let Some(rule) = client.rule(&args.pattern)? else {
            let missing = anyhow::anyhow!("there is no rule for {}", args.pattern);
            return Err(Failure::failed(missing)
                .hint("`weir rules list` shows the rules there are; `weir rules set` makes one"));
        };
        let fields = LimitsPatch { disabled: Some(disabled), ..LimitsPatch::default() };
        let patch = PatchBody { pattern: PatternText(args.pattern.clone()), fields };
        tries += 1;
        match client.apply(ChangeBody { patch: Some(patch), if_version: Some(rule.version), ..ChangeBody::default() }) {
            Err(ClientError::Problem(problem)) if problem.status == 412 && tries < TRIES => {}
            Err(error) => return Err(error.into()),
            Ok(applied) if applied.differences.is_empty() => break "unchanged",
            Ok(_) if disabled => break "disabled",
            Ok(_) => break "enabled",
        }
    };
    let rule = client.rule(&args.pattern)?;
    super::say(args.admin.json, outcome, &args.pattern, rule.as_ref())
}
