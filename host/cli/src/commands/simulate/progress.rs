//! How far a long run is, for whoever sits before a terminal.

use std::io::{self, IsTerminal, Write};

/// Shorter runs are over before anybody could read it.
const LONG: u64 = 4_000_000;

/// A line on standard error that is written over and over.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What it says now; none where nobody looks.
    shown: Option<u64>,
    dirty: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { shown: io::stderr().is_terminal().then_some(0), dirty: false }
    }

    /// So many events have happened, in so many percent of the time.
    pub(crate) fn at(&mut self, events: u64, percent: u64) {
        if events > LONG && self.shown.is_some_and(|shown| shown != percent) {
            self.shown = Some(percent);
            self.dirty = true;
            self.write(&format!("\r{percent} %"));
        }
    }

    fn write(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // Where standard error is closed there is nobody to tell.
        let _nobody = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

impl Drop for Progress {
    /// Leaves the line as it found it.
    fn drop(&mut self) {
        if self.dirty {
            self.write("\r     \r");
        }
    }
}
