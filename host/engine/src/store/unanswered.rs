//! Leases that were asked for under an idempotency key and are not answered yet.
//!
//! Whoever goes before the answer gives the lease back, and its key is free again. A restart must not take that for the end
//! of a lease that was answered: the key would say `ended` of a lease that nobody ever had. So what is given back unanswered is
//! written down as such, before its end and in one go with it: a kill comes before both or after both.
//!
//! A lease that has expired while it was being written is no such end: it may still be answered.

use super::Entry;
use std::collections::HashMap;
use weir_limiter::{Ended, Record};

/// By its secret, whether each was granted. Those of requests under way, and no others.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    granted: HashMap<u128, bool>,
}

impl Unanswered {
    /// Some are asked for.
    pub(super) fn expect(&mut self, secrets: &[u128]) {
        self.granted.extend(secrets.iter().map(|secret| (*secret, false)));
    }

    /// They are answered, or refused.
    pub(super) fn answered(&mut self, secrets: &[u128]) {
        for secret in secrets {
            self.granted.remove(secret);
        }
        self.shrink();
    }

    /// Whether one of them is granted, and only being written.
    pub(super) fn is_granted(&self, secrets: &[u128]) -> bool {
        secrets.iter().any(|secret| self.granted.get(secret) == Some(&true))
    }

    /// Whoever asked has gone, and none of them is granted from here on. What must be written down.
    pub(super) fn given_up(&mut self, secrets: &[u128]) -> Vec<Entry> {
        let granted = secrets.iter().filter(|secret| self.granted.remove(secret) == Some(true));
        let entries = granted.map(|secret| Entry::Unanswered(*secret)).collect();
        self.shrink();
        entries
    }

    /// An entry is to be written. What must be written down before it.
    pub(super) fn see(&mut self, entry: &Entry) -> Option<Entry> {
        if self.granted.is_empty() {
            return None;
        }
        match entry {
            Entry::Record(Record::Granted(lease)) => {
                if let Some(granted) = self.granted.get_mut(&lease.secret) {
                    *granted = true;
                }
                None
            }
            Entry::Record(Record::Ended { secret, how, .. }) if *how != Ended::Expired => {
                self.granted.remove(secret).map(|_| Entry::Unanswered(*secret))
            }
            _ => None,
        }
    }

    fn shrink(&mut self) {
        if self.granted.is_empty() && self.granted.capacity() > 1_024 {
            self.granted = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_limiter::{GrantedLease, Request};

    fn granted(secret: u128) -> Entry {
        let request = Request::new("s".parse().unwrap());
        let lease = GrantedLease { secret, shard: 0, fence: 1, request, settled: None, granted_at: 0, ends_at: 9 };
        Entry::Record(Record::Granted(Box::new(lease)))
    }

    fn ended(secret: u128, how: Ended) -> Entry {
        Entry::Record(Record::Ended { secret, how, at: 0 })
    }

    #[test]
    fn what_is_given_back_before_the_answer_is_said_once_and_before_its_end() {
        let mut unanswered = Unanswered::default();
        let said = |entry: Option<Entry>| matches!(entry, Some(Entry::Unanswered(_)));
        unanswered.expect(&[1, 2, 3, 4, 5]);
        for secret in [1, 2, 3, 4] {
            assert!(!said(unanswered.see(&granted(secret))));
        }
        assert!(said(unanswered.see(&ended(1, Ended::Released))));
        assert!(!said(unanswered.see(&ended(2, Ended::Expired))), "it may still be answered");
        unanswered.answered(&[3]);
        assert!(!said(unanswered.see(&ended(3, Ended::Released))), "that is its owner's");
        assert!(!said(unanswered.see(&ended(9, Ended::Released))), "under no key");
        let rest: Vec<Entry> = unanswered.given_up(&[1, 2, 3, 4, 5]);
        assert!(matches!(rest[..], [Entry::Unanswered(2), Entry::Unanswered(4)]), "{rest:?}");
        assert!(unanswered.granted.is_empty());
    }
}
