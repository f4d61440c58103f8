//! Whether a call is sent again, and when.
//!
//! # A worked example
//! Exponential from 1 s, factor 2, longest 60 s, three retries. The first attempt is answered 500: 1 s. The second 429 with
//! `Retry-After: 20`: 20 s, and the next would be 4 s again. The third 503 with `Retry-After: 3600`: that is more than this call waits, so
//! the 503 is the answer.

use backon::{Backoff, BackoffBuilder as _, ConstantBuilder, ExponentialBuilder};
use http::StatusCode;
use std::time::Duration;
use wasmtime_wasi_http::Error;

/// The longest back-off where the guest says nothing: as long as a pushback holds where no rule says otherwise.
const LONGEST: Duration = Duration::from_secs(60);
/// The first back-off where the guest says nothing.
const FIRST: Duration = Duration::from_secs(1);
/// How much longer each is than the one before, where the guest says nothing.
const FACTOR: f32 = 2.0;

/// How often a call is sent again, and how far apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Retry {
    pub(super) retries: u32,
    pub(super) delay: Delay,
    pub(super) longest: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Delay {
    Fixed(Duration),
    Exponential { first: Duration, factor: f32 },
}

impl Default for Retry {
    fn default() -> Self {
        Self { retries: 0, delay: Delay::Exponential { first: FIRST, factor: FACTOR }, longest: LONGEST }
    }
}

impl Retry {
    /// The delays of one call.
    pub(super) fn delays(&self) -> Delays {
        let retries = usize::try_from(self.retries).unwrap_or(usize::MAX);
        let delays: Box<dyn Backoff> = match self.delay {
            Delay::Fixed(delay) => Box::new(ConstantBuilder::new().with_delay(delay).with_max_times(retries).build()),
            Delay::Exponential { first, factor } => Box::new(
                ExponentialBuilder::new()
                    .with_min_delay(first)
                    .with_factor(factor)
                    .with_max_delay(self.longest)
                    .with_max_times(retries)
                    .build(),
            ),
        };
        Delays { delays, longest: self.longest }
    }
}

/// The delays that are left.
pub(super) struct Delays {
    delays: Box<dyn Backoff>,
    longest: Duration,
}

impl Delays {
    /// How long to back off before the next attempt; none: there is no next. `asked` is what the upstream asks for.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let asked = asked.unwrap_or_default();
        if asked > self.longest {
            return None;
        }
        self.delays.next().map(|delay| delay.min(self.longest).max(asked))
    }
}

/// Whether the same request may get another answer.
pub(super) fn may_pass(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// Whether the same request may get a response: not where it is at fault itself, or where it goes to.
pub(super) fn may_get_through(error: &Error) -> bool {
    !matches!(
        error,
        Error::DestinationIpProhibited
            | Error::TlsCertificateError
            | Error::HttpRequestDenied
            | Error::HttpRequestLengthRequired
            | Error::HttpRequestBodySize(_)
            | Error::HttpRequestMethodInvalid
            | Error::HttpRequestUriInvalid
            | Error::HttpRequestUriTooLong
            | Error::HttpRequestHeaderSectionSize(_)
            | Error::HttpRequestHeaderSize { .. }
            | Error::HttpRequestTrailerSectionSize(_)
            | Error::HttpRequestTrailerSize { .. }
            | Error::LoopDetected
            | Error::ConfigurationError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn all(retry: &Retry, asked: Option<Duration>) -> Vec<Duration> {
        let mut delays = retry.delays();
        std::iter::from_fn(|| delays.next(asked)).collect()
    }

    #[test]
    fn there_are_as_many_as_retries() {
        for retries in [0, 1, 100] {
            for delay in [Delay::Fixed(secs(0)), Delay::Exponential { first: secs(0), factor: 1.0 }] {
                let retry = Retry { retries, delay, ..Retry::default() };
                assert_eq!(all(&retry, None).len(), retries as usize);
            }
        }
        assert!(all(&Retry::default(), None).is_empty(), "none by default");
    }

    #[test]
    fn delays_grow_up_to_the_longest() {
        let retry = Retry { retries: 9, ..Retry::default() };
        assert_eq!(all(&retry, None), [1, 2, 4, 8, 16, 32, 60, 60, 60].map(secs));
        let steep =
            Retry { retries: 3, delay: Delay::Exponential { first: secs(3600), factor: 100.0 }, longest: secs(5) };
        assert_eq!(all(&steep, None), [5, 5, 5].map(secs));
        let fixed = Retry { retries: 2, delay: Delay::Fixed(Duration::from_nanos(7)), ..Retry::default() };
        assert_eq!(all(&fixed, None), [Duration::from_nanos(7); 2]);
    }

    #[test]
    fn what_the_upstream_asks_for_is_a_floor_and_not_cut() {
        let retry = Retry { retries: 3, ..Retry::default() };
        assert_eq!(all(&retry, Some(secs(3))), [3, 3, 4].map(secs));
        assert_eq!(all(&retry, Some(secs(60))), [60, 60, 60].map(secs));
        assert!(all(&retry, Some(secs(61))).is_empty());
        assert!(all(&retry, Some(Duration::MAX)).is_empty());
        let mut delays = retry.delays();
        assert_eq!(
            [delays.next(None), delays.next(Some(secs(20))), delays.next(None), delays.next(None)],
            [Some(secs(1)), Some(secs(20)), Some(secs(4)), None]
        );
    }

    #[test]
    fn what_is_at_fault_itself_is_not_sent_again() {
        for (status, again) in
            [(200, false), (301, false), (404, false), (408, false), (429, true), (500, true), (599, true)]
        {
            assert_eq!(may_pass(StatusCode::from_u16(status).unwrap()), again, "{status}");
        }
        assert!(may_get_through(&Error::ConnectionRefused) && may_get_through(&Error::HttpResponseTimeout));
        assert!(!may_get_through(&Error::HttpRequestDenied) && !may_get_through(&Error::DestinationIpProhibited));
    }
}
