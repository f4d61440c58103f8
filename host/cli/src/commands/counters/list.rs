//! `weir counters [PREFIX]`: what is held, and who waits.

use clap::Args;
use weir_http::api::{CounterView, CountersView};

use crate::client::{AdminArgs, Client};
use crate::error::Failure;
use crate::output;

/// Which counters
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only counters whose name begins with this
    prefix: Option<String>,

    /// The most to show
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &ListArgs) -> Result<(), Failure> {
    let view = Client::new(&args.admin)?.counters(args.prefix.as_deref(), usize::from(args.limit))?;
    if args.admin.json {
        return output::json(&view);
    }
    if view.counters.is_empty() {
        output::talk(&match args.prefix.as_deref() {
            None | Some("") => "no counters: nothing is held, nothing waits".to_owned(),
            Some(prefix) => format!("no counter's name begins with `{prefix}`"),
        });
        return Ok(());
    }
    show(&view)?;
    if view.more {
        output::talk(&format!("there are more than {}: give a PREFIX, or a higher --limit", args.limit));
    }
    Ok(())
}

fn show(view: &CountersView) -> Result<(), Failure> {
    let mut table = output::table(&[
        "COUNTER", "RULE", "HELD", "RATES", "WAITING", "GRANTED", "REFUSED", "FAILED", "WAIT P50", "WAIT P99",
        "SHADOW", "STATE",
    ]);
    for counter in &view.counters {
        table.add_row([
            counter.counter.clone(),
            rule(counter),
            held(counter),
            rates(counter),
            counter.waiting.to_string(),
            counter.granted.to_string(),
            counter.refused.to_string(),
            counter.failed.to_string(),
            counter.wait_p50.to_string(),
            counter.wait_p99.to_string(),
            counter.shadow.as_ref().map_or_else(
                || output::NOTHING.to_owned(),
                |shadow| format!("{} would be refused", shadow.would_refuse),
            ),
            state(counter),
        ]);
    }
    output::print(&table)
}

fn rule(counter: &CounterView) -> String {
    match (&counter.pattern, &counter.pinned) {
        (_, Some(_)) => "(pinned)".to_owned(),
        (Some(pattern), None) => pattern.0.to_string(),
        (None, None) => output::NOTHING.to_owned(),
    }
}

/// What an operator or a pushback does to it: `paused`, `drained`, `pushed back for 3s`; else `open`.
pub(crate) fn state(counter: &CounterView) -> String {
    let mut state = Vec::new();
    if counter.paused {
        state.push("paused".to_owned());
    }
    if counter.draining {
        state.push(if counter.drained { "drained" } else { "draining" }.to_owned());
    }
    if let Some(left) = counter.pushed_back_for {
        state.push(format!("pushed back for {left}"));
    }
    if state.is_empty() { "open".to_owned() } else { state.join(", ") }
}

/// `3/5`, or `3` where nothing limits it.
pub(crate) fn held(counter: &CounterView) -> String {
    match counter.concurrency {
        Some(limit) if limit.0.counts == weir_engine::Counts::Cost => format!("{}/{}", counter.cost, limit.0),
        Some(limit) => format!("{}/{}", counter.calls, limit.0),
        None => counter.calls.to_string(),
    }
}

pub(crate) fn rates(counter: &CounterView) -> String {
    if counter.rates.is_empty() {
        return output::NOTHING.to_owned();
    }
    counter.rates.iter().map(|rate| format!("{} of {}", rate.used, rate.rate.0)).collect::<Vec<_>>().join(", ")
}
