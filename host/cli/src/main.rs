//! `weir`: flow control for WebAssembly, on the command line.
//!
//! The binary alone owns the terminal, the environment and the exit code: 0 done, 1 failed, 2 said wrongly, 3 differs. Standard
//! output is data, standard error is talk; a reader that has had enough is no error.

mod arguments;
mod client;
mod commands;
mod config;
mod error;
mod launch;
mod log;
mod output;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    match arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
