//! The limiter in time: who may start now, and who is woken later.
//!
//! [`weir_limiter`] decides; this crate gives it a clock, locks, timers and wakers. Callers hold one cheap handle, the
//! [`Engine`]; where its state lies is behind it.
//!
//! # Shards and locks
//! State is spread over shards by scope. A request takes the locks of the shards that its scopes lie in, in ascending
//! order, at most 16, nearly always one; there is no lock that two requests under different scopes share, and no number
//! that both write. Only a change of the rule book takes all locks, so that no decision is made by two books.
//!
//! A step's effects on others (a waiter granted, refused, to be looked at again) are delivered after the locks are let
//! go. A waiter is written down under the lock that parks it, so a grant cannot miss it.
//!
//! # Waiting
//! [`Engine::acquire`] is a plain future: no runtime is needed, and it may be dropped at any poll. A dropped waiter
//! leaves its waitlist; if its grant was on the way, the lease is given back as nobody's.
//!
//! # Idempotency
//! Timed leases may be asked for under a key; what a repetition gets, the module `keys` says.
//!
//! # Time
//! One thread sleeps until the earliest timer of any shard: refills, deadlines and ends of leases happen with nothing
//! arriving. It is woken when an earlier timer is set. With a manual clock there is no thread: [`Engine::advance`] goes
//! from timer to timer.

mod acquire;
mod begin;
mod callers;
mod cell;
mod clock;
mod core;
mod engine;
mod explain;
mod joiners;
mod keys;
mod lease;
mod restore;
mod secret;
mod sleep;
mod store;
mod sync;
mod timed;
mod timer;

pub use acquire::{Acquire, AcquireBatch, Started, TimedLease};
pub use clock::{Clock, ManualClock};
pub use engine::{CounterQuery, Engine, EngineConfig, MetricsSnapshot, OperateError};
pub use keys::{AcquireTimed, AcquireTimedBatch, KEPT, MAX_KEYS};
pub use lease::{Lease, LeaseError};
pub use store::{Durability, MAX_PENDING, Saving, StoreConfig, StoreError, Unsaved};
pub use timed::LeasesOf;
#[doc(hidden)]
pub use weir_limiter::planted;
pub use weir_limiter::{
    Caller, Change, Concurrency, Constraint, ConstraintKind, CounterKind, CounterName, CounterSnapshot, Counts,
    DEFAULT_LEASE_TIME, DEFAULT_MAX_WAIT, DEFAULT_PRIORITY, Difference, DifferenceKind, DurationError, Ended,
    ExplainedCounter, Explanation, Forecast, Histogram, IDLE_KEEP, Inline, LeaseId, LeaseIdError, LeaseRef, LimitError,
    Limits, MAX_BATCH, MAX_LEASE_TIME, MAX_TARGETS, MAX_WEIGHT, MIN_LEASE_TIME, Mode, NameError, Offer, Outcome,
    Pattern, PatternError, Precondition, Rate, RateSnapshot, Reason, Refusal, Request, RequestError, Rule, RuleBook,
    RuleError, RulePatch, RuleSpec, RuleStanding, ScopedKey, Settled, ShadowSnapshot, ShardLimits, UNSAID_PUSHBACK,
    Verb, check_lease_time, format_duration, parse_duration,
};
