//! One request to outside under a key of its own, before it is sent: the builder behind [`call`].
//!
//! The handler around it is limited by what its scope is limited by; the provider that it calls has limits of its own, and
//! they are the same for everybody who calls it. So a call brings its key along, waits its turn there, and is sent again
//! where its response says so, while nothing is held.
//!
//! Nothing is validated here: the host does.

use std::time::Duration;

use crate::{FlowLimits, Rate};

/// A call that is being described. Nothing is sent until it is awaited, on `wasm32-wasip2`.
///
/// ```
/// use std::time::Duration;
/// # let request = ();
///
/// let call = weir_guest::call(request) // of `wasi:http`
///     .key("provider").rate(3, Duration::from_secs(60)).parallelism(2)
///     .retries(3);
/// # let _ = call; // `.await?`
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "nothing is sent until this is awaited"]
pub struct Call<R> {
    pub(crate) request: R,
    pub(crate) key: Option<String>,
    pub(crate) limits: FlowLimits,
    pub(crate) scope: Option<String>,
    pub(crate) limit_key: Option<String>,
    pub(crate) cost: Option<u32>,
    pub(crate) priority: Option<u8>,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) retry_delay: Option<RetryDelay>,
    pub(crate) longest_delay: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
}

/// How long a call backs off before a retry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RetryDelay {
    /// The same each time: at most 1 h.
    Fixed(Duration),
    /// More each time.
    Exponential {
        /// The delay before the first retry: at most 1 h.
        first: Duration,
        /// How many times longer each is than the one before: 1 to 100.
        factor: f32,
    },
}

/// Starts a call: a `wasi:http` request, such as `IntoRequest` of spin-sdk makes.
pub fn call<R>(request: R) -> Call<R> {
    Call {
        request,
        key: None,
        limits: FlowLimits::new(),
        scope: None,
        limit_key: None,
        cost: None,
        priority: None,
        max_wait: None,
        retries: None,
        retry_delay: None,
        longest_delay: None,
        attempt_timeout: None,
    }
}

impl<R> Call<R> {
    /// Puts it under a key of this component, with the limits that are said here.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// At most `limit` calls under the key in any window of `period`. One rate more, of at most four.
    pub fn rate(self, limit: u32, period: Duration) -> Self {
        self.rate_of(Rate::window(limit, period))
    }

    /// As [`rate`](Self::rate), of another kind: smooth, or counting cost.
    pub fn rate_of(mut self, rate: Rate) -> Self {
        self.limits = self.limits.rate(rate);
        self
    }

    /// At most so many calls under the key at once, each until its response body has ended.
    pub fn parallelism(mut self, calls: u32) -> Self {
        self.limits = self.limits.concurrency(calls);
        self
    }

    /// Puts it under a scope, whose limits stand in the rule book. The key is then one of that scope.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Names the limit key under the scope, which must be named too: `l1` or `l1/l2`.
    pub fn limit_key(mut self, limit_key: impl Into<String>) -> Self {
        self.limit_key = Some(limit_key.into());
        self
    }

    /// Takes `cost` units instead of 1 of every limit that counts cost.
    pub fn cost(mut self, cost: u32) -> Self {
        self.cost = Some(cost);
        self
    }

    /// Is served before those of a lower priority that wait for the same: 255 first, 0 last. Default: 128.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Bounds the wait of each attempt for its turn. Default: the rule's, else 60 s.
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// Sends it up to so many times more, at most 100, where there is no response or one of the status 429 or 5xx. Its body
    /// may then have 1 MiB. Default: 0.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// How long to back off before each retry; `Retry-After` makes it longer. Default: 1 s, then twice as long each time.
    pub fn retry_delay(mut self, delay: RetryDelay) -> Self {
        self.retry_delay = Some(delay);
        self
    }

    /// The longest back-off; a response that asks for more is the answer. Default: 60 s, at most 1 h.
    pub fn longest_delay(mut self, longest: Duration) -> Self {
        self.longest_delay = Some(longest);
        self
    }

    /// How long each attempt may take from its turn to the head of the response: 1 ms to 1 h. Default: no bound.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }
}
