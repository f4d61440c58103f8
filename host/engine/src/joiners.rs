//! Those who wait with another under an idempotency key, and are woken when their own wait is over.

use crate::cell::NEVER;
use crate::keys::Keys;
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

/// Who is to be woken, by when; of several at one instant, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Joiners {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    wakers: BTreeMap<(u64, u64), Waker>,
    came: u64,
}

impl Joiners {
    /// The earliest instant at which somebody is to be woken.
    pub(crate) fn next_due(&self) -> u64 {
        self.table.lock().wakers.first_key_value().map_or(NEVER, |((at, _), _)| *at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.lock().wakers.is_empty()
    }

    /// Wakes those whose time has come.
    pub(crate) fn wake(&self, now: u64) {
        let due = {
            let mut table = self.table.lock();
            let later = table.wakers.split_off(&(now.saturating_add(1), 0));
            std::mem::replace(&mut table.wakers, later)
        };
        due.into_values().for_each(Waker::wake);
    }
}

/// When one of them is to be woken; dropped, it is not.
#[derive(Debug)]
pub(crate) struct Alarm {
    keys: Arc<Keys>,
    place: Option<(u64, u64)>,
}

impl Alarm {
    pub(crate) fn new(keys: Arc<Keys>) -> Self {
        Self { keys, place: None }
    }

    /// It goes off at `at`, once.
    pub(crate) fn set(&mut self, at: u64, waker: &Waker) {
        let mut table = self.keys.joiners.table.lock();
        if let Some(place) = self.place {
            table.wakers.remove(&place);
        }
        table.came += 1;
        let place = (at, table.came);
        table.wakers.insert(place, waker.clone());
        self.place = Some(place);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.keys.joiners.table.lock().wakers.remove(&place);
        }
    }
}
