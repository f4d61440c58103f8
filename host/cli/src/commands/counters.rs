//! `weir counters [PREFIX]`: what is held, and who waits.

use clap::Args;
use weir_http::api::{CounterView, CountersView};

use crate::client::{AdminArgs, Client};
use crate::error::Failure;
use crate::output;

/// Show the live counters of a running server
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir counters                  the first hundred
  weir counters model/           those below the scope `model`
  weir counters --json | jq '.counters[] | select(.waiting > 0)'")]
pub(crate) struct CountersArgs {
    /// Only counters whose name begins with this
    prefix: Option<String>,

    /// The most to show
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) fn run(args: &CountersArgs) -> Result<(), Failure> {
    let view = Client::new(&args.admin)?.counters(args.prefix.as_deref(), usize::from(args.limit))?;
    if args.admin.json {
        return output::json(&view);
    }
    if view.counters.is_empty() {
        output::talk("no counters: nothing is held, nothing waits");
        return Ok(());
    }
    show(&view)?;
    if view.more {
        output::talk(&format!("there are more than {}: give a PREFIX, or a higher --limit", args.limit));
    }
    Ok(())
}

fn show(view: &CountersView) -> Result<(), Failure> {
    let mut table =
        output::table(&["COUNTER", "RULE", "HELD", "RATES", "WAITING", "GRANTED", "REFUSED", "WAIT P50", "WAIT P99"]);
    for counter in &view.counters {
        table.add_row([
            counter.counter.clone(),
            counter.pattern.as_ref().map_or_else(|| output::NOTHING.to_owned(), |pattern| pattern.0.to_string()),
            held(counter),
            rates(counter),
            counter.waiting.to_string(),
            counter.granted.to_string(),
            counter.refused.to_string(),
            counter.wait_p50.to_string(),
            counter.wait_p99.to_string(),
        ]);
    }
    output::print(&table)
}

/// `3/5`, or `3` where nothing limits it.
fn held(counter: &CounterView) -> String {
    match counter.concurrency {
        Some(limit) if limit.0.counts == weir_engine::Counts::Cost => format!("{}/{}", counter.cost, limit.0),
        Some(limit) => format!("{}/{}", counter.calls, limit.0),
        None => counter.calls.to_string(),
    }
}

fn rates(counter: &CounterView) -> String {
    if counter.rates.is_empty() {
        return output::NOTHING.to_owned();
    }
    counter.rates.iter().map(|rate| format!("{} of {}", rate.used, rate.rate.0)).collect::<Vec<_>>().join(", ")
}
