//! The thread that sleeps until the earliest timer.
//!
//! Where somebody waits, timers that are due within [`GRAIN`] of each other are taken together: ten thousand leases that end in one second
//! cost four thousand wake-ups at most, and none is taken later than that. Where nobody waits they are taken sixty times a second. What is
//! late in wall time is not late in the engine's: a step takes what has come due first, in the order of its instants, whoever comes first.

use crate::cell::NEVER;
use crate::core::Core;
use crate::sleep::Sleep;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};

/// How late a timer may be taken, in nanoseconds, so that others can be taken with it.
const GRAIN: u64 = 250_000;

/// How the engine talks to its timer thread.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Sleep,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    woken: bool,
    stopped: bool,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self { sleep: Sleep::new(), state: Mutex::default(), changed: Condvar::new() }
    }

    /// A shard has an earlier timer than before.
    pub(crate) fn sooner(&self, due: u64) {
        if self.sleep.is_past(due.saturating_add(GRAIN)) {
            self.state.lock().woken = true;
            self.changed.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Starts the thread. It holds the engine only while it works, and ends when the engine is gone.
    pub(crate) fn start(timer: &Arc<Self>, core: Weak<Core>) -> std::io::Result<()> {
        let timer = Arc::clone(timer);
        std::thread::Builder::new().name("weir-timer".into()).spawn(move || timer.run(&core)).map(|_| ())
    }

    fn run(&self, core: &Weak<Core>) {
        loop {
            let wake_at = {
                let Some(core) = core.upgrade() else { return };
                self.sleep.end();
                core.tick();
                let due = core.next_due();
                let until = due.max(core.clock().now().saturating_add(GRAIN));
                self.sleep.begin(until);
                // Whoever has set an earlier one before that is seen here; whoever does so after it wakes us.
                if core.next_due().saturating_add(GRAIN) < until {
                    continue;
                }
                if due == NEVER { None } else { core.clock().instant_of(until) }
            };
            let mut state = self.state.lock();
            while !state.woken && !state.stopped {
                let timed_out = match wake_at {
                    Some(at) => self.changed.wait_until(&mut state, at).timed_out(),
                    None => {
                        self.changed.wait(&mut state);
                        false
                    }
                };
                if timed_out {
                    break;
                }
            }
            state.woken = false;
            if state.stopped {
                return;
            }
        }
    }
}
