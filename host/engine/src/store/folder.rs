//! The thread that folds: it takes what the journal has gathered, and commits wait for none of it.
//!
//! The journal is on the disk before the tables are: a power cut must not leave one that is older than they are.

use super::Entry;
use super::database::Database;
use super::file::{log_of, sync};
use super::forms::Problem;
use super::journal::Journal;
use crate::callers::Callers;
use crate::clock::Clock;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long it waits before it tries again.
const AGAIN: Duration = Duration::from_millis(500);

/// A handle on the thread.
#[derive(Debug)]
pub(super) struct Folder {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
    /// The last row of the journal that is in the tables.
    folded: AtomicI64,
}

#[derive(Debug, Default)]
struct State {
    /// Entries, and the last row they are from.
    work: Option<(Vec<Entry>, i64)>,
    /// It has nothing to do.
    free: bool,
    /// It could not do it.
    failed: bool,
    stopped: bool,
}

impl Folder {
    /// Starts the thread; `journal` is what it folds, and its last row is in the tables so far.
    pub(super) fn start(
        database: Database,
        journal: &Journal,
        callers: Arc<Callers>,
        clock: Clock,
    ) -> io::Result<Self> {
        let (folded, log) = (journal.last(), log_of(journal.path()));
        let state = Mutex::new(State { free: true, ..State::default() });
        let shared = Arc::new(Shared { state, news: Condvar::new(), folded: AtomicI64::new(folded) });
        let its = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("weir-fold".into())
            .spawn(move || its.run(database, &log, &callers, &clock))?;
        Ok(Self { shared, thread })
    }

    /// The last row of the journal that is in the tables.
    pub(super) fn folded(&self) -> i64 {
        self.shared.folded.load(Ordering::SeqCst)
    }

    /// Hands over entries up to row `last`, unless it is at work.
    pub(super) fn offer(&self, entries: &mut Vec<Entry>, last: i64) {
        let mut state = self.shared.state.lock();
        if state.free {
            state.free = false;
            state.work = Some((std::mem::take(entries), last));
            self.shared.news.notify_all();
        }
    }

    /// Waits until it has nothing to do. False: it cannot do what it has.
    pub(super) fn is_free(&self) -> bool {
        let mut state = self.shared.state.lock();
        while !state.free && !state.failed {
            self.shared.news.wait(&mut state);
        }
        state.free
    }

    /// Ends the thread, once it has done what it has or failed at it.
    pub(super) fn stop(self) {
        self.shared.state.lock().stopped = true;
        self.shared.news.notify_all();
        // A thread that panicked has said so.
        let _ended = self.thread.join();
    }
}

impl Shared {
    fn run(&self, mut database: Database, log: &Path, callers: &Callers, clock: &Clock) {
        while let Some((entries, last)) = self.take() {
            let mut fold = || -> Result<(), Problem> {
                sync(log)?;
                Ok(database.fold(&entries, last, callers, clock.now())?)
            };
            let done = fold();
            let mut state = self.state.lock();
            match done {
                Ok(()) => {
                    self.folded.store(last, Ordering::SeqCst);
                    (state.free, state.failed) = (true, false);
                }
                Err(error) => {
                    if !std::mem::replace(&mut state.failed, true) {
                        tracing::error!(file = %database.path().display(), %error, "the journal cannot be folded");
                    }
                    state.work = Some((entries, last));
                }
            }
            self.news.notify_all();
        }
    }

    /// What is next to do. None: nothing more, it has stopped.
    fn take(&self) -> Option<(Vec<Entry>, i64)> {
        let mut state = self.state.lock();
        loop {
            // What is not folded now is folded at the next start.
            if state.stopped && (state.failed || state.work.is_none()) {
                return None;
            }
            if state.failed {
                self.news.wait_for(&mut state, AGAIN);
            }
            match state.work.take() {
                Some(work) => return Some(work),
                None => self.news.wait(&mut state),
            }
        }
    }
}
