//! What survives the process: a directory with two SQLite files, and the threads that write them.
//!
//! # Group commit
//! Steps leave [`Record`]s behind, under their shard's lock and in their order; they are handed to one writer, which takes
//! whatever has come meanwhile and commits it as one transaction, again and again. So a commit is shared by all who wait
//! for one, and nobody waits for more than the one that runs and the next. A commit is one row of a journal. Who needs to know
//! that something would survive waits for a [`Saving`].
//!
//! # Folding
//! The tables, in which each lease and each history has its row, follow every 65,536 records: another thread folds these into
//! them, in one transaction that also says how far the journal is folded, and only then are its rows deleted. A restart
//! folds the rest. So the tables are some row of the journal behind, and both together never are.
//!
//! # When it cannot be written
//! The disk is full, or gone: whoever waits for a commit is refused as `unavailable`, and what they were granted is given
//! back. New timed leases are refused before they take anything. What has ended goes on ending, and is written down once
//! that works again: the writer tries twice a second. More than [`MAX_PENDING`] records are not kept back: from then on
//! nothing new is granted at all, and nothing is settled. What has been granted can still end, and there is a bound to that.
//!
//! # What is said of time
//! The last instant that was seen is written with every commit, and the clock goes on from there if the machine's was set
//! back meanwhile. Fencing numbers are reserved [`RESERVE`] ahead of the clock, or of what was reserved before if that is later, from
//! the start on.
//!
//! # Before anything is written
//! Both files are looked at, their logs too, and what they hold is read. Whatever is wrong with them is said of the file that is
//! wrong, and the directory is then as it was, byte for byte.
//!
//! The files: `weir.db` with the tables and `journal.db`, and beside each what SQLite needs while it is open. They belong
//! together, by a number that both have. One process at a time has them.

mod database;
mod entries;
mod file;
mod fold;
mod folder;
mod forms;
mod journal;
mod load;
#[cfg(test)]
mod tests;
mod unanswered;
mod wal;

pub use file::StoreError;
pub(crate) use load::{Saved, SavedLease};

use crate::callers::Callers;
use crate::clock::Clock;
use database::Database;
use event_listener::{Event, EventListener, Listener as _};
use folder::Folder;
use forms::Problem;
use journal::Journal;
use parking_lot::{Condvar, Mutex};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;
use unanswered::Unanswered;
use weir_limiter::{Pattern, Record, Rule, RuleBook, RuleSpec};

/// The most records that wait to be written: some hundred bytes each.
pub const MAX_PENDING: usize = 1_000_000;
/// How far ahead fencing numbers are reserved.
const RESERVE: Duration = Duration::from_secs(30);
/// How often that is done where nothing else is written.
const IDLE: Duration = Duration::from_secs(10);
/// From the begin of one commit to that of the next, where entries keep coming: each takes more of them along, and a lone one waits for
/// none. A commit costs some fifty microseconds whatever it holds.
const PACE: Duration = Duration::from_micros(300);
/// After so many entries the journal is folded: that takes its thread some tens of milliseconds.
const FOLD: usize = 65_536;
/// Where folding fails, or takes too long, so many entries are kept before writing fails, or waits for it.
const MAX_UNFOLDED: usize = 16 * FOLD;
/// How long the writer waits before it tries again.
const AGAIN: Duration = Duration::from_millis(500);

/// What a grant that was answered survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The end of the process: what is written is with the operating system.
    #[default]
    Process,
    /// The end of power: every commit waits for the disk.
    Power,
}

/// Where an engine keeps what survives.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The directory; it is made if it is not there.
    pub directory: PathBuf,
    /// What a grant survives.
    pub durability: Durability,
}

/// It could not be written down, and nobody may rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data directory cannot be written")]
pub struct Unsaved;

/// Something to be written.
#[derive(Debug)]
pub(crate) enum Entry {
    Record(Record),
    /// A lease that was granted under an idempotency key has gone before its answer: it is no answer of that key.
    Unanswered(u128),
    /// A new version of the rule book, by what has changed.
    Book {
        version: u64,
        put: Vec<Rule>,
        deleted: Vec<Pattern>,
    },
    /// The rules that the configuration names, all of them.
    FileRules(Vec<(Pattern, RuleSpec)>),
}

impl Entry {
    /// What changes from one rule book to the next.
    pub(crate) fn book(current: &RuleBook, next: &RuleBook) -> Self {
        let changed: Vec<Pattern> = next.diff(current).into_iter().map(|difference| difference.pattern).collect();
        let put = changed.iter().filter_map(|pattern| next.get(pattern).cloned()).collect();
        let deleted = changed.into_iter().filter(|pattern| next.get(pattern).is_none()).collect();
        Self::Book { version: next.version(), put, deleted }
    }
}

/// The open files of a directory.
#[derive(Debug)]
pub(crate) struct Files {
    tables: Database,
    journal: Journal,
    /// The journal could not be written so far.
    failed: bool,
}

/// See the module. Dropping it writes what is left, and waits for that.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    more: Condvar,
    /// How many entries are written.
    written: AtomicU64,
    failing: AtomicBool,
    clogged: AtomicBool,
    /// Told of the commit of each other batch, and of every failure: who waits for the next one is not woken by the one that runs.
    news: [Event; 2],
}

#[derive(Debug, Default)]
struct Pending {
    entries: Vec<Entry>,
    /// How many entries there ever were.
    pushed: u64,
    /// How many batches were taken to be written.
    taken: u64,
    unanswered: Unanswered,
    stopped: bool,
}

impl Store {
    /// Opens a directory and reads what has survived.
    pub(crate) fn open(
        config: &StoreConfig,
        callers: &Callers,
        shards: u16,
        clock: &Clock,
    ) -> Result<(Files, Saved), StoreError> {
        let directory = &config.directory;
        std::fs::create_dir_all(directory)
            .map_err(|error| StoreError::Open { path: directory.clone(), reason: error.to_string() })?;
        // Nothing is written before both have been looked at.
        let (tables, journal) = (Database::find(directory)?, Journal::find(directory, config.durability)?);
        let seed = tables.as_ref().map(Database::seed).transpose()?.flatten();
        let journals = journal.as_ref().map(Journal::seed).transpose()?.flatten();
        let corrupt = |path, reason: &str| StoreError::Corrupt { path, reason: reason.to_owned() };
        let (mut tables, mut journal) = match (tables, journal) {
            (Some(tables), Some(journal)) => (tables, journal),
            (None, None) => (Database::make(directory)?, Journal::make(directory, config.durability)?),
            // A first start may have ended between the two.
            (Some(tables), None) if seed.is_none() => (tables, Journal::make(directory, config.durability)?),
            (Some(_), None) => {
                return Err(corrupt(journal::path_in(directory), "it is not there, and weir.db goes on in it"));
            }
            (None, Some(_)) => {
                return Err(corrupt(database::path_in(directory), "it is not there, and journal.db goes on from it"));
            }
        };
        match (seed, journals) {
            (Some(one), Some(other)) if one == other => {}
            (None, Some(seed)) if journal.is_unused()? => tables.begin(shards, seed)?,
            (None, None) => {
                let seed = new_seed().map_err(|error| journal.corrupt(&error.to_string()))?;
                journal.begin(seed)?;
                tables.begin(shards, seed)?;
            }
            (Some(_), Some(_)) => return Err(journal.corrupt("it does not belong to the weir.db beside it")),
            (Some(_), None) => {
                return Err(journal.corrupt("it holds nothing, and weir.db goes on in it: is its -wal missing?"));
            }
            (None, Some(_)) => {
                return Err(tables.corrupt("it holds nothing, and journal.db goes on from it: is its -wal missing?"));
            }
        }
        let saved = tables.load(&mut journal, callers, clock.now())?;
        tables.used()?;
        journal.used()?;
        let reserved = journal.reserve(callers, clock.now().max(saved.time));
        if let Err(error) = &reserved {
            say_failing(&journal, error);
        }
        Ok((Files { tables, journal, failed: reserved.is_err() }, saved))
    }

    /// Starts to write.
    pub(crate) fn start(files: Files, callers: Arc<Callers>, clock: Clock) -> Result<Self, StoreError> {
        let Files { tables, journal, failed } = files;
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            more: Condvar::new(),
            written: AtomicU64::new(0),
            failing: AtomicBool::new(failed),
            clogged: AtomicBool::new(false),
            news: [Event::new(), Event::new()],
        });
        let path = journal.path().to_owned();
        let refuse = |source| StoreError::Thread { path: path.clone(), source };
        let folder = Folder::start(tables, &journal, Arc::clone(&callers), clock.clone()).map_err(refuse)?;
        let writer = Writer { shared: Arc::clone(&shared), journal, folder, unfolded: Vec::new(), callers, clock };
        let thread = std::thread::Builder::new().name("weir-store".into()).spawn(move || writer.run());
        Ok(Self { shared, thread: Mutex::new(Some(thread.map_err(refuse)?)) })
    }

    /// Hands entries over to be written, in order, and says how many there ever were, with these.
    pub(crate) fn push(&self, entries: impl IntoIterator<Item = Entry>) -> u64 {
        self.push_to(&mut self.shared.pending.lock(), entries)
    }

    fn push_to(&self, pending: &mut Pending, entries: impl IntoIterator<Item = Entry>) -> u64 {
        let before = pending.entries.len();
        for entry in entries {
            pending.entries.extend(pending.unanswered.see(&entry));
            pending.entries.push(entry);
        }
        let after = pending.entries.len();
        pending.pushed += (after - before) as u64;
        if after > MAX_PENDING {
            self.shared.clogged.store(true, Ordering::Relaxed);
        }
        if before == 0 && after > 0 {
            self.shared.more.notify_one();
        }
        pending.pushed
    }

    /// Whether so many entries are written.
    pub(crate) fn has_written(&self, mark: u64) -> bool {
        self.shared.written.load(Ordering::SeqCst) >= mark
    }

    /// Leases are asked for under an idempotency key.
    pub(crate) fn expect_answer(&self, secrets: &[u128]) {
        self.shared.pending.lock().unanswered.expect(secrets);
    }

    /// They are answered.
    pub(crate) fn answered(&self, secrets: &[u128]) {
        self.shared.pending.lock().unanswered.answered(secrets);
    }

    /// Whether one of them is granted, and only being written.
    pub(crate) fn is_granted(&self, secrets: &[u128]) -> bool {
        self.shared.pending.lock().unanswered.is_granted(secrets)
    }

    /// Whoever asked is gone, or is refused, and none of them is granted from here on.
    pub(crate) fn gave_up(&self, secrets: &[u128]) {
        let mut pending = self.shared.pending.lock();
        let entries = pending.unanswered.given_up(secrets);
        self.push_to(&mut pending, entries);
    }

    /// Whether nothing new may be granted that would have to be written first.
    pub(crate) fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Whether nothing new may be granted at all.
    pub(crate) fn is_clogged(&self) -> bool {
        self.shared.clogged.load(Ordering::Relaxed)
    }

    /// Writes what is left, and waits for that. What is handed over from then on goes nowhere.
    pub(crate) fn stop(&self) {
        self.shared.pending.lock().stopped = true;
        self.shared.more.notify_one();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A writer that panicked has said so.
            let _ended = thread.join();
        }
    }

    /// What was handed over last.
    fn mark(&self) -> Mark {
        let pending = self.shared.pending.lock();
        Mark { entry: pending.pushed, batch: pending.taken + u64::from(!pending.entries.is_empty()) }
    }

    /// Waits on the calling thread until everything that was handed over before is written.
    pub(crate) fn wait_saved(&self) -> Result<(), Unsaved> {
        let mark = self.mark();
        loop {
            let listener = self.shared.news_of(mark.batch).listen();
            if let Some(outcome) = self.shared.outcome(mark) {
                return outcome;
            }
            listener.wait();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The future of [`crate::Engine::saved`].
///
/// # Cancel safety
/// Dropping it costs nothing.
#[derive(Debug)]
#[must_use = "nothing is known to be saved before it has ended"]
pub struct Saving {
    /// None: there is nothing to wait for.
    shared: Option<Arc<Shared>>,
    mark: Mark,
    listener: Option<EventListener>,
}

impl Saving {
    pub(crate) fn new(store: Option<&Arc<Store>>) -> Self {
        let mark = store.map(|store| store.mark()).unwrap_or_default();
        Self { shared: store.map(|store| Arc::clone(&store.shared)), mark, listener: None }
    }
}

impl Future for Saving {
    type Output = Result<(), Unsaved>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(shared) = &this.shared else { return Poll::Ready(Ok(())) };
        loop {
            if let Some(outcome) = shared.outcome(this.mark) {
                return Poll::Ready(outcome);
            }
            // Listening comes before the second look, so no news falls between the two.
            match &mut this.listener {
                None => this.listener = Some(shared.news_of(this.mark.batch).listen()),
                Some(listener) => {
                    std::task::ready!(Pin::new(listener).poll(context));
                    this.listener = None;
                }
            }
        }
    }
}

/// Something that was handed over.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    /// How many entries there were, with it.
    entry: u64,
    /// The batch that it is in, from 1 on.
    batch: u64,
}

impl Shared {
    fn news_of(&self, batch: u64) -> &Event {
        &self.news[usize::from(batch % 2 == 1)]
    }

    fn outcome(&self, mark: Mark) -> Option<Result<(), Unsaved>> {
        if self.written.load(Ordering::SeqCst) >= mark.entry {
            Some(Ok(()))
        } else if self.failing.load(Ordering::SeqCst) {
            Some(Err(Unsaved))
        } else {
            None
        }
    }
}

/// The thread that writes the journal.
struct Writer {
    shared: Arc<Shared>,
    journal: Journal,
    folder: Folder,
    /// What the journal holds and nobody has been asked to fold yet, in order.
    unfolded: Vec<Entry>,
    callers: Arc<Callers>,
    clock: Clock,
}

impl Writer {
    fn run(mut self) {
        let mut batch = Batch::default();
        let mut failed = self.shared.failing.load(Ordering::SeqCst);
        let mut last = 0;
        loop {
            let stopped = self.collect(&mut batch, failed, last);
            last = self.clock.now();
            match self.write(&mut batch.entries) {
                Ok(()) => {
                    self.shared.written.store(batch.last, Ordering::SeqCst);
                    self.shared.clogged.store(false, Ordering::SeqCst);
                    if std::mem::take(&mut failed) {
                        tracing::info!(file = %self.journal.path().display(), "the data directory is written again");
                        self.shared.failing.store(false, Ordering::SeqCst);
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        say_failing(&self.journal, &error);
                        self.shared.failing.store(true, Ordering::SeqCst);
                    }
                }
            }
            for number in batch.number..=batch.number + u64::from(failed) {
                self.shared.news_of(number).notify(usize::MAX);
            }
            if stopped && (failed || self.shared.pending.lock().entries.is_empty()) {
                // What is not folded now is folded at the next start.
                if self.folder.is_free() {
                    self.folder.offer(&mut self.unfolded, self.journal.last());
                }
                self.folder.stop();
                return;
            }
        }
    }

    /// Writes a batch, all of it or nothing; what is written is taken out of it.
    fn write(&mut self, batch: &mut Vec<Entry>) -> Result<(), Problem> {
        if self.unfolded.len() >= MAX_UNFOLDED {
            if !self.folder.is_free() {
                return Err("what was written before cannot be folded".into());
            }
            self.folder.offer(&mut self.unfolded, self.journal.last());
        }
        self.journal.write(batch, &self.callers, self.clock.now(), self.folder.folded())?;
        let idle = batch.is_empty();
        self.unfolded.append(batch);
        if self.unfolded.len() >= FOLD || idle {
            self.folder.offer(&mut self.unfolded, self.journal.last());
        }
        Ok(())
    }

    /// Waits for something to write, and takes it unless the last batch is still to be written; says whether there will be
    /// no more.
    fn collect(&self, batch: &mut Batch, failed: bool, last: u64) -> bool {
        let mut pending = self.shared.pending.lock();
        let (idle, wait) = if failed { (true, AGAIN) } else { (pending.entries.is_empty(), IDLE) };
        if idle && !pending.stopped {
            self.shared.more.wait_for(&mut pending, wait);
        }
        let since = Duration::from_nanos(self.clock.now().saturating_sub(last));
        if let Some(early) = PACE.checked_sub(since).filter(|_| !pending.stopped) {
            parking_lot::MutexGuard::unlocked(&mut pending, || std::thread::sleep(early));
        }
        if batch.entries.is_empty() {
            std::mem::swap(&mut batch.entries, &mut pending.entries);
            pending.taken += 1;
            (batch.last, batch.number) = (pending.pushed, pending.taken);
        }
        pending.stopped
    }
}

/// What is written at once.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Entry>,
    /// How many entries there ever were, with these.
    last: u64,
    /// Which batch it is.
    number: u64,
}

fn say_failing(journal: &Journal, error: &impl std::fmt::Display) {
    let file = journal.path().display();
    tracing::error!(%file, %error, "the data directory cannot be written: what must survive is refused");
}

/// A number that tells one directory from others.
fn new_seed() -> Result<u64, getrandom::Error> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)?;
    Ok(u64::from_ne_bytes(seed))
}
