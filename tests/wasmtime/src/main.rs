//! wasmtime's own `wasmtime serve`: the host that knows nothing of Weir, for what is to run, or to be measured, on both.
//!
//! `cargo install wasmtime-cli` makes the same command. This one is of the version in our lock file and compiled along with
//! the workspace, which has nearly all of it: there is nothing to install, and no other version that could be meant.
//!
//! ```sh
//! wasmtime serve -Scli --addr 127.0.0.1:0 --env NAME=VALUE component.wasm
//! ```
//!
//! What is built together with it gets wasmtime with garbage collection and a debugger, which the command cannot do without;
//! `weir_wasm::Runtime` leaves them off.
//!
//! Not here: the other commands, and some of what wasmtime's own build has (threads, profiling, a cache of what it compiled).

use clap::Parser;
use wasmtime::Result;
use wasmtime_cli::commands::ServeCommand;

#[derive(Parser)]
#[command(name = "wasmtime")]
enum Wasmtime {
    /// Serves the HTTP requests that a component handles.
    Serve(ServeCommand),
}

fn main() -> Result<()> {
    let Wasmtime::Serve(serve) = Wasmtime::parse();
    serve.execute()
}
