//! The pure core of Weir: a deterministic state machine that decides who may start, who waits, and until when.
//!
//! There is no I/O here, no clock, no thread and no task: time is an argument, and what a step causes beyond its own
//! answer (a waiter is granted, another times out) comes back as [`Effect`]s. The same inputs at the same times give the
//! same outputs, whatever ran before or beside.
//!
//! # The model
//! A request names a scope and a limit key ([`ScopedKey`]), and so up to three *counters*: `s`, `s/a`, `s/a/b`. At each,
//! the best-ranked rule of the [`RuleBook`] binds. A request is granted when every counter admits it, in one step, all or
//! nothing; else it waits, parked at one counter that is in its way.
//!
//! # A worked example
//! Rules: `llm` concurrency 2, `llm/*` rate 3/1m. At 0 s three calls for `llm/gpt` arrive. Two are granted; the third
//! finds `llm` at 2/2 and is parked there. At 1 s the first ends: the third is looked at again, `llm/gpt` has started 2
//! of 3, so it is granted, as the third start of the minute. At 2 s a fourth arrives while all slots are free: it is
//! parked at `llm/gpt`, and a timer is set for 60 s, when the first start leaves the window. It is granted then, to the
//! nanosecond that the caller's clock can tell.
//!
//! # Invariants
//! - No grant takes a counter above the limits of the book version that the grant names.
//! - A refused or cancelled request leaves no trace: no usage, no start, no waiter, no timer.
//! - A parked waiter is blocked at the counter it is parked at, or stands behind one that is.
//! - What a counter holds is the sum of what the leases at it hold.
//!
//! # What is deliberately elsewhere
//! Clocks, locks, tasks and waking are in `weir-engine`; JSON, files and the wire are in `weir-http` and `weir`.

mod acquire;
mod adopt;
mod barrier;
mod binding;
mod book;
mod catching_up;
mod commit;
mod counter;
mod describe;
mod direct;
mod duration;
mod explain;
mod histogram;
mod history;
mod holding;
mod journal;
mod lease;
mod leases;
mod lending;
mod limits;
mod line;
mod name;
mod operator;
mod order;
mod pages;
mod pattern;
mod placement;
#[doc(hidden)]
pub mod planted;
mod refusal;
mod request;
mod restore;
mod shadow;
mod shard;
mod shares;
mod smooth;
mod snapshot;
mod standing;
mod step;
mod sweeps;
mod waiting;
mod window;

pub use binding::{Binding, RuleStanding};
pub use book::{
    Change, Difference, DifferenceKind, MAX_CHANGES, MAX_DESCRIPTION_BYTES, MAX_RULES, Precondition, Rule, RuleBook,
    RuleError, RulePatch, RuleSpec,
};
pub use direct::Taken;
pub use duration::{DurationError, format_duration, parse_duration};
pub use explain::{ExplainedCounter, Explanation, Forecast};
pub use histogram::Histogram;
pub use history::MAX_KINDS;
pub use journal::{GrantedLease, RateKind, Record, SmoothState};
pub use lease::Offer;
pub use limits::{
    Concurrency, Counts, DEFAULT_MAX_PUSHBACK, LimitError, Limits, MAX_PERIOD, MAX_RATES, MAX_WAIT, MAX_WAITERS,
    MIN_PERIOD, Mode, Rate,
};
pub use name::{CounterKind, CounterName, MAX_DEPTH, MAX_NAME_BYTES, NameError, Part, ScopedKey};
pub use operator::{HandState, Outcome, UNSAID_PUSHBACK, Verb};
pub use order::{MAX_PASSES, PATIENCE};
pub use pattern::{Pattern, PatternError};
pub use placement::Placement;
pub use refusal::{Constraint, ConstraintKind, Ended, Reason, Refusal};
pub use request::{
    Caller, DEFAULT_LEASE_TIME, DEFAULT_MAX_WAIT, DEFAULT_PRIORITY, Grant, Inline, LeaseId, LeaseIdError, LeaseRef,
    MAX_BATCH, MAX_CALLERS, MAX_LEASE_LIFE, MAX_LEASE_TIME, MAX_TARGETS, MAX_WEIGHT, MIN_LEASE_TIME, Request,
    RequestError, WaiterId, check_lease_time,
};
pub use restore::Restored;
pub use shard::{IDLE_KEEP, Shard, ShardLimits, ShardMetrics};
pub use shares::may_have;
pub use snapshot::{CounterSnapshot, RateSnapshot, ShadowSnapshot};
pub use step::{Effect, Input, Limiter, Output, Settled, ShardSet};
