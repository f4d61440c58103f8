//! What is asked for, before it is asked: the builder behind [`acquire`] and [`here`].

use std::num::NonZeroU32;
use std::time::Duration;

/// An acquire that is being described. Nothing is asked until it is awaited.
///
/// On `wasm32-wasip2`: `.await` waits for the lease; `try_acquire` never waits; `check` asks and takes nothing; `run` does work
/// under the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing is asked until this is awaited"]
pub struct Acquire {
    pub(crate) scope: Option<String>,
    pub(crate) limit_key: Option<String>,
    pub(crate) cost: u32,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) lease_time: Option<Duration>,
    pub(crate) also: Vec<(String, Option<String>)>,
}

/// Starts an acquire in a scope that this component may use.
pub fn acquire(scope: impl Into<String>) -> Acquire {
    Acquire { scope: Some(scope.into()), ..here() }
}

/// Starts an acquire in the scope of the request being served, else in the component's own.
///
/// Without a limit key of its own it takes the request's as well.
pub fn here() -> Acquire {
    Acquire { scope: None, limit_key: None, cost: 1, max_wait: None, lease_time: None, also: Vec::new() }
}

impl Acquire {
    /// Names the limit key under the scope: `l1` or `l1/l2`. [`limit_key`](crate::limit_key()) builds one from any text.
    pub fn limit_key(mut self, limit_key: impl Into<String>) -> Self {
        self.limit_key = Some(limit_key.into());
        self
    }

    /// Takes `cost` units instead of 1 of every limit that counts cost. Zero is refused as invalid.
    pub fn cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    /// Takes a cost that cannot be zero.
    pub fn cost_of(self, cost: NonZeroU32) -> Self {
        self.cost(cost.get())
    }

    /// Bounds the wait. Default: the rule's, else 60 s.
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// Ends the lease this long after its grant unless it is extended. Default: it has no end of its own.
    pub fn lease_time(mut self, lease_time: Duration) -> Self {
        self.lease_time = Some(lease_time);
        self
    }

    /// Asks for another scope, all of it, in the same step: everything is granted, or nothing. At most 15 more.
    pub fn also(self, scope: impl Into<String>) -> Self {
        self.also_target(scope.into(), None)
    }

    /// Asks for a limit key of another scope in the same step: everything is granted, or nothing. At most 15 more.
    pub fn also_key(self, scope: impl Into<String>, limit_key: impl Into<String>) -> Self {
        self.also_target(scope.into(), Some(limit_key.into()))
    }

    fn also_target(mut self, scope: String, limit_key: Option<String>) -> Self {
        self.also.push((scope, limit_key));
        self
    }
}

/// The contract's nanoseconds. What does not fit is as long as can be said: 584 years.
#[cfg_attr(
    not(all(target_arch = "wasm32", target_os = "wasi")),
    expect(dead_code, reason = "only the bindings need it, and they exist on wasm32-wasip2 only")
)]
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
