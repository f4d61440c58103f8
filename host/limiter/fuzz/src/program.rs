//! Programs: what the fuzzer's bytes say, in numbers that are mostly small, so that requests meet.

use arbitrary::Arbitrary;
use std::num::NonZeroU32;
use std::time::Duration;
use weir_limiter::{
    Change, Concurrency, Counts, Limits, MAX_LEASE_TIME, MIN_LEASE_TIME, Mode, Pattern, Precondition, Rate, Request,
    RulePatch, RuleSpec, ScopedKey, ShardLimits,
};

const KEYS: [&str; 8] = ["a", "b", "a/x", "a/y", "b/x", "a/x/1", "a/x/2", "c/z/9"];
const PATTERNS: [&str; 8] = ["*", "a", "b", "*/*", "a/*", "*/x", "*/*/*", "a/x/1"];
const PERIODS: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_nanos(7_000_001),
    Duration::from_millis(500),
    Duration::from_millis(1_300),
    Duration::from_secs(60),
    Duration::from_secs(366 * 24 * 60 * 60),
];

/// A limiter and what happens to it.
#[derive(Debug, Arbitrary)]
pub struct Program {
    /// Whether the scopes lie in two shards.
    pub several_shards: bool,
    /// Whether the named caps of a shard are within reach.
    pub tight: bool,
    /// Whether it is closed at the end.
    pub close: bool,
    /// What happens, in order.
    pub ops: Vec<Op>,
}

/// One thing that happens. Leases and waiters are named by any number, modulo how many there are.
#[derive(Debug, Arbitrary)]
pub enum Op {
    /// A request is checked, and then arrives.
    Acquire(Ask),
    /// A lease ends.
    Release(u8),
    /// A lease that has ended is released, extended and looked for again.
    Stale(u8),
    /// A lease is to last so long from now.
    Extend(u8, LeaseTime),
    /// A waiter leaves.
    Cancel(u8),
    /// Time passes.
    Pass(Time),
    /// Rules change, in one batch.
    Rules(Vec<RuleChange>),
}

/// A request.
#[derive(Debug, Arbitrary)]
pub struct Ask {
    key: u8,
    more: [Option<u8>; 2],
    cost: Cost,
    /// Whether it may wait, and how many milliseconds if it says so.
    pub wait: Option<Option<u16>>,
    lease: Option<LeaseTime>,
    /// The lease that it rides on.
    pub lend: Option<u8>,
    /// Whether it is found by its id.
    pub named: bool,
}

#[derive(Debug, Arbitrary)]
enum Cost {
    Small(u8),
    Any(u32),
}

/// A lease time within its bounds.
#[derive(Debug, Arbitrary)]
pub struct LeaseTime(u16);

/// How much time passes.
#[derive(Debug, Arbitrary)]
pub enum Time {
    /// None.
    Nothing,
    /// Nanoseconds.
    Nanos(u16),
    /// Milliseconds.
    Millis(u16),
    /// One of the periods of rates, but for a nanosecond.
    AlmostPeriod(u8),
    /// Until the next timer.
    Due,
    /// Years, in one leap.
    Years(u8),
}

/// A change of a rule.
#[derive(Debug, Arbitrary)]
pub struct RuleChange {
    pattern: u8,
    to: RuleTo,
}

#[derive(Debug, Arbitrary)]
enum RuleTo {
    Put { concurrency: Option<(u8, bool)>, rates: Vec<AnyRate>, max_waiters: Option<u8>, max_wait: Option<u16> },
    Disabled(bool),
    Deleted,
}

#[derive(Debug, Arbitrary)]
struct AnyRate {
    limit: u8,
    period: u8,
    smooth: bool,
    burst: Option<u8>,
    cost: bool,
}

fn pick<T: Copy>(of: &[T], index: u8) -> T {
    of[usize::from(index) % of.len()]
}

/// A period of rates.
pub fn period(index: u8) -> Duration {
    pick(&PERIODS, index)
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

fn counts(cost: bool) -> Counts {
    if cost { Counts::Cost } else { Counts::Calls }
}

impl Program {
    /// The caps of a shard.
    pub fn limits(&self) -> ShardLimits {
        if self.tight {
            ShardLimits { max_counters: 6, max_waiters: 2, max_log_entries: 3, max_leases: 3 }
        } else {
            ShardLimits::default()
        }
    }
}

impl Ask {
    /// The request, without what it rides on.
    pub fn request(&self) -> Request {
        let key = |index| pick(&KEYS, index).parse::<ScopedKey>().expect("a valid key");
        let cost = match self.cost {
            Cost::Small(cost) => u32::from(cost % 8),
            Cost::Any(cost) => cost,
        };
        let mut request = Request::new(key(self.key)).cost(at_least_one(cost));
        for index in self.more.into_iter().flatten() {
            request = request.also(key(index)).expect("three keys are not too many");
        }
        request.max_wait = self.wait.flatten().map(|millis| Duration::from_millis(millis.into()));
        request.lease_time = self.lease.as_ref().map(LeaseTime::get);
        request
    }
}

impl LeaseTime {
    /// The lease time.
    pub fn get(&self) -> Duration {
        (MIN_LEASE_TIME + Duration::from_millis(55) * u32::from(self.0)).min(MAX_LEASE_TIME)
    }
}

impl RuleChange {
    /// The change. Not every one is valid.
    pub fn change(&self) -> Change {
        let pattern: Pattern = pick(&PATTERNS, self.pattern).parse().expect("a valid pattern");
        let when = Precondition::None;
        match &self.to {
            RuleTo::Put { concurrency, rates, max_waiters, max_wait } => {
                let limits = Limits {
                    concurrency: concurrency
                        .map(|(limit, cost)| Concurrency { limit: u32::from(limit % 8), counts: counts(cost) }),
                    rates: rates.iter().map(AnyRate::rate).collect(),
                    max_waiters: max_waiters.map(u32::from),
                    max_wait: max_wait.map(|millis| Duration::from_millis(millis.into())),
                    max_pushback: None,
                };
                Change::Put { pattern, spec: RuleSpec { limits, ..RuleSpec::default() }, when }
            }
            RuleTo::Disabled(disabled) => {
                Change::Patch { pattern, patch: RulePatch { disabled: Some(*disabled), ..RulePatch::default() }, when }
            }
            RuleTo::Deleted => Change::Delete { pattern, when },
        }
    }
}

impl AnyRate {
    fn rate(&self) -> Rate {
        Rate {
            limit: at_least_one(self.limit.into()),
            period: period(self.period),
            mode: if self.smooth { Mode::Smooth } else { Mode::Window },
            burst: self.burst.filter(|_| self.smooth).map(|burst| at_least_one(burst.into())),
            counts: counts(self.cost),
        }
    }
}
