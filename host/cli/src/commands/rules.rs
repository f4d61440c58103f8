//! `weir rules`: the rule book of a running server.

mod delete;
mod list;
mod set;
mod toggle;

use clap::{Args, Subcommand};
use weir_engine::{Pattern, PatternError};
use weir_http::api::RuleView;

use crate::error::Failure;
use crate::output;

/// Show and change the rules of a running server
#[derive(Debug, Args)]
#[command(after_help = "\
A pattern is `scope`, `scope/l1` or `scope/l1/l2`, each part exact or `*`. `*` gives every scope or key a budget of its own.

Examples:
  weir rules set 'tenant/*' --concurrency 5 --description 'each tenant'
  weir rules set model/gpt --rate 3/1m --rate 10000/1m:cost
  weir rules disable model/gpt
  weir rules list --extra")]
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
}

pub(crate) fn run(args: &RulesArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Set(args) => set::run(args),
        Verb::List(args) => list::run(args),
        Verb::Enable(args) => toggle::run(args, false),
        Verb::Disable(args) => toggle::run(args, true),
        Verb::Delete(args) => delete::run(args),
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
        Some(rule) => output::data(&format!("{outcome} {pattern}: {}", limits(rule))),
        None => output::data(&format!("{outcome} {pattern}")),
    }
}

/// A rule in one line: `concurrency 5, rates 3/1m, max-wait 30s`.
fn limits(rule: &RuleView) -> String {
    let mut parts = vec![match rule.concurrency {
        Some(limit) => format!("concurrency {}", limit.0),
        None => "concurrency unlimited".to_owned(),
    }];
    if !rule.rates.is_empty() {
        parts.push(format!("rates {}", rates(rule)));
    }
    if let Some(max_waiters) = rule.max_waiters {
        parts.push(format!("max-waiters {max_waiters}"));
    }
    if let Some(max_wait) = rule.max_wait {
        parts.push(format!("max-wait {max_wait}"));
    }
    if rule.disabled {
        parts.push("disabled".to_owned());
    }
    parts.join(", ")
}

fn rates(rule: &RuleView) -> String {
    rule.rates.iter().map(|rate| rate.0.to_string()).collect::<Vec<_>>().join(" ")
}

fn pattern(text: &str) -> Result<Pattern, PatternError> {
    text.parse()
}
