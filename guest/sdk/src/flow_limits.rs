//! Limits that a request brings along, for a key under its own scope.
//!
//! A rule in the operator's book is the same for all. Where the numbers are known to the guest only (each tenant has bought
//! another plan, each provider another quota), the guest brings them with each request, and the host counts who came under
//! the same key. Numbers may change from one request to the next: each is admitted when it fits under its own.
//!
//! Nothing is validated here: the host does, and answers [`Reason::Invalid`](crate::Reason::Invalid).

use std::time::Duration;

/// What a request brings for one inline key. All of it holds; the default limits nothing.
///
/// ```
/// use std::time::Duration;
/// use weir_guest::{FlowLimits, Rate};
///
/// let plan = FlowLimits::new()
///     .concurrency(2)
///     .rate(Rate::window(100, Duration::from_secs(60)))
///     .rate(Rate::smooth(10_000, Duration::from_secs(60)).burst(4_000).counting_cost());
/// let request = weir_guest::acquire("model").flow_control("tenant-7", plan).cost(1_200);
/// # let _ = request;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowLimits {
    pub(crate) concurrency: Option<(u32, Counts)>,
    pub(crate) rates: Vec<Rate>,
}

/// How much may start in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub(crate) limit: u32,
    pub(crate) period: Duration,
    pub(crate) smooth: bool,
    pub(crate) burst: Option<u32>,
    pub(crate) counts: Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    Calls,
    Cost,
}

impl FlowLimits {
    /// No limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// At most so many calls at once; 0 admits none.
    #[must_use]
    pub fn concurrency(mut self, calls: u32) -> Self {
        self.concurrency = Some((calls, Counts::Calls));
        self
    }

    /// At most so many units of cost at once; 0 admits none.
    #[must_use]
    pub fn concurrency_of_cost(mut self, cost: u32) -> Self {
        self.concurrency = Some((cost, Counts::Cost));
        self
    }

    /// One rate more, of at most four. No two may have the same mode, period and counting.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rates.push(rate);
        self
    }
}

impl Rate {
    /// At most `limit` calls in any window of `period`, all at once if need be.
    #[must_use]
    pub fn window(limit: u32, period: Duration) -> Self {
        Self { limit, period, smooth: false, burst: None, counts: Counts::Calls }
    }

    /// One call every `period / limit`.
    #[must_use]
    pub fn smooth(limit: u32, period: Duration) -> Self {
        Self { smooth: true, ..Self::window(limit, period) }
    }

    /// Lets so many units of a smooth rate start at once. Default: 1; must be given where it counts cost.
    #[must_use]
    pub fn burst(self, burst: u32) -> Self {
        Self { burst: Some(burst), ..self }
    }

    /// Counts what the calls cost and not the calls.
    #[must_use]
    pub fn counting_cost(self) -> Self {
        Self { counts: Counts::Cost, ..self }
    }
}
