//! A guest's CPU time, by epoch ticks.
//!
//! A ticker advances the epoch every millisecond; a guest that runs across a tick calls back. Each call-back costs one
//! tick of the budget. A guest that has run through a whole tick also yields, so that its neighbours on the thread run;
//! one that has only come back from a wait, to find ticks gone by, does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::UpdateDeadline;

/// The guest used up its CPU time.
#[derive(Debug, thiserror::Error)]
#[error("the guest used its {} of CPU time for one request", weir_engine::format_duration(*.budget))]
pub(crate) struct CpuExceeded {
    budget: Duration,
}

pub(crate) struct CpuMeter {
    /// The runtime's count of ticks.
    ticks: Arc<AtomicU64>,
    budget: Duration,
    budget_ticks: u64,
    used: u64,
    last: u64,
}

impl CpuMeter {
    pub(crate) fn new(ticks: Arc<AtomicU64>, tick: Duration, budget: Duration) -> Self {
        let budget_ticks = budget.as_nanos().div_ceil(tick.as_nanos().max(1));
        Self { ticks, budget, budget_ticks: u64::try_from(budget_ticks).unwrap_or(u64::MAX), used: 0, last: 0 }
    }

    /// A request starts: the budget is whole again.
    pub(crate) fn restart(&mut self) {
        self.used = 0;
        self.last = self.ticks.load(Ordering::Relaxed);
    }

    /// The epoch has advanced under the running guest.
    pub(crate) fn tick(&mut self) -> Result<UpdateDeadline, CpuExceeded> {
        let now = self.ticks.load(Ordering::Relaxed);
        let ran_through = now.wrapping_sub(self.last) <= 1;
        self.last = now;
        self.used += 1;
        if self.used > self.budget_ticks {
            Err(CpuExceeded { budget: self.budget })
        } else if ran_through {
            Ok(UpdateDeadline::Yield(1))
        } else {
            Ok(UpdateDeadline::Continue(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_stopped_when_its_budget_is_used() {
        let ticks = Arc::new(AtomicU64::new(7));
        let mut meter = CpuMeter::new(ticks.clone(), Duration::from_millis(1), Duration::from_millis(3));
        meter.restart();
        for _ in 0..3 {
            ticks.fetch_add(1, Ordering::Relaxed);
            assert!(matches!(meter.tick(), Ok(UpdateDeadline::Yield(1))));
        }
        ticks.fetch_add(1, Ordering::Relaxed);
        let error = meter.tick().err().expect("nothing is left");
        assert_eq!(error.to_string(), "the guest used its 3ms of CPU time for one request");
        meter.restart();
        assert!(meter.tick().is_ok());
    }

    #[test]
    fn a_guest_back_from_a_wait_does_not_yield() {
        let ticks = Arc::new(AtomicU64::new(0));
        let mut meter = CpuMeter::new(ticks.clone(), Duration::from_millis(1), Duration::from_secs(1));
        meter.restart();
        ticks.store(100, Ordering::Relaxed);
        assert!(matches!(meter.tick(), Ok(UpdateDeadline::Continue(1))));
        ticks.store(101, Ordering::Relaxed);
        assert!(matches!(meter.tick(), Ok(UpdateDeadline::Yield(1))));
    }
}
