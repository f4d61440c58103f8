//! `weir rules`: the rule book of a running server.

mod apply;
mod delete;
mod difference;
mod list;
mod set;
mod toggle;
mod watch;
pub(crate) mod words;

use clap::{Args, Subcommand};
use weir_engine::{Pattern, PatternError};
use weir_http::api::RuleView;

use crate::error::Failure;
use crate::output;

/// Show and change the rules of a running server
#[derive(Debug, Args)]
#[command(after_help = "\
A pattern is `scope`, `scope/l1` or `scope/l1/l2`, each part exact or `*`, and has one rule. `*` gives every scope or key
a budget of its own, or with --total one to all of them together. What comes under `tenant/7` is bound by the rules of
`tenant` as well: `tenant/*` is for each tenant, `tenant` for all of them together.

Examples:
  weir rules set 'tenant/*' --concurrency 5 --description 'each tenant'
  weir rules set tenant --concurrency 50                 and all tenants together
  weir rules set '*' --total --concurrency 200           and all scopes together
  weir rules set model/gpt --rate 3/1m --rate 10000/1m:cost
  weir rules disable model/gpt
  weir rules list --extra
  weir rules apply rules.toml                            what the file would change; --yes changes it
  weir rules watch")]
pub(crate) struct RulesArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a rule, or change the fields that are named; the others stay
    Set(set::SetArgs),
    /// List the rules
    List(list::ListArgs),
    /// Let a rule bind again
    Enable(toggle::ToggleArgs),
    /// Keep a rule, but let it bind nothing
    Disable(toggle::ToggleArgs),
    /// Remove a rule
    Delete(delete::DeleteArgs),
    /// Make the book what a file says; without --yes it only shows the difference
    Apply(apply::ApplyArgs),
    /// Show every change of the book, until Ctrl-C
    Watch(watch::WatchArgs),
}

pub(crate) fn run(args: &RulesArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Set(args) => set::run(args),
        Verb::List(args) => list::run(args),
        Verb::Enable(args) => toggle::run(args, false),
        Verb::Disable(args) => toggle::run(args, true),
        Verb::Delete(args) => delete::run(args),
        Verb::Apply(args) => apply::run(args),
        Verb::Watch(args) => watch::run(args),
    }
}

/// What the command did, for people and for programs.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
struct Outcome<'a> {
    outcome: &'a str,
    pattern: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a RuleView>,
}

fn say(json: bool, outcome: &str, pattern: &Pattern, rule: Option<&RuleView>) -> Result<(), Failure> {
    if json {
        return output::json(&Outcome { outcome, pattern: pattern.to_string(), rule });
    }
    match rule {
        Some(rule) => output::data(&format!("{outcome} {pattern}: {}", words::rule(&rule.body))),
        None => output::data(&format!("{outcome} {pattern}")),
    }
}

fn pattern(text: &str) -> Result<Pattern, PatternError> {
    text.parse()
}
