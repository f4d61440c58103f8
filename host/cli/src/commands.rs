//! The commands, one file for each.

mod compose;
mod counters;
mod demo;
mod explain;
mod lease;
mod rules;
mod run;
mod serve;
mod simulate;
mod token;

use clap::{Parser, Subcommand};

use crate::error::Failure;
use crate::log::LogArgs;

/// Flow control for WebAssembly: what is too much waits its turn
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  weir demo                                  see it work: nothing else is needed
  weir serve hello.wasm                      serve one component on 127.0.0.1:8080
  weir compose hello.wasm -o limited.wasm    put flow control in front of it
  weir rules set 'model/*' --rate 3/1m       three calls a minute for each limit key of the scope `model`
  weir counters                              what is held, and who waits
  weir explain model/gpt                     why a request would wait, and how long
  weir run --scope deploy --wait 10m -- make deploy
                                             a command that waits its turn
  weir token create payments --scope payments
                                             who may take leases from elsewhere
  weir simulate --poisson 'model/gpt=9/s' --seconds 3600
                                             what would happen under the rules of ./weir.toml

Exit codes: 0 done, 1 failed, 2 wrong usage (arguments, patterns, rates, configuration), 3 there are differences
(rules apply --dry-run --exit-code), 4 not now; `weir run` passes on that of its command")]
pub(crate) struct Weir {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve components under flow control
    Serve(serve::ServeArgs),
    /// Show it at work: a component, rules, load and a live table
    Demo(demo::DemoArgs),
    /// Put flow control in front of a component, without a change to it
    Compose(compose::ComposeArgs),
    /// Write the client and the middleware as files, for hosts that compose themselves, as Spin does
    Parts(compose::PartsArgs),
    /// Show and change the rules of a running server
    Rules(rules::RulesArgs),
    /// Show the live counters of a running server; pause, pin, reset or drain one
    Counters(counters::CountersArgs),
    /// Say why a request would be granted or not, and when
    Explain(explain::ExplainArgs),
    /// Run a command under a lease
    Run(run::RunArgs),
    /// Take, extend, settle and give back leases, from scripts
    Lease(lease::LeaseArgs),
    /// Make, list, rotate and revoke the tokens of a server
    Token(token::TokenArgs),
    /// Show what would happen under the rules of a configuration
    Simulate(simulate::SimulateArgs),
}

impl Weir {
    /// Does what was asked.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Serve(args) => serve::run(args, &self.log),
            Command::Demo(args) => demo::run(&args, &self.log),
            Command::Compose(args) => compose::run(&args),
            Command::Parts(args) => compose::run_parts(&args),
            Command::Rules(args) => rules::run(&args),
            Command::Counters(args) => counters::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Run(args) => run::run(&args),
            Command::Lease(args) => lease::run(&args),
            Command::Token(args) => token::run(&args),
            Command::Simulate(args) => simulate::run(&args),
        }
    }
}
