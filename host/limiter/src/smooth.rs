//! Smooth rates: GCRA, computed by the `governor` crate over a plain number.
//!
//! The generic cell rate algorithm keeps one number: the theoretical arrival time of the next unit. Whether more fit is
//! for `governor` to say, but it has no peek: asking is taking. So it gets a [`StateStore`] that lends it the counter's
//! number and drops what it would write; what starts is written by [`Arrival::push`] once every other constraint has
//! passed too.
//!
//! At most `burst` units start at once, and at most `burst + limit x t / period` in any window of length t. The interval
//! between units is rounded up to a whole nanosecond: never over, and under by at most 0.1 %, else the rate is refused.
//! `governor` takes one unit as the least burst, and n units at once when n - 1 intervals fit the tolerance.

use crate::journal::SmoothState;
use crate::limits::{MAX_PERIOD, Rate};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// How far ahead of now a rate is driven, in nanoseconds: two hundred years and less than an interval, of which none is
/// longer than 366 days. An overrun is not asked about, so it may be any number of units: those that would drain later are
/// counted apart. Together with the hundred years that a burst may take to refill, sums stay within 64 bits.
const MAX_AHEAD: u64 = 200 * 366 * 24 * 60 * 60 * 1_000_000_000;

/// What a smooth rate says to `units` more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fits,
    /// Not before this instant.
    NotUntil(u64),
    /// Never: more than the burst, or not before the end of time.
    Never,
}

/// What a smooth rate remembers: when its next unit would be on time, at so many nanoseconds a unit.
///
/// Debts of centuries are forgiven two hundred years after the last start, and not before: a start that is settled to
/// billions of units and then back to one leaves the one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// 0 when it was never used. The last instant of all: it drains no more.
    pub(crate) at: u64,
    pub(crate) interval: NonZeroU64,
    /// Units ever started.
    pub(crate) started: u64,
    /// Units that drain after `at`, since it is as far ahead as it can be.
    beyond: u64,
}

impl Arrival {
    /// Of a rate that was never used.
    pub(crate) fn new(interval: NonZeroU64) -> Self {
        Self { at: 0, interval, started: 0, beyond: 0 }
    }

    /// As it was written down. `None`: no rate goes at that pace.
    pub(crate) fn restored(state: SmoothState, now: u64) -> Option<Self> {
        let interval =
            NonZeroU64::new(state.interval).filter(|interval| u128::from(interval.get()) <= MAX_PERIOD.as_nanos())?;
        let mut arrival = Self { at: state.arrival, interval, started: 0, beyond: state.beyond };
        arrival.set_ahead(arrival.ahead(now), now);
        Some(arrival)
    }

    /// To be written down.
    pub(crate) fn state(&self) -> SmoothState {
        SmoothState { arrival: self.at, interval: self.interval.get(), beyond: self.beyond }
    }

    /// Adds units that start now, asked about or not: the next ones come later.
    pub(crate) fn push(&mut self, units: u64, now: u64) {
        self.started = self.started.saturating_add(units);
        self.set_ahead(self.ahead(now) + u128::from(units) * u128::from(self.interval.get()), now);
    }

    /// Takes up to `units` back, the last of a start that ended at unit `number`, as far as they have not drained yet;
    /// answers how many. Of the last start of all the number becomes less by as much.
    ///
    /// Units drain in the order of their starts, so those of the backlog are the last ones started. Earlier refunds out of the
    /// middle make the backlog reach further back than that says: a refund is never too much, and at most that much too little.
    pub(crate) fn refund(&mut self, number: &mut u64, units: u64, now: u64) -> u64 {
        let (ahead, interval) = (self.ahead(now), u128::from(self.interval.get()));
        // Whole units that have not begun to drain.
        let backlog = u64::try_from(ahead / interval).unwrap_or(u64::MAX);
        let undrained = number.saturating_sub(self.started.saturating_sub(backlog));
        let refunded = units.min(undrained);
        if refunded > 0 {
            self.set_ahead(ahead - u128::from(refunded) * interval, now);
        }
        if *number == self.started {
            (*number, self.started) = (*number - refunded, self.started - refunded);
        }
        refunded
    }

    /// What it is at another pace from `now` on: the units that are still to drain stay, and drain at that pace.
    pub(crate) fn at_pace(self, interval: NonZeroU64, now: u64) -> Self {
        let mut changed = Self { interval, ..self };
        if self.at > now && self.interval != interval {
            let (old, new) = (u128::from(self.interval.get()), u128::from(interval.get()));
            let near = (u128::from(self.near(now)) * new).div_ceil(old);
            changed.set_ahead(near.saturating_add(u128::from(self.beyond) * new), now);
        }
        changed
    }

    /// How many units are still to drain at `now`, rounded up.
    pub(crate) fn used(&self, now: u64) -> u64 {
        u64::try_from(self.ahead(now).div_ceil(u128::from(self.interval.get()))).unwrap_or(u64::MAX)
    }

    /// How long all that has started still takes to drain, in nanoseconds.
    fn ahead(&self, now: u64) -> u128 {
        match self.near(now) {
            0 => 0,
            near => u128::from(near) + u128::from(self.beyond) * u128::from(self.interval.get()),
        }
    }

    /// How long until `at`.
    fn near(&self, now: u64) -> u64 {
        if self.at == u64::MAX { u64::MAX } else { self.at.saturating_sub(now) }
    }

    fn set_ahead(&mut self, ahead: u128, now: u64) {
        // Whole units, so that nothing is rounded.
        let beyond = ahead.saturating_sub(u128::from(MAX_AHEAD)) / u128::from(self.interval.get());
        let near = ahead - beyond * u128::from(self.interval.get());
        self.beyond = u64::try_from(beyond).unwrap_or(u64::MAX);
        self.at = now.saturating_add(u64::try_from(near).unwrap_or(u64::MAX));
    }
}

/// Lends one arrival time to `governor`, as it is seen from now.
struct Lent(u64);

impl StateStore for Lent {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        decide(Some(Nanos::new(self.0))).map(|(outcome, _)| outcome)
    }
}

/// It stands at 0, which is now: `governor` adds without looking, and there is no end of time near that.
struct Now;

impl Clock for Now {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(0)
    }
}

/// Asks whether `units` more fit at `now`, with no effect.
pub(crate) fn ask(rate: &Rate, arrival: u64, now: u64, units: NonZeroU32) -> Verdict {
    let burst = rate.burst.unwrap_or(NonZeroU32::MIN);
    if units > burst || arrival == u64::MAX {
        // Asked here: `governor` multiplies before it compares, and a large cost would overflow.
        return Verdict::Never;
    }
    let interval = Duration::from_nanos(rate.interval_nanos().get());
    let Some(quota) = Quota::with_period(interval) else { return Verdict::Never };
    let quota = quota.allow_burst(burst);
    let limiter: RateLimiter<NotKeyed, Lent, Now, NoOpMiddleware<Nanos>> =
        RateLimiter::new(quota, Lent(arrival.saturating_sub(now)), Now);
    match limiter.check_n(units) {
        Ok(Ok(())) => Verdict::Fits,
        Ok(Err(not_until)) => Verdict::NotUntil(now.saturating_add(not_until.earliest_possible().as_u64())),
        Err(_) => Verdict::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Mode;
    use proptest::prelude::*;

    fn rate(limit: u32, period: u64, burst: u32) -> Rate {
        Rate {
            mode: Mode::Smooth,
            burst: NonZeroU32::new(burst),
            ..Rate::window(NonZeroU32::new(limit).unwrap(), Duration::from_nanos(period))
        }
    }

    #[test]
    fn spreads_evenly_after_its_burst() {
        let rate = rate(10, 1_000, 2);
        let mut arrival = Arrival::new(rate.interval_nanos());
        let mut starts = Vec::new();
        for now in 5_000..5_500 {
            if ask(&rate, arrival.at, now, NonZeroU32::MIN) == Verdict::Fits {
                arrival.push(1, now);
                starts.push(now);
            }
        }
        assert_eq!(starts, [5_000, 5_001, 5_100, 5_200, 5_300, 5_400]);
        assert_eq!(arrival.used(5_400), 2);
        assert_eq!(ask(&rate, arrival.at, 5_400, NonZeroU32::new(3).unwrap()), Verdict::Never);
    }

    const YEAR: u64 = 366 * 86_400_000_000_000;

    #[test]
    fn nothing_drives_it_further_ahead_than_can_be_counted() {
        let slow = Rate { counts: crate::Counts::Cost, ..rate(255, YEAR, 255) };
        slow.validate().unwrap();
        let now = 1_800_000_000_000_000_000;
        let interval = slow.interval_nanos();
        let mut arrival = Arrival::new(interval);
        arrival.push(5, now);
        assert_eq!(arrival.used(now), 5);
        let furthest = now + MAX_AHEAD..now + MAX_AHEAD + interval.get();
        for units in [386_202_372, u64::from(u32::MAX), u64::from(u32::MAX)] {
            arrival.push(units, now);
            assert!(furthest.contains(&arrival.at), "{arrival:?}");
            let Verdict::NotUntil(at) = ask(&slow, arrival.at, now, NonZeroU32::new(255).unwrap()) else { panic!() };
            assert!(at > now + MAX_AHEAD / 2 && at <= arrival.at);
        }
        assert_eq!(arrival.used(now), 386_202_377 + 2 * u64::from(u32::MAX));
        // At the slowest pace it is little further ahead, and it drains.
        let slowest = arrival.at_pace(NonZeroU64::new(YEAR).unwrap(), now);
        assert!((now + MAX_AHEAD..now + MAX_AHEAD + YEAR).contains(&slowest.at));
        assert_eq!(
            (slowest.used(now), slowest.at_pace(interval, now).used(now)),
            (arrival.used(now), arrival.used(now))
        );
        assert_eq!(ask(&slow, slowest.at, slowest.at, NonZeroU32::new(255).unwrap()), Verdict::Fits);
        assert_eq!(
            (slowest.used(slowest.at - 1), slowest.used(slowest.at)),
            (1 + slowest.beyond, 0),
            "and is forgiven then"
        );
        // What it gives back is never more than is left to drain.
        let mut given_back = arrival;
        given_back.refund(&mut given_back.started.clone(), u64::MAX, now);
        assert_eq!(given_back.at, now);
    }

    #[test]
    fn a_start_of_centuries_that_is_taken_back_leaves_the_rest() {
        let now = 1_800_000_000_000_000_000;
        let mut arrival = Arrival::new(NonZeroU64::new(YEAR).unwrap());
        arrival.push(1, now);
        arrival.push(2_341_178_250, now);
        let mut number = arrival.started;
        assert_eq!(arrival.refund(&mut number, 2_341_178_244, now), 2_341_178_244);
        assert_eq!(number, 7, "the last start ends there now");
        assert_eq!((arrival.at, arrival.used(now)), (now + 7 * YEAR, 7));
        // Nothing has drained: the first start goes back whole, and then the rest of the last.
        assert_eq!((arrival.refund(&mut 1, 1, now), arrival.used(now)), (1, 6));
        assert_eq!((arrival.refund(&mut number, 6, now), arrival.used(now)), (6, 0));
    }

    /// Pairwise oracle over cumulative units: n units in [t_i, t_j] need n <= burst + (t_j - t_i) / interval.
    fn beside_all_that_has_started(
        (limit, period, burst, start): (u32, u64, u32, u64),
        steps: Vec<(u64, u32)>,
    ) -> Result<(), TestCaseError> {
        let rate = rate(limit, period, burst);
        let interval = u128::from(period.div_ceil(u64::from(limit)));
        let (mut arrival, mut now) = (Arrival::new(rate.interval_nanos()), start);
        let mut starts: Vec<(u64, u32)> = Vec::new();
        for (gap, units) in steps {
            now = now.saturating_add(gap);
            let units = NonZeroU32::new(units).unwrap();
            match ask(&rate, arrival.at, now, units) {
                Verdict::Never => {
                    let drained = starts.iter().fold(u128::from(start), |drained, (at, units)| {
                        drained.max(u128::from(*at)) + u128::from(*units) * interval
                    });
                    prop_assert!(
                        units.get() > burst || drained >= u128::from(u64::MAX),
                        "it drains before the end of time"
                    );
                }
                Verdict::Fits => {
                    arrival.push(u64::from(units.get()), now);
                    starts.push((now, units.get()));
                }
                Verdict::NotUntil(at) => {
                    prop_assert!(at > now);
                    prop_assert!(ask(&rate, arrival.at, at, units) == Verdict::Fits, "admitted at");
                    prop_assert!(matches!(ask(&rate, arrival.at, at - 1, units), Verdict::NotUntil(_)), "denied until");
                }
            }
        }
        for i in 0..starts.len() {
            let mut units = 0u128;
            for (at, cost) in &starts[i..] {
                units += u128::from(*cost);
                let window = u128::from(at - starts[i].0);
                prop_assert!(units * interval <= u128::from(burst) * interval + window, "{units} units in {window} ns");
            }
        }
        Ok(())
    }

    /// Of any order of magnitude.
    fn up_to(most: u64) -> impl Strategy<Value = u64> {
        (0..=most.ilog2()).prop_flat_map(move |bits| (1 << bits)..=most.min((1 << bits) * 2 - 1))
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_share_in_any_window(
            limit in 1u32..50, period in 1_000u64..100_000, burst in 1u32..20, steps in prop::collection::vec((0u64..5_000, 1u32..25), 1..120)
        ) {
            beside_all_that_has_started((limit, period, burst, 1_000_000_000_000), steps)?;
        }

        #[test]
        fn nor_of_any_period_at_the_ends_of_time_or_while_the_clock_stands(
            limit in 1u32..50,
            burst in 1u32..20,
            (period, start, steps) in up_to(YEAR).prop_flat_map(|period| {
                let gap = prop_oneof![Just(0), up_to(period)];
                let start = prop::sample::select(vec![0, 1, u64::MAX - period, u64::MAX]);
                (Just(period), start, prop::collection::vec((gap, 1u32..25), 1..120))
            })
        ) {
            beside_all_that_has_started((limit, period, burst, start), steps)?;
        }
    }
}
