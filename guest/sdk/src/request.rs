//! What is asked for, before it is asked: the builder behind [`acquire`] and [`here`].

use std::num::NonZeroU32;
use std::time::Duration;

use crate::FlowLimits;

/// An acquire that is being described. Nothing is asked until it is awaited.
///
/// On `wasm32-wasip2`: `.await` waits for the lease; `try_acquire` never waits; `acquire_batch` waits for several; `check` asks
/// and takes nothing; `run` does work under the lease.
///
/// ```
/// use std::time::Duration;
///
/// let request = weir_guest::acquire("payments")
///     .limit_key("eu/visa")
///     .cost(3)
///     .priority(200)
///     .fairness("tenant-7", 1)
///     .max_wait(Duration::from_secs(5));
/// # let _ = request;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing is asked until this is awaited"]
pub struct Acquire {
    pub(crate) scope: Option<String>,
    pub(crate) limit_key: Option<String>,
    pub(crate) cost: u32,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) lease_time: Option<Duration>,
    pub(crate) also: Vec<(String, Option<String>)>,
    pub(crate) priority: Option<u8>,
    pub(crate) fairness: Option<(String, u16)>,
    pub(crate) flow_controls: Vec<(String, FlowLimits)>,
}

/// Starts an acquire in a scope that this component may use.
pub fn acquire(scope: impl Into<String>) -> Acquire {
    Acquire { scope: Some(scope.into()), ..here() }
}

/// Starts an acquire in the scope of the request being served, else in the component's own.
///
/// Without a limit key of its own it takes the request's as well.
pub fn here() -> Acquire {
    Acquire {
        scope: None,
        limit_key: None,
        cost: 1,
        max_wait: None,
        lease_time: None,
        also: Vec::new(),
        priority: None,
        fairness: None,
        flow_controls: Vec::new(),
    }
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

    /// Is served before those of a lower priority that wait for the same: 255 first, 0 last. Default: 128.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Waits as one of those with this fairness key, between whom turns are shared by weight: 1 to 1,000. Default: the
    /// limit key, and 1.
    pub fn fairness(mut self, key: impl Into<String>, weight: u16) -> Self {
        self.fairness = Some((key.into(), weight));
        self
    }

    /// Asks for a key under the scope of the call in the same step, with limits of its own; see [`FlowLimits`]. At most 15
    /// more of this and of [`also`](Self::also) together.
    pub fn flow_control(mut self, key: impl Into<String>, limits: FlowLimits) -> Self {
        self.flow_controls.push((key.into(), limits));
        self
    }

    /// Whether it needs no options.
    #[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
    pub(crate) fn is_plain(&self) -> bool {
        // Every field by name: a new one does not compile unnoticed.
        let Self { scope: _, limit_key: _, cost: _, max_wait, lease_time, also, priority, fairness, flow_controls } =
            self;
        max_wait.is_none()
            && lease_time.is_none()
            && also.is_empty()
            && priority.is_none()
            && fairness.is_none()
            && flow_controls.is_empty()
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
