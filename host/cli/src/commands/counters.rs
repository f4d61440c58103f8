//! `weir counters`: what is held and who waits, and what an operator can do about it.

mod drain;
mod list;
mod operate;

use clap::{Args, Subcommand};
use weir_engine::{CounterName, NameError};
use weir_http::api::VerbName;

pub(crate) use list::{held, rates, state};

use crate::error::Failure;

/// Show the live counters of a running server, or hold, pin, reset and drain one
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
COUNTER is `scope[/l1[/l2]]`, the pattern of a pool such as 'tenant/*', or an inline key `scope#key`.
Waits are those of who had to wait, to a quarter: they are counted in classes, whose upper ends are shown.

Examples:
  weir counters                                the first hundred
  weir counters model/                         those below the scope `model`
  weir counters --json | jq '.counters[] | select(.waiting > 0)'
  weir counters pause model/gpt                hold admissions; those who wait stay
  weir counters pin model/gpt --concurrency 1  these numbers instead of the rule's, until unpin
  weir counters drain model/gpt --wait         let nobody new in, and wait until it is empty
  weir counters resume model/gpt               end a pause, a drain or a pushback")]
pub(crate) struct CountersArgs {
    #[command(subcommand)]
    verb: Option<Verb>,

    #[command(flatten)]
    list: list::ListArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Hold admissions; those who wait stay
    Pause(operate::OperateArgs),
    /// End a pause, a drain and a pushback
    Resume(operate::OperateArgs),
    /// Put other numbers in the place of the rule's, or of those that callers bring
    Pin(operate::PinArgs),
    /// Take pinned numbers back
    Unpin(operate::OperateArgs),
    /// Forget what was started; what is held stays
    Reset(operate::OperateArgs),
    /// Let nobody new in; those who hold and wait are served
    Drain(drain::DrainArgs),
}

pub(crate) fn run(args: &CountersArgs) -> Result<(), Failure> {
    match &args.verb {
        None => list::run(&args.list),
        Some(Verb::Pause(args)) => operate::run(args, VerbName::Pause),
        Some(Verb::Resume(args)) => operate::run(args, VerbName::Resume),
        Some(Verb::Pin(args)) => operate::pin(args),
        Some(Verb::Unpin(args)) => operate::run(args, VerbName::Unpin),
        Some(Verb::Reset(args)) => operate::run(args, VerbName::Reset),
        Some(Verb::Drain(args)) => drain::run(args),
    }
}

fn counter(text: &str) -> Result<CounterName, NameError> {
    text.parse()
}
