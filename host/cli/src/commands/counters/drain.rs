//! `weir counters drain COUNTER`: lets nobody new in, and waits for the end if told to.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use weir_engine::CounterName;
use weir_http::api::{CounterView, VerbBody, VerbName};

use super::operate;
use crate::client::{AdminArgs, Client};
use crate::error::Failure;
use crate::output;

/// How often to look how far it has come.
const INTERVAL: Duration = Duration::from_millis(200);

/// Let nobody new in; those who hold and wait are served
#[derive(Debug, Args)]
#[command(after_help = "\
A drained counter stays closed until it is resumed. A drain that times out goes on.

Examples:
  weir counters drain model/gpt
  weir counters drain model/gpt --wait --timeout 5m && deploy
  weir counters resume model/gpt")]
pub(super) struct DrainArgs {
    /// scope[/l1[/l2]], the pattern of a pool, or scope#key
    #[arg(value_parser = super::counter)]
    counter: CounterName,

    /// Wait until nothing is held and nobody waits
    #[arg(long)]
    wait: bool,

    /// How long to wait at most, such as 5m
    #[arg(long, value_name = "DURATION", value_parser = weir_engine::parse_duration, requires = "wait")]
    timeout: Option<Duration>,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &DrainArgs) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let began = Instant::now();
    let verb = VerbName::Drain;
    let mut counter = client.operate(&args.counter, &VerbBody { verb, limits: None })?;
    if args.wait {
        counter = wait(args, &client, counter, began)?;
    }
    operate::say(args.admin.json, verb, &counter)
}

fn wait(args: &DrainArgs, client: &Client, mut counter: CounterView, began: Instant) -> Result<CounterView, Failure> {
    let name = args.counter.as_str();
    let mut shown = String::new();
    loop {
        if counter.drained {
            return Ok(counter);
        }
        if !counter.draining {
            return Err(Failure::failed(anyhow::anyhow!("somebody else has resumed {name}: it is open again")));
        }
        let usage = operate::usage(&counter);
        if usage != shown {
            output::talk(&format!("{name}: {usage}"));
            shown.clone_from(&usage);
        }
        if let Some(timeout) = args.timeout.filter(|timeout| began.elapsed() >= *timeout) {
            let timeout = weir_http::api::DurationText(timeout);
            return Err(Failure::failed(anyhow::anyhow!("{name} is not drained after {timeout}: {usage}"))
                .hint(format!("the drain goes on; `weir counters resume {name}` ends it")));
        }
        let left = args.timeout.map_or(INTERVAL, |timeout| timeout.saturating_sub(began.elapsed()));
        thread::sleep(INTERVAL.min(left));
        counter = client.counter(&args.counter)?.ok_or_else(|| {
            Failure::failed(anyhow::anyhow!("{name} is gone: it was resumed, or the server was started anew"))
        })?;
    }
}
