//! `weir lease`: leases in scripts, through the lease API of a running server.

mod acquire;
mod change;
mod check;
mod flow_control;
mod wanted;

use clap::{Args, Subcommand};

pub(crate) use wanted::{BatchArgs, TakeArgs, WantedArgs, key};

use crate::error::Failure;

/// Take, extend, settle and give back leases, from scripts
#[derive(Debug, Args)]
#[command(after_help = "\
A lease ends by itself after its lease time (30s), unless it is extended: a script that dies holds nothing back for long.

Examples:
  id=$(weir lease acquire payments --max-wait 1m)   wait for a turn
  weir lease extend $id --lease-time 5m             it takes longer
  weir lease settle $id 1250                        what it has really cost
  weir lease release $id                            or: --failed, --pushed-back=20s
  weir lease check model/gpt --cost 4000            would it be granted now?

`weir run` does all of this around one command.

Exit codes: 0 done, 1 failed or lost, 2 wrong usage, 4 not now (refused, but may be granted later)")]
pub(crate) struct LeaseArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Wait for a turn and take a lease; prints its id
    Acquire(acquire::AcquireArgs),
    /// Whether a lease would be granted now; takes nothing
    Check(check::CheckArgs),
    /// Move the end of a lease
    Extend(change::ExtendArgs),
    /// Say what the work has really cost
    Settle(change::SettleArgs),
    /// Give a lease back
    Release(change::ReleaseArgs),
}

pub(crate) fn run(args: &LeaseArgs) -> Result<(), Failure> {
    match &args.what {
        What::Acquire(args) => acquire::run(args),
        What::Check(args) => check::run(args),
        What::Extend(args) => change::extend(args),
        What::Settle(args) => change::settle(args),
        What::Release(args) => change::release(args),
    }
}
