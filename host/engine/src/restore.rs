//! Beginning with what has survived, and with what the configuration says.

use crate::acquire::TimedLease;
use crate::engine::Engine;
use crate::keys::KEPT;
use crate::lease::remaining;
use crate::store::{Entry, Saved, SavedLease};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use weir_limiter::planted::{self, Bug};
use weir_limiter::{
    Caller, Change, Ended, Input, LeaseId, Pattern, Precondition, Restored, RuleBook, RuleError, RuleSpec,
};

impl Engine {
    /// Puts back what has survived. Nothing else has been asked of this engine yet.
    pub(crate) fn restore(&self, saved: Saved) {
        self.put_back(Input::SetBook { book: self.set_restored_book(saved.book) });
        self.put_back(Input::Restore { what: &Restored::Sequence(saved.fence) });
        for (counter, hand) in &saved.hands {
            self.put_back(Input::Restore { what: &Restored::Hand { counter, hand } });
        }
        for history in &saved.histories {
            let what = Restored::Starts {
                counter: &history.counter,
                kind: history.kind,
                starts: &history.starts,
                smooth: history.smooth,
                booked: history.booked,
            };
            self.put_back(Input::Restore { what: &what });
        }
        for SavedLease { lease, .. } in saved.leases.iter().filter(|saved| saved.ended.is_none()) {
            self.put_back(Input::Restore { what: &Restored::Lease { lease } });
        }
        self.restore_keys(&saved.leases);
        self.set_file_rules(saved.file_rules);
    }

    fn restore_keys(&self, leases: &[SavedLease]) {
        let now = self.now();
        let mut by_key: BTreeMap<(Caller, Arc<str>), Vec<&SavedLease>> = BTreeMap::new();
        for saved in leases {
            if let Some(key) = &saved.lease.request.idempotency_key {
                by_key.entry((saved.lease.request.caller, Arc::clone(key))).or_default().push(saved);
            }
        }
        let book_version = self.book().version();
        for (name, mut saved) in by_key.into_iter().filter(|_| !planted::is(Bug::KeyForgotten)) {
            last_grant(&mut saved);
            let lease = |saved: &&SavedLease| TimedLease {
                id: LeaseId { shard: saved.lease.shard, secret: saved.lease.secret },
                fence: saved.lease.fence,
                remaining: remaining(now, saved.ended.map_or(saved.lease.ends_at, |_| 0)),
                waited: Duration::ZERO,
                book_version,
            };
            let end = |saved: &&SavedLease| saved.ended.map_or(saved.lease.ends_at, |(_, at)| at);
            let how: Option<Ended> = saved.iter().rev().find_map(|saved| saved.ended).map(|(how, _)| how);
            let until = saved.iter().map(end).max().unwrap_or(now).saturating_add(crate::clock::nanos(KEPT));
            let request = &saved[0].lease.request;
            self.keys().restore(name, request, saved.iter().map(lease).collect(), how, until);
        }
        self.sooner(self.keys().next_due());
    }

    /// Puts the rules of a configuration in force.
    ///
    /// With a data directory, what was changed while it ran wins over what the configuration has said before: a rule that
    /// it names as it did the last time is left as it is now, a rule that is new or other there is put in force, and one
    /// that it no longer names is deleted unless it was changed meanwhile.
    ///
    /// # Errors
    /// As [`Self::apply`]; then nothing is changed.
    pub fn configure(&self, rules: Vec<(Pattern, RuleSpec)>) -> Result<Arc<RuleBook>, RuleError> {
        let before = self.file_rules();
        let book = self.book();
        let changed = rules.iter().filter(|(pattern, spec)| before.get(pattern) != Some(spec));
        let mut changes: Vec<Change> = changed
            .map(|(pattern, spec)| Change::Put {
                pattern: pattern.clone(),
                spec: spec.clone(),
                when: Precondition::None,
            })
            .collect();
        let named: HashMap<&Pattern, &RuleSpec> = rules.iter().map(|(pattern, spec)| (pattern, spec)).collect();
        for (pattern, spec) in before.iter().filter(|(pattern, _)| !named.contains_key(pattern)) {
            if book.get(pattern).is_some_and(|rule| rule.spec == *spec) {
                changes.push(Change::Delete { pattern: pattern.clone(), when: Precondition::None });
            }
        }
        let book = self.apply(&changes)?;
        self.push(Entry::FileRules(rules.clone()));
        self.set_file_rules(rules.into_iter().collect());
        Ok(book)
    }

    /// A step of restoring.
    fn put_back(&self, input: Input<'_>) {
        self.core.step_many(&self.core.all_shards(), input, |_| {});
    }

    fn set_restored_book(&self, book: RuleBook) -> Arc<RuleBook> {
        let book = Arc::new(book);
        *self.core.book.lock() = Arc::clone(&book);
        book
    }

    fn file_rules(&self) -> HashMap<Pattern, RuleSpec> {
        self.core.file_rules.lock().clone()
    }

    fn set_file_rules(&self, rules: HashMap<Pattern, RuleSpec>) {
        *self.core.file_rules.lock() = rules;
    }

    /// Writes something down, where that is done.
    fn push(&self, entry: Entry) {
        if let Some(store) = &self.core.store {
            store.push([entry]);
        }
    }
}

/// Of all leases that were granted under a key, leaves those of its last grant: one, or as many as the batch has got.
///
/// An earlier one had gone, or its callers had before it was answered and the process ended just then.
fn last_grant(leases: &mut Vec<&SavedLease>) {
    leases.sort_by_key(|saved| (saved.lease.granted_at, saved.lease.fence));
    let Some(last) = leases.last().map(|saved| &saved.lease) else { return };
    leases.retain(|SavedLease { lease, .. }| {
        // A grant's leases have one instant, one shard, and numbers that follow each other.
        let behind = last.fence.checked_sub(lease.fence);
        (lease.granted_at, lease.shard) == (last.granted_at, last.shard)
            && behind.is_some_and(|behind| behind < u64::from(last.request.count.get()))
            && lease.request == last.request
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use weir_limiter::{GrantedLease, Request};

    #[test]
    fn of_several_grants_under_one_key_the_last_counts_with_its_whole_batch() {
        let number = |number| NonZeroU32::new(number).unwrap();
        let one = Request::new("s".parse().unwrap()).idempotency_key("k").unwrap();
        let dear = one.clone().cost(number(2));
        let batch = one.clone().batch(number(3), number(1)).unwrap();
        let saved = |(request, granted_at, fence): (&Request, u64, u64)| SavedLease {
            lease: GrantedLease {
                secret: u128::from(fence),
                shard: 0,
                fence,
                request: request.clone(),
                settled: None,
                granted_at,
                ends_at: 99,
            },
            ended: None,
        };
        let last = |rows: &[(&Request, u64, u64)]| -> Vec<u64> {
            let saved: Vec<SavedLease> = rows.iter().copied().map(saved).collect();
            let mut found: Vec<&SavedLease> = saved.iter().collect();
            last_grant(&mut found);
            found.iter().map(|saved| saved.lease.fence).collect()
        };
        assert_eq!(last(&[(&one, 5, 5)]), [5]);
        assert_eq!(last(&[(&one, 5, 5), (&one, 6, 6)]), [6], "the same request again");
        assert_eq!(last(&[(&one, 5, 5), (&one, 5, 6)]), [6], "within one instant");
        assert_eq!(last(&[(&one, 5, 5), (&dear, 6, 4)]), [4], "another shard has numbers of its own");
        assert_eq!(last(&[(&batch, 5, 5), (&batch, 5, 7)]), [5, 7], "one of three is forgotten");
        assert_eq!(last(&[(&batch, 5, 5), (&batch, 5, 6), (&batch, 8, 8), (&batch, 8, 9)]), [8, 9]);
        assert_eq!(last(&[(&batch, 5, 5), (&batch, 5, 6), (&dear, 5, 7)]), [7]);
    }
}
