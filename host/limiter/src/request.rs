//! Requests and what they get.

use crate::duration::format_duration;
use crate::limits::{LimitError, Limits};
use crate::line::{Alone, Line};
use crate::name::{CounterName, NameError, Part, ScopedKey, check_part};
use crate::planted::{self, Bug};
use smallvec::SmallVec;
use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The most scoped keys and inline keys of one request: each is up to three counters in a shard of its own, and all their
/// shards are locked at once.
pub const MAX_TARGETS: usize = 16;
/// The most units of one batch: each is a lease of its own, made with the locks of its shards held.
pub const MAX_BATCH: u32 = 1_000;
/// How long a request waits when neither it nor a rule says so.
pub const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(60);
/// The shortest lease time: below it, extending costs more than the work.
pub const MIN_LEASE_TIME: Duration = Duration::from_millis(100);
/// The longest lease time: a crashed client holds capacity no longer than this.
pub const MAX_LEASE_TIME: Duration = Duration::from_secs(60 * 60);
/// The lease time of a timed lease that names none.
pub const DEFAULT_LEASE_TIME: Duration = Duration::from_secs(30);
/// How long a timed lease can live, however often it is extended.
pub const MAX_LEASE_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// A counter under a scope whose limits the request brings along.
///
/// It is admitted when it fits under its own numbers beside all that others have started and hold there, whatever their
/// numbers are: old work keeps its configuration until it has drained.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Inline {
    /// Its name, `scope#key`.
    pub name: CounterName,
    /// The numbers of this request.
    pub limits: Limits,
}

/// Who asks, of those who share a host: caps are shared out between callers, and idempotency keys and timed leases are
/// theirs. The default is nobody in particular, to whom the whole of a cap is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Caller(pub(crate) u32);

/// The most callers that are told apart, components and owners of leases elsewhere; further ones are nobody in particular.
pub const MAX_CALLERS: u32 = 16_384;

impl Caller {
    /// Its number; 0 is nobody in particular.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The caller of this number, from 1 to [`MAX_CALLERS`]; others are nobody in particular.
    #[must_use]
    pub fn numbered(number: u32) -> Self {
        Self(if number > MAX_CALLERS { 0 } else { number })
    }
}

/// What a caller asks for: one cost at every counter of every target, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The scoped keys; with the inline keys at most [`MAX_TARGETS`]. None of both: unscoped, always granted and free.
    pub targets: SmallVec<[ScopedKey; 1]>,
    /// The inline keys.
    pub inline: Vec<Arc<Inline>>,
    /// Units, where a limit counts cost.
    pub cost: NonZeroU32,
    /// How long it may wait; zero: not at all. A rule's shorter `max-wait` holds besides.
    pub max_wait: Option<Duration>,
    /// The parts of a lease whose counters this request may ride on, each once; none: it rides on nothing.
    pub lend_from: SmallVec<[LeaseRef; 1]>,
    /// Ends the lease by itself this long after its grant or last extension.
    pub lease_time: Option<Duration>,
    /// Who is served first: 255 before 0.
    pub priority: u8,
    /// Between whom waiting is shared fairly. Default: the limit key of the first target.
    pub fairness_key: Option<Arc<str>>,
    /// The share of the fairness key beside others, 1 to [`MAX_WEIGHT`].
    pub weight: NonZeroU16,
    /// How many leases it asks for, at most [`MAX_BATCH`], each of its cost.
    pub count: NonZeroU32,
    /// With how many of them it is content; it waits until so many fit at once.
    pub least: NonZeroU32,
    /// Who asks.
    pub caller: Caller,
    /// Makes a repeated request for a timed lease answer as the first did.
    pub idempotency_key: Option<Arc<str>>,
}

/// The priority of a request that names none.
pub const DEFAULT_PRIORITY: u8 = 128;
/// The largest weight: a thousand times the share of another.
pub const MAX_WEIGHT: u16 = 1_000;

/// Why a request is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// More than [`MAX_TARGETS`] scoped keys.
    #[error("more than {MAX_TARGETS} scopes and limit keys in one request")]
    TooManyTargets,
    /// A fairness key, an inline key or an idempotency key that is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Limits of an inline key that are not valid.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// An inline key that comes twice with other numbers.
    #[error("the inline key `{name}` comes twice, with other numbers")]
    InlineTwice {
        /// Which.
        name: CounterName,
    },
    /// A batch of too many, or with a minimum above its count.
    #[error("a batch of {count}, at least {least}: from 1 to {MAX_BATCH}, and the minimum not above the count")]
    Batch {
        /// How many it asks for.
        count: u32,
        /// With how many it is content.
        least: u32,
    },
    /// A batch whose cost is more than a number of 32 bits.
    #[error("{count} times a cost of {cost} is more than 4294967295")]
    BatchCost {
        /// How many it asks for.
        count: u32,
        /// The cost of each.
        cost: u32,
    },
    /// An idempotency key for a lease that nobody could find again.
    #[error("an idempotency key belongs to timed leases")]
    KeyOfHeld,
    /// A weight above [`MAX_WEIGHT`].
    #[error("a weight of {given} is out of bounds: 1 to {MAX_WEIGHT}")]
    Weight {
        /// What was given.
        given: u16,
    },
    /// A lease time outside [`MIN_LEASE_TIME`] to [`MAX_LEASE_TIME`].
    #[error("a lease time of {} is out of bounds: 100ms to 1h", format_duration(*.given))]
    LeaseTime {
        /// What was given.
        given: Duration,
    },
}

impl Request {
    /// A request for one call under `key`: cost 1, the usual wait, no end.
    #[must_use]
    pub fn new(key: ScopedKey) -> Self {
        Self { targets: SmallVec::from_iter([key]), ..Self::unscoped() }
    }

    /// A request under no scope: always granted, and free.
    #[must_use]
    pub fn unscoped() -> Self {
        Self {
            targets: SmallVec::new(),
            inline: Vec::new(),
            cost: NonZeroU32::MIN,
            max_wait: None,
            lend_from: SmallVec::new(),
            lease_time: None,
            priority: DEFAULT_PRIORITY,
            fairness_key: None,
            weight: NonZeroU16::MIN,
            count: NonZeroU32::MIN,
            least: NonZeroU32::MIN,
            caller: Caller::default(),
            idempotency_key: None,
        }
    }

    /// Sets the cost.
    #[must_use]
    pub fn cost(mut self, cost: NonZeroU32) -> Self {
        self.cost = cost;
        self
    }

    /// Sets how long it may wait; zero: not at all.
    #[must_use]
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// Asks for another scoped key in the same step.
    ///
    /// # Errors
    /// [`RequestError::TooManyTargets`] past [`MAX_TARGETS`].
    pub fn also(mut self, key: ScopedKey) -> Result<Self, RequestError> {
        if !self.targets.contains(&key) {
            self.targets.push(key);
        }
        self.validate()?;
        Ok(self)
    }

    /// Asks for an inline key under a scope in the same step, with the numbers that hold for this request.
    ///
    /// # Errors
    /// [`RequestError`] names the key or number that is not valid.
    pub fn inline(mut self, scope: &str, key: &str, limits: Limits) -> Result<Self, RequestError> {
        let inline = Inline { name: CounterName::inline(scope, key)?, limits };
        if let Some(other) = self.inline.iter().find(|other| other.name == inline.name) {
            return if **other == inline { Ok(self) } else { Err(RequestError::InlineTwice { name: inline.name }) };
        }
        self.inline.push(Arc::new(inline));
        self.validate()?;
        Ok(self)
    }

    /// Asks for up to `count` leases at once, each of the request's cost and ending on its own, and for no fewer than
    /// `least`.
    ///
    /// # Errors
    /// [`RequestError::Batch`] and [`RequestError::BatchCost`].
    pub fn batch(mut self, count: NonZeroU32, least: NonZeroU32) -> Result<Self, RequestError> {
        (self.count, self.least) = (count, least);
        self.validate()?;
        Ok(self)
    }

    /// Says who asks.
    #[must_use]
    pub fn caller(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }

    /// Makes a repeated request answer as the first did: the same lease while that lives, and afterwards that it ended.
    ///
    /// # Errors
    /// [`RequestError::Name`] when it is not a name.
    pub fn idempotency_key(mut self, key: &str) -> Result<Self, RequestError> {
        check_part(Part::IdempotencyKey, key)?;
        self.idempotency_key = Some(key.into());
        Ok(self)
    }

    /// Whether it names nothing, and is free.
    #[inline]
    #[must_use]
    pub fn is_unscoped(&self) -> bool {
        self.targets.is_empty() && self.inline.is_empty()
    }

    /// What it needs at least at each counter: calls and cost.
    #[inline]
    pub(crate) fn need(&self) -> (u32, u32) {
        (self.least.get(), self.cost.get().saturating_mul(self.least.get()))
    }

    /// The scopes that it names, which decide where its counters lie; one may come more than once.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(ScopedKey::scope).chain(self.inline.iter().map(|inline| inline.name.scope()))
    }

    /// Lets it ride on a part of a lease that the same request holds already; see the module `lease`. Where that has several,
    /// each is named.
    #[must_use]
    pub fn lend_from(mut self, part: LeaseRef) -> Self {
        self.lend_from.push(part);
        self
    }

    /// Ends the lease this long after its grant unless it is extended.
    #[must_use]
    pub fn lease_time(mut self, lease_time: Duration) -> Self {
        self.lease_time = Some(lease_time);
        self
    }

    /// Sets the priority: 255 is served first, 0 last.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = if planted::is(Bug::PriorityIgnored) { self.priority } else { priority };
        self
    }

    /// Sets between whom waiting is shared fairly, and the weight of this one.
    ///
    /// # Errors
    /// [`RequestError::Name`] when it is not a name; [`RequestError::Weight`] above [`MAX_WEIGHT`].
    pub fn fairness(mut self, key: &str, weight: NonZeroU16) -> Result<Self, RequestError> {
        check_part(Part::FairnessKey, key)?;
        self.fairness_key = Some(key.into());
        self.weight = if planted::is(Bug::WeightIgnored) { self.weight } else { weight };
        self.validate()?;
        Ok(self)
    }

    /// Between whom and others waiting is shared fairly.
    #[inline]
    pub(crate) fn share(&self) -> &str {
        match (&self.fairness_key, self.targets.first(), self.inline.first()) {
            (Some(key), ..) => key,
            (None, Some(key), _) => key.limit_key().unwrap_or_default(),
            (None, None, Some(inline)) => inline.name.as_str(),
            (None, None, None) => "",
        }
    }

    /// The line in which it waits, under this ticket.
    pub(crate) fn line(&self, ticket: u64) -> Line {
        let share = self.fairness_key.clone().unwrap_or_else(|| self.share().into());
        let mut targets = self.targets.clone();
        // Equal constraints are equal in any order.
        targets.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        let mut inline = self.inline.clone();
        inline.sort_unstable_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        let alone = (!self.lend_from.is_empty()).then(|| {
            let named = self.rides_on().into();
            Box::new(Alone { ticket, named, on: SmallVec::new(), need: self.need() })
        });
        Line { targets, inline, priority: self.priority, share, weight: self.weight, alone }
    }

    /// The parts of the lease that it may ride on: a batch rides on nothing.
    #[inline]
    pub(crate) fn rides_on(&self) -> &[LeaseRef] {
        if self.count.get() == 1 { &self.lend_from } else { &[] }
    }

    /// Where it stands among those who wait: its priority, and its fairness key.
    pub(crate) fn rank(&self) -> (u8, &str) {
        (self.priority, self.share())
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// [`RequestError`] names the number that is out of bounds.
    pub fn validate(&self) -> Result<(), RequestError> {
        if self.targets.len() + self.inline.len() > MAX_TARGETS {
            return Err(RequestError::TooManyTargets);
        }
        let (count, least, cost) = (self.count.get(), self.least.get(), self.cost.get());
        if count > 1 || least > 1 {
            if count > MAX_BATCH || least > count {
                return Err(RequestError::Batch { count, least });
            }
            if cost.checked_mul(count).is_none() {
                return Err(RequestError::BatchCost { count, cost });
            }
        }
        for inline in &self.inline {
            inline.limits.validate()?;
        }
        if self.weight.get() > MAX_WEIGHT {
            return Err(RequestError::Weight { given: self.weight.get() });
        }
        match self.lease_time {
            Some(given) => check_lease_time(given),
            None => Ok(()),
        }
    }
}

/// Checks a lease time.
///
/// # Errors
/// [`RequestError::LeaseTime`] outside 100 ms to 1 h.
pub fn check_lease_time(given: Duration) -> Result<(), RequestError> {
    if (MIN_LEASE_TIME..=MAX_LEASE_TIME).contains(&given) { Ok(()) } else { Err(RequestError::LeaseTime { given }) }
}

/// Where the part of a lease lies that one shard holds. Only good inside this process; a stale one finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseRef {
    /// The shard.
    pub shard: u16,
    /// The slot in the shard's table.
    pub(crate) slot: u32,
    /// The fencing number: tells a slot's present lease from an earlier one.
    pub(crate) fence: u64,
}

/// The name of a lease outside of this process.
///
/// For a timed lease the secret is 128 unguessable bits, and the shard says where to look. For a held lease, which
/// cannot be reached by name, it is the fencing number, for logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId {
    /// The shard that knows it.
    pub shard: u16,
    /// The unguessable part.
    pub secret: u128,
}

/// A text that is not a lease id. Says nothing about which ids exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a lease id")]
pub struct LeaseIdError;

const LEASE_ID_DIGITS: usize = 36;
const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: the general way to write a number in hexadecimal takes ten times as long, and every answer has one.
        let mut digits = [0; LEASE_ID_DIGITS];
        let bytes = self.shard.to_be_bytes().into_iter().chain(self.secret.to_be_bytes());
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = HEXADECIMAL[usize::from(byte >> 4)];
            pair[1] = HEXADECIMAL[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

impl fmt::Debug for LeaseId {
    /// Never shows the secret: who knows it can release the lease.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({:04x}..)", self.shard)
    }
}

impl FromStr for LeaseId {
    type Err = LeaseIdError;

    fn from_str(text: &str) -> Result<Self, LeaseIdError> {
        if text.len() != LEASE_ID_DIGITS || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(LeaseIdError);
        }
        let shard = u16::from_str_radix(&text[..4], 16).map_err(|_| LeaseIdError)?;
        let secret = u128::from_str_radix(&text[4..], 16).map_err(|_| LeaseIdError)?;
        Ok(Self { shard, secret })
    }
}

/// A waiter, by arrival. Unique among the waiters of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId {
    /// Arrival: lower came first wherever two waiters share a counter.
    pub ticket: u64,
    /// The lowest shard that the waiter's request touches.
    pub shard: u16,
    /// Its place in the shard's table.
    pub(crate) slot: u32,
}

/// What a granted request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// One part in each shard touched; empty for an unscoped request.
    pub parts: SmallVec<[LeaseRef; 1]>,
    /// Grows with every grant of the same counter.
    pub fence: u64,
    /// The version of the rule book that decided.
    pub book_version: u64,
    /// When it ends by itself, in the engine's nanoseconds.
    pub ends_at: Option<u64>,
    /// How long it waited, in nanoseconds.
    pub waited: u64,
    /// The further leases of a batch, each with parts and a fencing number of its own.
    pub more: Vec<Grant>,
    /// Something that must survive was recorded with it: it is told to nobody before that is written down.
    pub recorded: bool,
}

impl Grant {
    /// What a request gets that names nothing: as many leases as it likes, which hold nothing.
    #[must_use]
    pub fn unscoped(request: &Request, now: u64) -> Self {
        let one = Self {
            parts: SmallVec::new(),
            fence: now,
            book_version: 0,
            ends_at: None,
            waited: 0,
            more: Vec::new(),
            recorded: false,
        };
        Self { more: vec![one.clone(); request.count.get() as usize - 1], ..one }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ids_round_trip_and_hide_their_secret() {
        let id = LeaseId { shard: 3, secret: u128::MAX - 5 };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("{id:?}"), "LeaseId(0003..)");
        for text in ["", "0003", &"g".repeat(36), &"0".repeat(35), &"0".repeat(37), &format!("+{}", "0".repeat(35))] {
            assert_eq!(text.parse::<LeaseId>(), Err(LeaseIdError), "{text}");
        }
    }

    #[test]
    fn callers_have_numbers_up_to_a_bound() {
        let numbers = [0, 1, MAX_CALLERS - 1, MAX_CALLERS, MAX_CALLERS + 1, u32::MAX].map(|n| Caller::numbered(n).0);
        assert_eq!(numbers, [0, 1, MAX_CALLERS - 1, MAX_CALLERS, 0, 0]);
    }

    #[test]
    fn every_number_goes_up_to_its_bound() {
        let one = |n: u32| NonZeroU32::new(n).unwrap();
        let request = || Request::new("s".parse().unwrap());
        let lasts = |nanos: u64| request().lease_time(Duration::from_nanos(nanos)).validate().is_ok();
        let (min, max) = (MIN_LEASE_TIME.as_nanos() as u64, MAX_LEASE_TIME.as_nanos() as u64);
        assert_eq!([0, min - 1, min, max, max + 1, u64::MAX].map(lasts), [false, false, true, true, false, false]);
        let weighs = |weight: u16| request().fairness("k", NonZeroU16::new(weight).unwrap()).is_ok();
        assert_eq!([1, MAX_WEIGHT, MAX_WEIGHT + 1, u16::MAX].map(weighs), [true, true, false, false]);
        let batch = |count: u32, least: u32| request().batch(one(count), one(least)).is_ok();
        let batches = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (MAX_BATCH, MAX_BATCH), (MAX_BATCH + 1, 1)];
        assert_eq!(batches.map(|(count, least)| batch(count, least)), [true, false, true, true, false, true, false]);
        let costs = |cost: u32| request().cost(one(cost)).batch(one(3), one(1)).is_ok();
        assert_eq!([u32::MAX / 3, u32::MAX / 3 + 1].map(costs), [true, false]);
        assert_eq!(request().cost(one(5)).batch(one(3), one(2)).unwrap().need(), (2, 10));
        let named = |key: &str| request().idempotency_key(key).is_ok();
        assert_eq!(
            ["", "k", &"k".repeat(128), &"k".repeat(129), "\u{e9}", "a\n"].map(named),
            [false, true, true, false, false, false]
        );
    }

    #[test]
    fn only_what_names_nothing_is_unscoped() {
        assert!(Request::unscoped().is_unscoped());
        assert!(!Request::new("s".parse().unwrap()).is_unscoped());
        let inline = |limits| Request::unscoped().inline("s", "k", limits);
        assert!(!inline(Limits::default()).unwrap().is_unscoped());
        // A key twice is one key; with other numbers it is none.
        let twice = inline(Limits::default()).unwrap().inline("s", "k", Limits::default()).unwrap();
        assert_eq!(twice.inline.len(), 1);
        let closed = Limits { max_waiters: Some(1), ..Limits::default() };
        assert!(matches!(twice.inline("s", "k", closed), Err(RequestError::InlineTwice { .. })));
        let request = Request::unscoped().batch(NonZeroU32::new(3).unwrap(), NonZeroU32::MIN).unwrap();
        assert_eq!(Grant::unscoped(&request, 7).more.len(), 2);
    }

    #[test]
    fn equal_constraints_in_any_order_are_one_line() {
        let of = |keys: &[&str], inline: &[&str]| {
            let mut request = Request::unscoped();
            for key in keys {
                request = request.also(key.parse().unwrap()).unwrap();
            }
            for key in inline {
                request = request.inline("s", key, Limits::default()).unwrap();
            }
            request
        };
        let mut one = of(&["a", "b/x"], &["k", "l"]);
        let mut two = of(&["b/x", "a"], &["l", "k"]);
        assert_ne!(one.line(1), two.line(1), "each is under the key that it named first");
        for request in [&mut one, &mut two] {
            *request = request.clone().fairness("f", NonZeroU16::MIN).unwrap();
        }
        assert_eq!(one.line(1), two.line(2));
        assert_ne!(one.line(1), one.clone().priority(3).line(1));
        let riding = one.lend_from(LeaseRef { shard: 0, slot: 0, fence: 1 });
        assert_ne!(riding.line(1), riding.line(2), "who rides is a line of its own");
        assert_eq!((&*of(&["a/x"], &[]).line(1).share, &*of(&[], &["k"]).line(1).share), ("x", "s#k"));
    }

    #[test]
    fn a_request_counts_a_key_once_and_has_a_bound() {
        let key = |i: usize| ScopedKey::new(&format!("s{i}"), None).unwrap();
        let mut request = Request::new(key(0)).also(key(0)).unwrap();
        assert_eq!(request.targets.len(), 1);
        for i in 1..MAX_TARGETS {
            request = request.also(key(i)).unwrap();
        }
        assert_eq!(request.clone().also(key(0)), Ok(request.clone()), "one that it has");
        assert_eq!(request.clone().also(key(99)).unwrap_err(), RequestError::TooManyTargets);
        assert!(request.clone().lease_time(Duration::from_millis(99)).validate().is_err());
        assert!(request.lease_time(MAX_LEASE_TIME).validate().is_ok());
    }
}
