//! What all handles of an engine share, and a step over several shards at once.

use crate::callers::Callers;
use crate::cell::{Cell, NEVER, tell_later};
use crate::clock::Clock;
use crate::keys::Keys;
use crate::lease::LeaseError;
use crate::store::{Entry, Store};
use crate::sync::{Mutex, MutexGuard};
use crate::timer::Timer;
use event_listener::Event;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use weir_limiter::{Effect, Input, Output, Pattern, Placement, RuleBook, RuleSpec, Shard, ShardSet};

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) cells: Box<[Arc<Cell>]>,
    pub(crate) timer: Arc<Timer>,
    pub(crate) placement: Placement,
    pub(crate) clock: Clock,
    /// The book in force. Its lock serialises writers, and is taken around the shards' locks.
    pub(crate) book: Mutex<Arc<RuleBook>>,
    /// Told of every new book.
    pub(crate) changed: Event,
    pub(crate) keys: Arc<Keys>,
    pub(crate) callers: Arc<Callers>,
    /// Where what must survive is written; none: nothing must.
    pub(crate) store: Option<Arc<Store>>,
    /// The rules that the configuration named last, as far as that has survived.
    pub(crate) file_rules: Mutex<HashMap<Pattern, RuleSpec>>,
}

impl Core {
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether more may be recorded by those who hold leases.
    pub(crate) fn can_record(&self) -> Result<(), LeaseError> {
        match &self.store {
            Some(store) if store.is_clogged() => Err(LeaseError::Unavailable),
            _ => Ok(()),
        }
    }

    /// One step over several shards: locks in ascending order, so that no two steps wait for each other.
    pub(crate) fn step_many(self: &Arc<Self>, shards: &[u16], input: Input<'_>, then: impl FnOnce(&Output)) -> Output {
        let (output, sooner, effects) = self.step_locked(shards, input, then);
        self.after(sooner, effects);
        output
    }

    /// The same, with further shards as long as the step asks for them.
    pub(crate) fn step_where_needed(self: &Arc<Self>, mut shards: SmallVec<[u16; 4]>, input: &Input<'_>) -> Output {
        loop {
            match self.step_many(&shards, input.clone(), |_| {}) {
                Output::Elsewhere(needed) => shards = needed,
                output => return output,
            }
        }
    }

    /// A step over several shards, leaving the effects and the news of an earlier timer to the caller.
    pub(crate) fn step_locked(
        &self,
        shards: &[u16],
        input: Input<'_>,
        then: impl FnOnce(&Output),
    ) -> (Output, Option<u64>, Vec<Effect>) {
        debug_assert!(shards.is_sorted_by(|a, b| a < b));
        let mut effects: Vec<Effect> = Vec::new();
        let mut sooner = NEVER;
        let output = {
            let mut guards: SmallVec<[MutexGuard<'_, Shard>; 4]> =
                shards.iter().map(|index| self.cells[usize::from(*index)].lock()).collect();
            let mut locked: SmallVec<[&mut Shard; 4]> = guards.iter_mut().map(|guard| &mut **guard).collect();
            let mut output = ShardSet::new(&mut locked).step(self.clock.now(), input, &mut effects);
            drop(locked);
            let mut later = false;
            for (index, guard) in shards.iter().zip(&mut guards) {
                later |= self.cells[usize::from(*index)].hand_over(guard);
            }
            if later {
                tell_later(&mut output, &mut effects);
            }
            then(&output);
            for (index, guard) in shards.iter().zip(&guards) {
                let cell = &self.cells[usize::from(*index)];
                if cell.note_due(guard) {
                    sooner = sooner.min(cell.due());
                }
            }
            output
        };
        (output, (sooner != NEVER).then_some(sooner), effects)
    }

    /// Takes what is due in every shard.
    pub(crate) fn tick(self: &Arc<Self>) {
        let now = self.clock.now();
        for cell in &self.cells {
            if cell.due() <= now {
                cell.step(Input::Tick);
            }
        }
        self.keys.sweep(now);
    }

    /// Every shard, for what concerns all of them.
    pub(crate) fn all_shards(&self) -> SmallVec<[u16; 4]> {
        (0..self.placement.shards()).collect()
    }

    /// The earliest timer of all shards.
    pub(crate) fn next_due(&self) -> u64 {
        self.cells.iter().map(|cell| cell.due()).min().unwrap_or(NEVER).min(self.keys.next_due())
    }
}

impl Drop for Core {
    /// With a data directory it waits until all is written.
    fn drop(&mut self) {
        self.timer.stop();
        if let Some(store) = &self.store {
            for cell in &self.cells {
                let mut shard = cell.lock();
                shard.close_blocks();
                store.push(shard.take_records().into_iter().map(Entry::Record));
            }
            store.stop();
        }
    }
}
