//! `weir counters pause|resume|pin|unpin|reset COUNTER`.

use std::time::Duration;

use clap::{ArgGroup, Args};
use weir_engine::{Concurrency, CounterName, Limits, Rate};
use weir_http::api::{CounterView, LimitsBody, VerbBody, VerbName};

use super::list;
use crate::client::{AdminArgs, Client};
use crate::commands::rules::words;
use crate::error::Failure;
use crate::output;

/// Which counter
#[derive(Debug, Args)]
#[command(after_help = "\
Doing it twice is doing it once. What was done to a counter stays with it while it is idle, and
ends with the server unless that has a data directory.

Examples:
  weir counters pause tenant-a        the scope `tenant-a`
  weir counters resume 'tenant/*'     the pool of a rule with `total`
  weir counters reset model/gpt       its rates begin anew
  weir counters unpin llm#batch       the inline key `batch` under `llm`")]
pub(super) struct OperateArgs {
    /// scope[/l1[/l2]], the pattern of a pool, or scope#key
    #[arg(value_parser = super::counter)]
    counter: CounterName,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Put other numbers in the place of the rule's
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("number").required(true).multiple(true)))]
#[command(after_help = "\
They hold instead of all numbers of the rule, or of those that callers bring: what is not named here is not limited. A
second pin replaces the first.

Examples:
  weir counters pin model/gpt --concurrency 1
  weir counters pin llm#batch --concurrency 2 --rate 30/1m
  weir counters unpin model/gpt")]
pub(super) struct PinArgs {
    /// scope[/l1[/l2]], the pattern of a pool, or scope#key
    #[arg(value_parser = super::counter)]
    counter: CounterName,

    /// How much may be held at once: N, or N:cost; 0 closes
    #[arg(long, value_name = "N", group = "number")]
    concurrency: Option<Concurrency>,

    /// How much may start in a period; repeat it for up to 4
    #[arg(long = "rate", value_name = "RATE", group = "number")]
    rates: Vec<Rate>,

    /// How many may wait
    #[arg(long, value_name = "N", group = "number")]
    max_waiters: Option<u32>,

    /// How long one may wait, such as 30s; 0s: not at all
    #[arg(long, value_name = "DURATION", value_parser = weir_engine::parse_duration, group = "number")]
    max_wait: Option<Duration>,

    /// How long a pushback may close it
    #[arg(long, value_name = "DURATION", value_parser = weir_engine::parse_duration, group = "number")]
    max_pushback: Option<Duration>,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &OperateArgs, verb: VerbName) -> Result<(), Failure> {
    let counter = Client::new(&args.admin)?.operate(&args.counter, &VerbBody { verb, limits: None })?;
    say(args.admin.json, verb, &counter)
}

pub(super) fn pin(args: &PinArgs) -> Result<(), Failure> {
    let limits = Limits {
        concurrency: args.concurrency,
        rates: args.rates.clone(),
        max_waiters: args.max_waiters,
        max_wait: args.max_wait,
        max_pushback: args.max_pushback,
    };
    limits.validate().map_err(Failure::usage)?;
    let verb = VerbName::Pin;
    let body = VerbBody { verb, limits: Some(LimitsBody::from(&limits)) };
    let counter = Client::new(&args.admin)?.operate(&args.counter, &body)?;
    say(args.admin.json, verb, &counter)
}

/// Says what was done, and how the counter is now.
pub(super) fn say(json: bool, verb: VerbName, counter: &CounterView) -> Result<(), Failure> {
    if json {
        return output::json(counter);
    }
    if counter.granted == 0 && counter.refused == 0 && counter.waiting == 0 {
        output::talk(&format!("no request has come to {} lately", counter.counter));
    }
    let done = match verb {
        VerbName::Pause => "paused",
        VerbName::Resume => "resumed",
        VerbName::Pin => "pinned",
        VerbName::Unpin => "unpinned",
        VerbName::Reset => "reset",
        VerbName::Drain if counter.drained => "drained",
        VerbName::Drain => "draining",
    };
    let numbers = match &counter.pinned {
        Some(limits) => format!(", pinned to {}", words::bare(limits)),
        None => String::new(),
    };
    output::data(&format!("{done} {}: {}{numbers}", counter.counter, usage(counter)))
}

/// `1/2 held, 3 waiting`.
pub(super) fn usage(counter: &CounterView) -> String {
    format!("{} held, {} waiting", list::held(counter), counter.waiting)
}
