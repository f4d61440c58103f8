//! `weir-sim`: the shipped engine on a virtual clock, beside a naive limiter, for as many seeds as there is time for.
//!
//! Every failure prints its seed; `weir-sim --seed N` does exactly the same again, and with `--log` says what was done.
//! Built with the feature `planted`, it must find the bug that `WEIR_PLANTED` names; see `docs/proof.md`.

mod acts;
mod checks;
mod classes;
mod client;
mod naive;
mod plan;
mod world;

use anyhow::{Result, bail};
use clap::Parser;
use classes::Visits;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use world::World;

/// Drives the engine on a virtual clock beside a naive limiter
#[derive(Debug, Parser)]
struct Args {
    /// Replays one seed
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds, from --first on
    #[arg(long, default_value_t = 1_000, conflicts_with = "seed")]
    seeds: u64,
    /// The first seed; without it, the clock chooses
    #[arg(long, conflicts_with = "seed")]
    first: Option<u64>,
    /// Operations a seed
    #[arg(long, default_value_t = 2_000)]
    operations: u64,
    /// Says what was done, on a failure and with --seed
    #[arg(long)]
    log: bool,
    /// Fails when a class of states was never visited, or too few requests met a full counter
    #[arg(long)]
    require_classes: bool,
    /// Threads; 0: as many as there are processors
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        let (visits, outcome) = one(seed, args.operations, args.log);
        writeln!(std::io::stdout(), "{visits}")?;
        return outcome;
    }
    let chosen = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    let first = args.first.unwrap_or(chosen);
    let last = first.saturating_add(args.seeds);
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let sum = Mutex::new((Visits::default(), None::<(u64, anyhow::Error)>));
    let threads = if args.threads > 0 {
        args.threads
    } else {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    };
    writeln!(std::io::stderr(), "seeds {first} to {last}, {} operations each, on {threads} threads", args.operations)?;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::SeqCst) {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= last {
                        break;
                    }
                    let (visits, outcome) = one(seed, args.operations, false);
                    let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    sum.0.add(&visits);
                    if let Err(error) = outcome {
                        failed.store(true, Ordering::SeqCst);
                        sum.1.get_or_insert((seed, error));
                    }
                }
            });
        }
    });
    let (visits, failure) = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut out = std::io::stdout();
    write!(out, "{visits}")?;
    writeln!(out, "sim_operations {}", visits.operations)?;
    let share = |part: u64| part * 100 / visits.acquires.max(1);
    writeln!(out, "sim_met_full_percent {}", share(visits.hit_full))?;
    writeln!(out, "sim_touched_several_percent {}", share(visits.touched_several))?;
    if let Some((seed, error)) = failure {
        if args.log {
            let _ = one(seed, args.operations, true);
        }
        writeln!(std::io::stderr(), "replay it with: weir-sim --seed {seed} --operations {} --log", args.operations)?;
        bail!("seed {seed}: {error:#}");
    }
    writeln!(out, "sim_seeds {}", args.seeds)?;
    if args.require_classes {
        let missing = visits.missing();
        if !missing.is_empty() {
            bail!("never visited: {}", missing.join("; "));
        }
        if share(visits.hit_full) < 30 || share(visits.touched_several) < 10 {
            bail!("too few requests met a full counter, or touched several scopes");
        }
    }
    Ok(())
}

fn one(seed: u64, operations: u64, log: bool) -> (Visits, Result<()>) {
    let mut world = World::new(seed, log);
    // A panic of the engine is a failure with a seed like any other.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run(operations)));
    let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("the engine panicked")));
    if let (Some(log), true) = (&world.log, log) {
        for line in log {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
    (world.visits.clone(), outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A moment's worth, for `cargo test`; CI runs forty million operations.
    #[test]
    fn a_few_seeds_hold() {
        for seed in 1..=60 {
            one(seed, 400, false).1.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        }
    }
}
