//! `weir simulate`: what would happen under these rules and this load, without a server and in no time.

mod chart;
mod fields;
mod load;
mod progress;
mod report;
mod run;
mod table;
mod tally;
mod trace;
mod waits;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use weir_limiter::{RuleBook, format_duration};

use self::fields::nanos;
use self::load::{LoadError, Poisson, Source, Spec};
use self::progress::Progress;
use self::report::Report;
use self::run::{Finished, Run, RunError};
use self::tally::Places;
use self::trace::Trace;
use crate::config;
use crate::error::Failure;
use crate::{output, signals};

/// Show what would happen: the rules of a configuration, a load, and a clock that jumps
#[derive(Debug, Args)]
#[command(after_help = "\
The limiter is the server's; only time and load are made up. Nothing listens, no component is loaded.

SPEC is KEY=RATE/s[,hold=200ms][,cost=N][,priority=P][,fairness=K:W][,max-wait=30s]: arrivals at random times, so many
a second on the mean (3/1m works too), each holding what it got for a random time of that mean (hold=fixed:200ms:
exactly so long; default 100ms). KEY is scope[/l1[/l2]]; K:W is a fairness key and its weight. Each source has random
numbers of its own: adding one leaves the others as they were.

FILE has one arrival on each line, in order of time, as CSV with a header or as JSON objects:
  at,key,hold,cost,priority,fairness,weight,max-wait        {\"at\": 0.5, \"key\": \"llm/gpt\", \"hold\": \"200ms\"}
  0.5,llm/gpt,200ms,1200,,gold,3,30s
at, key and hold are needed, the others may be left out. Times are seconds (0.5) or durations (1m30s).

Each key counts what came under it and under the keys below it; each pool, which is what a rule with `total` makes, has a
row below the keys (`pools` in JSON), and counts what came under the keys that take from it. SHADOW LIMITS tells how many
grants they would have refused, those of all rules together (`shadow` in JSON). Waits are of those who were granted. IN USE is the mean
over all the time, RATES USED is of the most that could have started, JAIN is 1 where all fairness keys were served the
same cost per weight. What waits at the end is WAITING: arrivals = granted + refused + waiting.

Examples:
  weir simulate --poisson 'tenant/acme=50/s,hold=200ms' --poisson 'tenant/globex=5/s' --seconds 3600
  weir simulate -c weir.toml --trace monday.csv --seconds 86400 --svg monday.svg
  weir simulate --poisson 'llm=9/s,hold=100ms' --seconds 600 --seed 7 --json | jq '.keys[].wait'")]
pub(crate) struct SimulateArgs {
    /// The configuration, for its rules [default: ./weir.toml]
    #[arg(short, long, env = "WEIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    load: LoadArgs,

    /// How long, in the time of the simulation; up to 366 days
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Duration,

    /// What the random numbers come from: the same seed gives the same output [default: a random one, which is told]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Draw waits and usage over time into a file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Who arrives: a file says it, or chance.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct LoadArgs {
    /// Arrivals from a file
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Arrivals at random, as many times as there are sources
    #[arg(long, value_name = "SPEC", num_args = 1..)]
    poisson: Vec<Spec>,
}

/// Why a length is not one.
#[derive(Debug, thiserror::Error)]
enum SecondsError {
    #[error("it is not a number of seconds from 0 on")]
    Number,
    #[error("it is out of bounds: more than 0, at most 31622400 (366 days)")]
    Bounds,
}

fn seconds(text: &str) -> Result<Duration, SecondsError> {
    let seconds: f64 = text.parse().map_err(|_| SecondsError::Number)?;
    let length = Duration::try_from_secs_f64(seconds).map_err(|_| SecondsError::Bounds)?;
    if length.is_zero() || length > fields::MAX_TIME { Err(SecondsError::Bounds) } else { Ok(length) }
}

pub(crate) fn run(args: &SimulateArgs) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    signals::on_first(move || stopped.store(true, Ordering::Relaxed))?;
    let book = book(args.config.as_deref())?;
    let mut places = Places::default();
    let (sources, seed) = sources(args, &mut places)?;
    let length = nanos(args.seconds);
    let run = Run::new(&book, sources, places, length, args.svg.is_some()).map_err(unloaded)?;
    let finished = run.finish(&mut Progress::new(), &stop);
    let Finished { places, tallies, goes_on, would_refuse } = finished.map_err(|error| match error {
        RunError::Load(error) => unloaded(error),
        RunError::Interrupted { .. } => Failure::failed(error).hint("a smaller --seconds ends sooner"),
    })?;
    if let Some(at) = goes_on {
        let (length, at) = (format_duration(args.seconds), format_duration(Duration::from_nanos(at)));
        output::talk(&format!("note: the trace goes on after the {length} that are simulated, at {at}"));
    }
    let (tallies, lines) = tallies.finish(&places);
    let report = Report::new(args.seconds, seed, &book, &places, &tallies, would_refuse);
    if args.json {
        output::json(&report)?;
    } else {
        output::data(&table::text(&report))?;
    }
    match (&args.svg, lines) {
        (Some(file), Some(lines)) => draw(file, &report, &lines),
        _ => Ok(()),
    }
}

/// The rules to simulate.
fn book(file: Option<&Path>) -> Result<Arc<RuleBook>, Failure> {
    let file = match file {
        Some(file) => file,
        None if Path::new(config::DEFAULT_FILE).exists() => Path::new(config::DEFAULT_FILE),
        None => {
            return Err(Failure::usage(anyhow::anyhow!("no rules: there is no {} here", config::DEFAULT_FILE))
                .hint("name a configuration: weir simulate -c FILE"));
        }
    };
    let rules = config::rules(file)?;
    if rules.is_empty() {
        output::talk(&format!("{} has no [[rule]]: nothing is limited", file.display()));
    }
    let book = RuleBook::default().apply(&rules, 0);
    let book = book.map_err(|error| Failure::usage(anyhow::anyhow!("the rules do not go together: {error}")))?;
    Ok(Arc::new(book))
}

/// The load, and the seed that it is drawn from.
fn sources(args: &SimulateArgs, places: &mut Places) -> Result<(Vec<Source>, Option<u64>), Failure> {
    if let Some(file) = &args.load.trace {
        let trace = Trace::open(file).map_err(|error| unloaded(error.into()))?;
        return Ok((vec![Source::Trace(Box::new(trace))], None));
    }
    // A short one is easier to type again.
    let seed = args.seed.unwrap_or_else(|| fastrand::u32(..).into());
    output::talk(&format!("seed {seed}"));
    let sources = Poisson::all(&args.load.poisson, seed, places).map_err(|error| unloaded(error.into()))?;
    Ok((sources, Some(seed)))
}

fn unloaded(error: LoadError) -> Failure {
    let of_a_line = matches!(&error, LoadError::Trace(trace::TraceError::Line { .. }));
    let failure = Failure::usage(error);
    if of_a_line {
        failure.hint("write a header at,key,hold and lines like 0.5,llm/gpt,200ms; weir simulate --help has more")
    } else {
        failure
    }
}

fn draw(file: &Path, report: &Report, lines: &chart::Lines) -> Result<(), Failure> {
    let drawn = chart::svg(report, lines).map_err(|error| anyhow::anyhow!("cannot draw the chart: {error}"));
    let written = drawn.and_then(|svg| {
        fs::write(file, svg).map_err(|error| anyhow::anyhow!("{}: cannot write the chart: {error}", file.display()))
    });
    written.map_err(Failure::failed)
}
