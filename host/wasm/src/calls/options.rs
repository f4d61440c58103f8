//! The resource `call-options`: what a guest says of a call beyond its request.
//!
//! Checked as it comes in, as in [`crate::options`]: a setter cannot answer, so the first thing that is wrong is kept, and is
//! what the call answers.

use super::bindings::weir::calls::calls as wit;
use super::retry::{Delay, Retry};
use crate::bindings::weir::flow::types::FlowLimits;
use crate::convert::flow_limits;
use crate::view::FlowCtxView;
use std::error::Error;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;
use wasmtime::component::Resource;
use weir_engine::{CounterName, Limits, ScopedKey};

/// The most retries of one call: with back-off, its request ends long before.
const MAX_RETRIES: u32 = 100;
/// The longest back-off that can be asked for.
const MAX_DELAY: Duration = Duration::from_secs(60 * 60);
/// How long an attempt may be given: below it nobody answers.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
/// How steeply delays may grow.
const FACTORS: RangeInclusive<f32> = 1.0..=100.0;

/// What a guest collected in a `call-options`.
#[derive(Debug, Default)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct CallOptionsEntry {
    /// The scope is not known yet.
    pub(super) key: Option<(String, Limits)>,
    pub(super) scope: Option<ScopedKey>,
    pub(super) cost: Option<NonZeroU32>,
    pub(super) priority: Option<u8>,
    pub(super) max_wait: Option<Duration>,
    pub(super) retry: Retry,
    pub(super) attempt_timeout: Option<Duration>,
    /// The first thing that is wrong.
    pub(super) wrong: Option<String>,
}

impl CallOptionsEntry {
    fn set_key(&mut self, key: String, limits: &FlowLimits) {
        // Any scope will do to check the key.
        if let Err(error) = CounterName::inline("scope", &key) {
            return self.is_wrong(&error);
        }
        let limits = match flow_limits(limits) {
            Ok(limits) => limits,
            Err(error) => return self.is_wrong(&error),
        };
        match limits.validate() {
            Ok(()) => self.key = Some((key, limits)),
            Err(error) => self.is_wrong(&error),
        }
    }

    fn set_scope(&mut self, scope: &str, limit_key: Option<&str>) {
        match ScopedKey::new(scope, limit_key) {
            Ok(key) => self.scope = Some(key),
            Err(error) => self.is_wrong(&error),
        }
    }

    fn set_cost(&mut self, cost: u32) {
        self.cost = NonZeroU32::new(cost);
        if cost == 0 {
            self.says("the cost is 0; it must be at least 1".to_owned());
        }
    }

    fn set_retries(&mut self, retries: u32) {
        self.retry.retries = retries.min(MAX_RETRIES);
        if retries > MAX_RETRIES {
            self.says(format!("{retries} retries: at most {MAX_RETRIES}"));
        }
    }

    fn set_retry_delay(&mut self, delay: wit::RetryDelay) {
        self.retry.delay = match delay {
            wit::RetryDelay::Fixed(delay) => Delay::Fixed(self.delay("retry delay", delay)),
            wit::RetryDelay::Exponential(wit::ExponentialDelay { first, factor }) => {
                // Nor is NaN among them.
                if !FACTORS.contains(&factor) {
                    self.says(format!("a factor of {factor} is out of bounds: 1 to 100"));
                }
                Delay::Exponential { first: self.delay("retry delay", first), factor }
            }
        };
    }

    fn set_longest_delay(&mut self, longest: u64) {
        self.retry.longest = self.delay("longest delay", longest);
    }

    fn set_attempt_timeout(&mut self, timeout: u64) {
        let timeout = Duration::from_nanos(timeout);
        self.attempt_timeout = Some(timeout);
        if !TIMEOUTS.contains(&timeout) {
            let timeout = weir_engine::format_duration(timeout);
            self.says(format!("an attempt timeout of {timeout} is out of bounds: 1ms to 1h"));
        }
    }

    fn delay(&mut self, what: &str, nanoseconds: u64) -> Duration {
        let delay = Duration::from_nanos(nanoseconds);
        if delay > MAX_DELAY {
            self.says(format!("a {what} of {} is out of bounds: at most 1h", weir_engine::format_duration(delay)));
        }
        delay.min(MAX_DELAY)
    }

    fn is_wrong(&mut self, error: &dyn Error) {
        self.says(error.to_string());
    }

    fn says(&mut self, wrong: String) {
        self.wrong.get_or_insert(wrong);
    }
}

impl wit::HostCallOptions for FlowCtxView<'_> {
    fn new(&mut self) -> wasmtime::Result<Resource<CallOptionsEntry>> {
        // A constructor has no way to refuse: past the table's capacity this is a trap.
        Ok(self.table.push(CallOptionsEntry::default())?)
    }

    fn set_key(
        &mut self,
        options: Resource<CallOptionsEntry>,
        key: String,
        limits: FlowLimits,
    ) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.set_key(key, &limits);
        Ok(())
    }

    fn set_scope(
        &mut self,
        options: Resource<CallOptionsEntry>,
        scope: String,
        limit_key: Option<String>,
    ) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.set_scope(&scope, limit_key.as_deref());
        Ok(())
    }

    fn set_cost(&mut self, options: Resource<CallOptionsEntry>, cost: u32) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.set_cost(cost);
        Ok(())
    }

    fn set_priority(&mut self, options: Resource<CallOptionsEntry>, priority: u8) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.priority = Some(priority);
        Ok(())
    }

    fn set_max_wait(&mut self, options: Resource<CallOptionsEntry>, max_wait: u64) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.max_wait = Some(Duration::from_nanos(max_wait));
        Ok(())
    }

    fn set_retries(&mut self, options: Resource<CallOptionsEntry>, retries: u32) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.set_retries(retries);
        Ok(())
    }

    fn set_retry_delay(&mut self, options: Resource<CallOptionsEntry>, delay: wit::RetryDelay) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.set_retry_delay(delay);
        Ok(())
    }

    fn set_longest_delay(&mut self, options: Resource<CallOptionsEntry>, longest: u64) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.set_longest_delay(longest);
        Ok(())
    }

    fn set_attempt_timeout(&mut self, options: Resource<CallOptionsEntry>, timeout: u64) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.set_attempt_timeout(timeout);
        Ok(())
    }

    fn drop(&mut self, options: Resource<CallOptionsEntry>) -> wasmtime::Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn wrong(set: impl FnOnce(&mut CallOptionsEntry)) -> Option<String> {
        let mut options = CallOptionsEntry::default();
        set(&mut options);
        options.wrong
    }

    fn exponential(first: u64, factor: f32) -> wit::RetryDelay {
        wit::RetryDelay::Exponential(wit::ExponentialDelay { first, factor })
    }

    #[test]
    fn every_number_goes_up_to_its_bound() {
        assert_eq!(
            [0, 1, 100, 101, u32::MAX].map(|n| wrong(|o| o.set_retries(n)).is_none()),
            [true, true, true, false, false]
        );
        assert_eq!([0, 1, u32::MAX].map(|n| wrong(|o| o.set_cost(n)).is_none()), [false, true, true]);
        let delays = [0, 1, HOUR, HOUR + 1, u64::MAX];
        let fine = [true, true, true, false, false];
        assert_eq!(delays.map(|n| wrong(|o| o.set_retry_delay(wit::RetryDelay::Fixed(n))).is_none()), fine);
        assert_eq!(delays.map(|n| wrong(|o| o.set_retry_delay(exponential(n, 2.0))).is_none()), fine);
        assert_eq!(delays.map(|n| wrong(|o| o.set_longest_delay(n)).is_none()), fine);
        let timeouts = [0, 999_999, 1_000_000, HOUR, HOUR + 1, u64::MAX];
        assert_eq!(
            timeouts.map(|n| wrong(|o| o.set_attempt_timeout(n)).is_none()),
            [false, false, true, true, false, false]
        );
        let factors = [f32::NAN, f32::NEG_INFINITY, -1.0, 0.0, 0.99, 1.0, 100.0, 100.1, f32::INFINITY];
        assert_eq!(
            factors.map(|factor| wrong(|o| o.set_retry_delay(exponential(1, factor))).is_none()),
            [false, false, false, false, false, true, true, false, false]
        );
    }

    #[test]
    fn the_first_thing_that_is_wrong_is_told() {
        let said = wrong(|options| {
            options.set_scope("a b", None);
            options.set_retries(101);
        });
        assert!(said.is_some_and(|said| said.contains("byte 0x20")));
    }
}
