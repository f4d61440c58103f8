//! An explanation as a page.
//!
//! ```text
//! model/gpt, cost 1, priority 128: not now (limited)
//! turn       about 4s 12ms; 2 wait before it
//! book       version 7
//!
//! model
//!   rule       none binds: unlimited
//!   used       2 held, 0 waiting
//!
//! model/gpt
//!   binds      model/gpt: concurrency 2, rates 30/1m
//!   outranked  model/*: concurrency 5 (model/gpt is more exact)
//!   used       2/2 held, 9 of 30/1m, 2 waiting
//!   in the way concurrency 2/2: a lease ends in about 4s; or raise rule `model/gpt` above 2 (2 held)
//!   fits       rate 30/1m, 9 used
//! ```
//!
//! Under several keys each counter begins with those of them that it counts for: `counts for model/gpt, model/claude`.

use std::fmt::Write as _;

use weir_engine::{Pattern, Request, ScopedKey};
use weir_http::api::{ExplainedConstraint, ExplainedView, ExplanationView, StandingView};

use crate::commands::counters;
use crate::commands::rules::words;
use crate::output;

pub(super) fn page(request: &Request, explanation: &ExplanationView) -> String {
    let mut page = format!("{}: {}\n", asked(request), verdict(explanation));
    row(&mut page, "", "turn", &turn(explanation));
    row(&mut page, "", "book", &format!("version {}", explanation.book_version));
    for counter in &explanation.counters {
        section(&mut page, counter, &request.targets);
    }
    page.truncate(page.trim_end().len());
    page
}

fn row(page: &mut String, indent: &str, label: &str, text: &str) {
    // Writing to a string never fails.
    let _ = writeln!(page, "{indent}{label:<10} {text}");
}

/// `model/gpt and tenant/7, batch of 10 (2 at least), cost 1, priority 128`.
fn asked(request: &Request) -> String {
    let targets = request.targets.iter().map(ScopedKey::as_str);
    let keys: Vec<&str> = targets.chain(request.inline.iter().map(|inline| inline.name.as_str())).collect();
    let batch = match (request.count.get(), request.least.get()) {
        (1, _) => String::new(),
        (count, least) if least == count => format!(", batch of {count}"),
        (count, least) => format!(", batch of {count} ({least} at least)"),
    };
    format!("{}{batch}, cost {}, priority {}", keys.join(" and "), request.cost, request.priority)
}

fn reason(explanation: &ExplanationView) -> Option<&str> {
    explanation.refusal.as_ref().map(|refusal| refusal.reason.as_deref().unwrap_or("refused"))
}

fn verdict(explanation: &ExplanationView) -> String {
    match reason(explanation) {
        None => "would be granted now".to_owned(),
        Some("too-large") => "never (too-large): it asks for more than a limit ever allows".to_owned(),
        Some(reason) => format!("not now ({reason})"),
    }
}

fn turn(explanation: &ExplanationView) -> String {
    let turn = match (&explanation.forecast, reason(explanation)) {
        (_, None) => return "now".to_owned(),
        (_, Some("too-large")) => return "never".to_owned(),
        (Some(forecast), _) if forecast.estimated => format!("about {}", forecast.admitted_in),
        (Some(forecast), _) => format!("{}, if nothing else arrives", forecast.admitted_in),
        (None, _) => "not within its wait, or too far ahead to say".to_owned(),
    };
    match explanation.position {
        None => turn,
        Some(0) => format!("{turn}; nobody waits before it"),
        Some(1) => format!("{turn}; 1 waits before it"),
        Some(before) => format!("{turn}; {before} wait before it"),
    }
}

/// Those of the keys that a counter counts for; an inline key counts for none.
fn counts_for(counter: &str, keys: &[ScopedKey]) -> String {
    // The name of a counter that is no pool is a pattern of that one.
    let Ok(pattern) = counter.parse::<Pattern>() else { return String::new() };
    let counted = keys.iter().filter(|key| (1..=key.depth()).any(|depth| pattern.matches_counter(key.prefix(depth))));
    counted.map(ScopedKey::as_str).collect::<Vec<_>>().join(", ")
}

fn section(page: &mut String, explained: &ExplainedView, keys: &[ScopedKey]) {
    let counter = &explained.counter;
    let kind = match counter.kind.as_str() {
        "pool" => " (pool: all that match)",
        "inline" => " (inline: under the limits that it brings)",
        _ => "",
    };
    let _ = writeln!(page, "\n{}{kind}", counter.counter);
    let mut row = |label: &str, text: &str| self::row(page, "  ", label, text);
    let counts_for = counts_for(&counter.counter, keys);
    if keys.len() > 1 && !counts_for.is_empty() {
        row("counts for", &counts_for);
    }
    if let Some(pinned) = &counter.pinned {
        row("pinned", &format!("{}, in the place of any rule's", words::bare(pinned)));
    }
    let winner =
        explained.rules.iter().find(|rule| rule.standing == "binds").map(|rule| rule.rule.body.pattern.0.as_str());
    for standing in &explained.rules {
        row(&standing.standing, &standing_words(standing, winner, counter.pinned.is_some()));
    }
    if winner.is_none() && counter.pinned.is_none() && counter.kind == "named" {
        row("rule", "none binds: unlimited");
    }
    let state = counters::state(counter);
    if state != "open" {
        row("state", &state);
    }
    row("used", &used(explained));
    if let Some(shadow) = &counter.shadow {
        // Of how many nobody knows: the counter has granted before there were shadow limits, too.
        row("shadow", &format!("{} would have refused {}", shadow.pattern.0, shadow.would_refuse));
    }
    for constraint in &explained.constraints {
        row(if constraint.in_the_way { "in the way" } else { "fits" }, &constraint_words(constraint));
    }
}

fn standing_words(standing: &StandingView, winner: Option<&str>, pinned: bool) -> String {
    let body = &standing.rule.body;
    let why = match (standing.standing.as_str(), winner) {
        ("binds", _) if pinned => " (but numbers are pinned)".to_owned(),
        ("outranked", Some(winner)) => format!(" ({winner} is more exact)"),
        ("disabled", _) => " (`weir rules enable` lets it bind)".to_owned(),
        ("shadow", _) => " (counts, and refuses nothing)".to_owned(),
        ("binds-pool", _) => " (all that match together, besides)".to_owned(),
        _ => String::new(),
    };
    format!("{}: {}{why}", body.pattern.0, words::rule(body))
}

fn used(explained: &ExplainedView) -> String {
    let counter = &explained.counter;
    let rates = counters::rates(counter);
    let rates = if rates == output::NOTHING { String::new() } else { format!(", {rates}") };
    format!("{} held{rates}, {} waiting", counters::held(counter), counter.waiting)
}

fn constraint_words(explained: &ExplainedConstraint) -> String {
    let constraint = &explained.constraint;
    let (used, limit) = (constraint.used, constraint.limit);
    let what = match (constraint.kind.as_str(), &constraint.rate) {
        ("rate", Some(rate)) => format!("rate {rate}, {used} used"),
        // The remedy says how many there are.
        ("waitlist" | "closed" | "paused" | "draining" | "pushed-back", _) => constraint.kind.clone(),
        (kind, _) => format!("{kind} {used}/{limit}"),
    };
    match &explained.remedy {
        Some(remedy) => format!("{what}: {remedy}"),
        None => what,
    }
}
