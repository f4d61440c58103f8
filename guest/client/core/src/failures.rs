//! How often a policy decided because no answer came, until the server has heard of it.
//!
//! `weir-client-failures: closed=1, budget=2` is what has happened since the last answer that arrived. Several requests may be under
//! way at once: what one of them tells the others leave out. Where no answer comes to it, or its caller is gone, the next one tells
//! it again. So nothing is lost while the instance lives, and what the server heard in a request whose answer was lost counts twice.

use crate::policy::Local;
use std::cell::Cell;

/// The header that tells it.
pub(crate) const HEADER: &str = "weir-client-failures";

/// The policies, in the order of the counts.
const POLICIES: [&str; 3] = ["closed", "open", "budget"];

/// What the server does not know yet, by policy. One that counts as far as it goes stays there.
#[derive(Debug, Default)]
pub(crate) struct Failures([Cell<u32>; POLICIES.len()]);

impl Failures {
    /// Counts one call that was decided here.
    pub(crate) fn count(&self, decision: Local) {
        let policy = match decision {
            Local::Closed => 0,
            Local::Open(_) => 1,
            Local::Budget(_) | Local::Spent(_) => 2,
        };
        add(&self.0[policy], 1);
    }

    /// Takes what is to be told. It comes back when what is returned is dropped.
    pub(crate) fn tell(&self) -> Told<'_> {
        Told { failures: self, counts: self.0.each_ref().map(Cell::take) }
    }
}

/// What one request tells.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    failures: &'a Failures,
    counts: [u32; POLICIES.len()],
}

impl Told<'_> {
    /// The value of the header; none where there is nothing to tell.
    pub(crate) fn value(&self) -> Option<String> {
        let told = POLICIES.iter().zip(self.counts).filter(|(_, count)| *count > 0);
        let parts: Vec<_> = told.map(|(policy, count)| format!("{policy}={count}")).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// An answer has come: the server knows.
    pub(crate) fn heard(mut self) {
        self.counts = [0; POLICIES.len()];
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        for (cell, count) in self.failures.0.iter().zip(self.counts) {
            add(cell, count);
        }
    }
}

fn add(cell: &Cell<u32>, count: u32) {
    cell.set(cell.get().saturating_add(count));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_told_by_one_request_at_a_time_until_it_is_heard() {
        let failures = Failures::default();
        assert_eq!(failures.tell().value(), None);
        for decision in [Local::Closed, Local::Open(3), Local::Budget(1), Local::Spent(None)] {
            failures.count(decision);
        }
        let told = failures.tell();
        assert_eq!(told.value().as_deref(), Some("closed=1, open=1, budget=2"));
        failures.count(Local::Open(1));
        let beside = failures.tell();
        assert_eq!(beside.value().as_deref(), Some("open=1"), "only what nobody else tells");
        drop(told);
        beside.heard();
        let again = failures.tell();
        assert_eq!(again.value().as_deref(), Some("closed=1, open=1, budget=2"), "no answer came");
        again.heard();
        assert_eq!(failures.tell().value(), None);
    }

    #[test]
    fn a_count_never_begins_anew() {
        let failures = Failures::default();
        failures.0[1].set(u32::MAX);
        failures.count(Local::Open(1));
        assert_eq!(failures.tell().value(), Some(format!("open={}", u32::MAX)));
    }
}
