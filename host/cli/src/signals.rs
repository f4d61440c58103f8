//! Ctrl-C and SIGTERM: the first one ends the server in peace, the second one at once.

use std::thread;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Failure;

/// The exit code of a program that was ended by SIGINT, as shells count.
const INTERRUPTED: i32 = 130;

/// Calls `stop` at the first signal, and leaves at the second.
pub(crate) fn on_first(stop: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    // Signals are caught from here on, not only once the thread runs.
    let (mut interrupts, mut terminations) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = async move {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        stop();
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        leave();
    };
    // Ends with the process: nothing waits for it.
    thread::Builder::new().name("weir-signals".to_owned()).spawn(move || runtime.block_on(wait))?;
    Ok(())
}

#[expect(clippy::exit, reason = "the second signal asks for exactly this")]
fn leave() -> ! {
    std::process::exit(INTERRUPTED)
}
