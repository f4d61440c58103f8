//! Programs: what the fuzzer's bytes say, in numbers that are mostly small, so that requests meet.

use arbitrary::Arbitrary;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;
use weir_limiter::{
    Caller, Change, Concurrency, CounterName, Counts, Limits, MAX_LEASE_TIME, MIN_LEASE_TIME, Mode, Outcome, Pattern,
    Precondition, Rate, Request, RulePatch, RuleSpec, ScopedKey, ShardLimits, Verb,
};

const KEYS: [&str; 8] = ["a", "b", "a/x", "a/y", "b/x", "a/x/1", "a/x/2", "c/z/9"];
const INLINE: [(&str, &str); 3] = [("a", "p"), ("a", "q"), ("b", "p")];
const COUNTERS: [&str; 8] = ["a", "b", "a/x", "a/y", "a/x/1", "a#p", "a#q", "b#p"];
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
    /// A request is explained.
    Explain(Ask),
    /// A lease ends, with an outcome.
    Release(u8, End),
    /// A lease has really cost so much.
    Settle(u8, Cost),
    /// An operator does something to a counter.
    Operate(u8, AnyVerb),
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
    /// Keys under a scope, with the limits that the request brings for them.
    inline: Option<(u8, AnyLimits)>,
    /// How many leases, and with how many it is content.
    batch: Option<(u8, u8)>,
    /// Its priority, its fairness key and weight, and who asks.
    rank: Option<(u8, u8, u8, u8)>,
    /// Whether it may wait, and how many milliseconds if it says so.
    pub wait: Option<Option<u16>>,
    lease: Option<LeaseTime>,
    /// The lease that it rides on.
    pub lend: Option<u8>,
    /// Whether it is found by its id.
    pub named: bool,
}

/// Units.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Cost {
    /// A few.
    Small(u8),
    /// Any number.
    Any(u32),
}

/// How the work under a lease ended.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum End {
    /// Well.
    Ok,
    /// Not well.
    Failed,
    /// It asks for a pause of so many milliseconds.
    PushedBack(u16),
    /// It asks for a pause without an end.
    PushedBackForEver,
}

/// What an operator does.
#[derive(Debug, Arbitrary)]
pub enum AnyVerb {
    /// Holds admissions.
    Pause,
    /// Ends that.
    Resume,
    /// Puts other limits in the place of the rule's.
    Pin(AnyLimits),
    /// Takes them back.
    Unpin,
    /// Forgets what was started.
    Reset,
    /// Lets nobody new in.
    Drain,
}

/// Limits. Not all of them are valid.
#[derive(Debug, Arbitrary)]
pub struct AnyLimits {
    concurrency: Option<(u8, bool)>,
    rates: Vec<AnyRate>,
    max_waiters: Option<u8>,
    max_wait: Option<u16>,
    max_pushback: Option<u16>,
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
    Put { limits: AnyLimits, shadow: Option<AnyLimits> },
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
        let mut request = Request::new(key(self.key)).cost(at_least_one(self.cost.get()));
        for index in self.more.into_iter().flatten() {
            request = request.also(key(index)).expect("three keys are not too many");
        }
        if let Some((index, limits)) = &self.inline {
            let (scope, key) = pick(&INLINE, *index);
            // What is not valid is left out.
            request = request.clone().inline(scope, key, limits.get()).unwrap_or(request);
        }
        if let Some((count, least)) = self.batch {
            let number = |number: u8| at_least_one(u32::from(number % 6));
            request = request.clone().batch(number(count), number(least)).unwrap_or(request);
        }
        if let Some((priority, share, weight, caller)) = self.rank {
            request = request.priority(priority).caller(Caller::numbered(u32::from(caller % 4)));
            let weight = NonZeroU16::new(weight.into()).unwrap_or(NonZeroU16::MIN);
            request = request.fairness(pick(&["f", "g", "h"], share), weight).expect("a valid name");
        }
        request.max_wait = self.wait.flatten().map(|millis| Duration::from_millis(millis.into()));
        request.lease_time = self.lease.as_ref().map(LeaseTime::get);
        request
    }
}

impl Cost {
    /// The number of units.
    pub fn get(self) -> u32 {
        match self {
            Self::Small(cost) => u32::from(cost % 8),
            Self::Any(cost) => cost,
        }
    }
}

impl End {
    /// The outcome.
    pub fn get(self) -> Outcome {
        match self {
            Self::Ok => Outcome::Ok,
            Self::Failed => Outcome::Failed,
            Self::PushedBack(millis) => Outcome::PushedBack(Duration::from_millis(millis.into())),
            Self::PushedBackForEver => Outcome::PushedBack(Duration::MAX),
        }
    }
}

/// A counter that is operated on.
pub fn counter(index: u8) -> CounterName {
    pick(&COUNTERS, index).parse().expect("a valid name")
}

impl AnyVerb {
    /// The verb, if its limits are valid.
    pub fn get(&self) -> Option<Verb> {
        Some(match self {
            Self::Pause => Verb::Pause,
            Self::Resume => Verb::Resume,
            Self::Pin(limits) => Verb::Pin(Some(limits.get()).filter(|limits| limits.validate().is_ok())?),
            Self::Unpin => Verb::Unpin,
            Self::Reset => Verb::Reset,
            Self::Drain => Verb::Drain,
        })
    }
}

impl AnyLimits {
    fn get(&self) -> Limits {
        let millis = |millis: u16| Duration::from_millis(millis.into());
        Limits {
            concurrency: self
                .concurrency
                .map(|(limit, cost)| Concurrency { limit: u32::from(limit % 8), counts: counts(cost) }),
            rates: self.rates.iter().map(AnyRate::rate).collect(),
            max_waiters: self.max_waiters.map(u32::from),
            max_wait: self.max_wait.map(millis),
            max_pushback: self.max_pushback.map(millis),
        }
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
            RuleTo::Put { limits, shadow } => {
                let shadow_limits = shadow.as_ref().map(AnyLimits::get);
                Change::Put {
                    pattern,
                    spec: RuleSpec { limits: limits.get(), shadow_limits, ..RuleSpec::default() },
                    when,
                }
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
