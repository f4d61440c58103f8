//! What a run has been through: states that a proof must have visited to be worth anything.

use std::fmt;

macro_rules! classes {
    ($($name:ident: $what:literal,)*) => {
        /// One class of states.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Class { $(#[doc = $what] $name,)* }

        impl Class {
            /// All of them, in order.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            fn what(self) -> &'static str {
                match self { $(Self::$name => $what,)* }
            }
        }
    };
}

classes! {
    GrantedAtOnce: "granted at once",
    GrantedAfterWait: "granted after a wait",
    Limited: "refused without a wait",
    TimedOut: "waited its longest",
    TooLarge: "too large on arrival",
    TooLargeLater: "too large after a change of limits",
    Overloaded: "no place to wait, or a cap",
    Closed: "waited at a closed counter",
    CancelledWaiting: "cancelled while it waited",
    CancelledInLine: "cancelled behind the head of a line",
    RetryAfterHeld: "a rate's retry-after, tried before and at",
    Expired: "a timed lease expired",
    Extended: "a timed lease was extended",
    Forged: "a forged or stale id changed nothing",
    SettledRefund: "settled below its cost",
    SettledOverrun: "settled above its cost",
    OverLimit: "usage above a limit after an overrun or a lowered limit",
    PushedBack: "refused because of a pushback",
    Paused: "refused or held by a pause",
    Draining: "refused by a drain",
    Pinned: "decided under pinned numbers",
    Reset: "a rate history was reset",
    InlineBlocked: "blocked by its own numbers at an inline key",
    TooManyKinds: "a ninth kind of rate at an inline key",
    PoolBlocked: "blocked by a pool",
    SeveralCounters: "waited for several scopes",
    BatchWhole: "a batch in full",
    BatchPart: "a batch in part",
    Lent: "a nested request rode on a lease",
    LentAgain: "a later one was a start of its own",
    LentOn: "a nested request rode on one that rode itself",
    KeyJoined: "two that waited under one key",
    KeyRepeated: "a key repeated while its lease lived",
    KeyEnded: "a key repeated after its lease had ended",
    KeyConflict: "another request under a key",
    BookRaised: "a changed book let waiters in",
    Barrier: "a barrier stood",
    Adopted: "a pool came into force beside those who held",
    HeldBack: "what was free was owed to another",
    SeveralDue: "a jump of the clock over several timers",
    Crashed: "all leases of a process were lost at once",
    Lines: "three or more waited in one line",
    WokenByRelease: "a release let a waiter in",
    WokenByCancel: "a cancel let a waiter in",
    WokenByTime: "time alone let a waiter in",
}

/// How often each was visited, and how much was done.
#[derive(Debug, Clone)]
pub(crate) struct Visits {
    counts: Vec<u64>,
    pub(crate) operations: u64,
    pub(crate) acquires: u64,
    pub(crate) hit_full: u64,
    pub(crate) touched_several: u64,
}

impl Default for Visits {
    fn default() -> Self {
        Self { counts: vec![0; Class::ALL.len()], operations: 0, acquires: 0, hit_full: 0, touched_several: 0 }
    }
}

impl Visits {
    pub(crate) fn note(&mut self, class: Class) {
        self.counts[class as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.operations += other.operations;
        self.acquires += other.acquires;
        self.hit_full += other.hit_full;
        self.touched_several += other.touched_several;
    }

    /// Classes that were never visited.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        Class::ALL.iter().filter(|class| self.counts[**class as usize] == 0).map(|class| class.what()).collect()
    }
}

impl fmt::Display for Visits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for class in Class::ALL {
            writeln!(f, "{:>12}  {}", self.counts[*class as usize], class.what())?;
        }
        Ok(())
    }
}
