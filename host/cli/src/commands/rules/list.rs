//! `weir rules list`: the rules, sorted by pattern.

use std::collections::HashMap;

use clap::Args;
use serde::Serialize;
use weir_http::api::{CounterView, RuleBody, RuleView};

use super::words;
use crate::client::{AdminArgs, Client};
use crate::error::Failure;
use crate::output;

/// The most counters that usage is summed over, as many as the admin API shows at once.
const COUNTERS: usize = 10_000;

/// What is shown of every rule.
const COLUMNS: [&str; 9] =
    ["PATTERN", "CONCURRENCY", "RATES", "MAX WAIT", "MAX WAITERS", "MAX PUSHBACK", "SHADOW", "TOTAL", "STATE"];

/// List the rules
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir rules list
  weir rules list --extra        with version, last change, description and usage
  weir rules list --json | jq -r '.rules[].pattern'")]
pub(crate) struct ListArgs {
    /// Show version, last change, description and usage too
    #[arg(long)]
    extra: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

/// What the counters that a rule binds hold together.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Usage {
    counters: usize,
    calls: u64,
    cost: u64,
    waiting: usize,
}

#[derive(Debug, Serialize)]
struct ExtraRule<'a> {
    #[serde(flatten)]
    rule: &'a RuleView,
    usage: Usage,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ExtraBook<'a> {
    version: u64,
    rules: Vec<ExtraRule<'a>>,
}

pub(crate) fn run(args: &ListArgs) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let book = client.rules()?;
    if !args.extra {
        if args.admin.json {
            return output::json(&book);
        }
        return show(&book.rules);
    }
    let counters = client.counters(None, COUNTERS)?;
    if counters.more {
        output::talk(&format!("there are more than {COUNTERS} counters: usage counts those alone"));
    }
    let usage = usage(&counters.counters);
    let of = |rule: &RuleView| usage.get(&rule.body.pattern.0.to_string()).copied().unwrap_or_default();
    if args.admin.json {
        let rules = book.rules.iter().map(|rule| ExtraRule { rule, usage: of(rule) }).collect();
        return output::json(&ExtraBook { version: book.version, rules });
    }
    show_extra(&book.rules, of)
}

fn usage(counters: &[CounterView]) -> HashMap<String, Usage> {
    let mut usage: HashMap<String, Usage> = HashMap::new();
    for counter in counters {
        let Some(pattern) = &counter.pattern else { continue };
        let sum = usage.entry(pattern.0.to_string()).or_default();
        sum.counters += 1;
        sum.calls += counter.calls;
        sum.cost += counter.cost;
        sum.waiting += counter.waiting;
    }
    usage
}

fn show(rules: &[RuleView]) -> Result<(), Failure> {
    if rules.is_empty() {
        output::talk("no rules: nothing is limited; `weir rules set` makes one");
        return Ok(());
    }
    let mut table = output::table(&COLUMNS);
    for rule in rules {
        table.add_row(columns(rule));
    }
    output::print(&table)
}

fn show_extra(rules: &[RuleView], usage: impl Fn(&RuleView) -> Usage) -> Result<(), Failure> {
    if rules.is_empty() {
        return show(rules);
    }
    let mut table = output::table(&[&COLUMNS[..], &["VERSION", "LAST MODIFIED", "USAGE", "DESCRIPTION"]].concat());
    for rule in rules {
        let Usage { counters, calls, waiting, .. } = usage(rule);
        let usage = if counters == 0 {
            output::NOTHING.to_owned()
        } else {
            format!("{calls} held, {waiting} waiting, {counters} counters")
        };
        let mut row = columns(rule).to_vec();
        row.extend([rule.version.to_string(), rule.last_modified.clone(), usage, rule.body.description.clone()]);
        table.add_row(row);
    }
    output::print(&table)
}

fn columns(rule: &RuleView) -> [String; COLUMNS.len()] {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| output::NOTHING.to_owned());
    let RuleBody { pattern, limits, shadow_limits, total, disabled, .. } = &rule.body;
    [
        pattern.0.to_string(),
        limits.concurrency.map_or_else(|| "unlimited".to_owned(), |limit| limit.0.to_string()),
        or_nothing(Some(words::rates(limits)).filter(|rates| !rates.is_empty())),
        or_nothing(limits.max_wait.map(|wait| wait.to_string())),
        or_nothing(limits.max_waiters.map(|waiters| waiters.to_string())),
        or_nothing(limits.max_pushback.map(|pushback| pushback.to_string())),
        or_nothing(shadow_limits.as_ref().map(words::bare)),
        or_nothing(total.then(|| "total".to_owned())),
        if *disabled { "disabled" } else { "enabled" }.to_owned(),
    ]
}
