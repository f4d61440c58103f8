//! What was started at one counter: a history for each mode, period and counting, and for each pace of a smooth rate.
//!
//! Histories belong to their counter, not to a rule: they survive edits of a limit, a disabled and a deleted rule, until
//! they age out. A rate asks the history of its kind; where there is none, nothing was started under it yet.
//!
//! Where callers bring their own numbers, requests of several kinds meet at one counter: each start is then written into
//! every history that is there, so that a kind sees all that has started since it first did. Who brings another is admitted
//! where there is room among [`MAX_KINDS`]. One that nobody has brought since what had started by then has aged out gives its place to another kind, though
//! what others start is still written into it: limits that callers change all the time must not close the key.
//!
//! Under a rule there is one pace at a time: when that changes, what is still to drain goes on at the new one.

use crate::acquire::units;
use crate::journal::{RateKind, SmoothState};
use crate::limits::{Counts, Limits, Mode, Rate};
use crate::planted::{self, Bug};
use crate::smooth::{self, Arrival};
use crate::window::Window;
use smallvec::SmallVec;
use std::num::NonZeroU32;

/// The most kinds (mode, period, counting, and pace of a smooth one) of rates that have their places at one inline key.
pub const MAX_KINDS: usize = 8;

/// What one rate remembers.
#[derive(Debug, Clone)]
enum Starts {
    Window(Box<Window>),
    Smooth(Arrival),
}

/// The history of one kind.
#[derive(Debug, Clone)]
struct History {
    /// Tells it from all others that its counter ever had.
    id: u32,
    counts: Counts,
    period: u64,
    /// When what had started by its own last start ages out.
    needed_until: u64,
    starts: Starts,
}

impl History {
    fn is_of(&self, rate: &Rate) -> bool {
        self.is_like(rate)
            && match &self.starts {
                Starts::Window(_) => true,
                Starts::Smooth(arrival) => {
                    arrival.interval == rate.interval_nanos() || planted::is(Bug::PacesShareHistory)
                }
            }
    }

    /// Whether it is of that rate at whatever pace.
    fn is_like(&self, rate: &Rate) -> bool {
        let mode = match self.starts {
            Starts::Window(_) => Mode::Window,
            Starts::Smooth(_) => Mode::Smooth,
        };
        (mode, self.period, self.counts) == (rate.mode, rate.period_nanos(), rate.counts)
    }

    /// Whether its place at an inline key is taken.
    fn is_needed(&self, now: u64) -> bool {
        self.needed_until > now
    }

    /// Forgets what has left its window.
    fn forget(&mut self, now: u64) {
        if let Starts::Window(window) = &mut self.starts {
            window.used(now, self.period);
        }
    }

    /// Writes units down; answers how many a smooth one has had with them.
    fn push(&mut self, units: u64, now: u64) -> u64 {
        match &mut self.starts {
            Starts::Window(window) => {
                window.record(now, self.period, units);
                0
            }
            Starts::Smooth(arrival) => {
                arrival.push(units, now);
                arrival.started
            }
        }
    }

    /// From when on it equals no history at all.
    fn ends_at(&self) -> u64 {
        match &self.starts {
            Starts::Window(window) => window.ends_at(self.period).unwrap_or(0),
            Starts::Smooth(arrival) => arrival.at,
        }
    }
}

/// How a rate stands towards `need` more units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateVerdict {
    Fits,
    /// They fit at this instant if nothing else starts.
    NotUntil(u64),
    Never,
}

/// Where a start of cost is written down, so that it can be taken back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    history: u32,
    /// Units of it that have not been taken back.
    left: u32,
    /// The units started there so far, this one included.
    number: u64,
    /// When.
    at: u64,
}

impl Start {
    /// Whether any of it has not been taken back.
    pub(crate) fn is_left(&self) -> bool {
        self.left > 0
    }
}

/// What was taken back: from which history, from a start at which instant, how many units.
pub(crate) type Taken = SmallVec<[(u32, u64, u64); 2]>;

/// A history as it must survive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Touched {
    pub(crate) id: u32,
    pub(crate) kind: RateKind,
    pub(crate) smooth: Option<SmoothState>,
    /// The limit of the rate that it is of, among those that were asked about.
    pub(crate) limit: Option<NonZeroU32>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histories {
    all: SmallVec<[History; 1]>,
    next_id: u32,
    /// The log entries that the shard has booked for them.
    logged: u32,
}

impl Histories {
    /// Whether `need` more units of `rate` fit now. No effect but forgetting what has left the window.
    pub(crate) fn ask(&mut self, rate: &Rate, now: u64, need: u32) -> RateVerdict {
        // Who needs nothing is not in the way of a limit, nor it in theirs, even where more was started than it now allows.
        let Some(units) = NonZeroU32::new(need) else { return RateVerdict::Fits };
        match rate.mode {
            Mode::Window => {
                let period = rate.period_nanos();
                let history = self.all.iter_mut().find(|history| history.is_of(rate));
                let limit = u64::from(rate.limit.get());
                let need = u64::from(need);
                if need > limit {
                    return RateVerdict::Never;
                }
                let Some(History { starts: Starts::Window(window), .. }) = history else { return RateVerdict::Fits };
                if window.used(now, period) + need <= limit {
                    return RateVerdict::Fits;
                }
                window.fits_at(now, period, need, limit).map_or(RateVerdict::Never, RateVerdict::NotUntil)
            }
            Mode::Smooth => match smooth::ask(rate, self.arrival(rate).map_or(0, |arrival| arrival.at), now, units) {
                smooth::Verdict::Fits => RateVerdict::Fits,
                smooth::Verdict::NotUntil(at) => RateVerdict::NotUntil(at),
                smooth::Verdict::Never => RateVerdict::Never,
            },
        }
    }

    /// Whether there is one of this rate.
    pub(crate) fn knows(&self, rate: &Rate) -> bool {
        self.all.iter().any(|history| history.is_of(rate))
    }

    /// How a smooth rate stands, if any was started.
    fn arrival(&self, rate: &Rate) -> Option<&Arrival> {
        self.all.iter().find(|history| history.is_of(rate)).and_then(|history| match &history.starts {
            Starts::Smooth(arrival) => Some(arrival),
            Starts::Window(_) => None,
        })
    }

    /// Writes down that so much starts now under `limits`, whatever they allow, and `beside`: in every other history that is
    /// there. What counts cost is given to `note`. Answers whether anything was written down.
    pub(crate) fn start_all(
        &mut self,
        limits: &Limits,
        beside: bool,
        now: u64,
        (calls, cost): (u32, u32),
        mut note: impl FnMut(Start),
    ) -> bool {
        let mut any = false;
        if beside {
            for history in &mut self.all {
                let need = units(history.counts, (calls, cost));
                if need == 0 {
                    continue;
                }
                if limits.rates.iter().any(|rate| history.is_of(rate)) {
                    // Or it would make room for another rate of the same request.
                    history.needed_until = history.needed_until.max(now + 1);
                    continue;
                }
                any = true;
                // Nobody may ask it for long, and that must not pile up.
                history.forget(now);
                let number = history.push(u64::from(need), now);
                if history.counts == Counts::Cost {
                    note(Start { history: history.id, left: need, number, at: now });
                }
            }
        }
        for rate in &limits.rates {
            let start = self.start(rate, beside, now, units(rate.counts, (calls, cost)));
            any |= start.is_some();
            start.filter(|_| rate.counts == Counts::Cost).map(&mut note);
        }
        any
    }

    /// Writes down that `need` units of `rate` start now, whatever it allows, and answers where.
    ///
    /// `beside`: where callers bring their own numbers.
    pub(crate) fn start(&mut self, rate: &Rate, beside: bool, now: u64, need: u32) -> Option<Start> {
        let need = NonZeroU32::new(need)?;
        let index = match self.all.iter().position(|history| history.is_of(rate)) {
            Some(index) => index,
            None => {
                if self.all.len() >= MAX_KINDS {
                    self.all.retain(|history| if beside { history.is_needed(now) } else { history.ends_at() > now });
                }
                let starts = match rate.mode {
                    Mode::Window => Starts::Window(Box::default()),
                    Mode::Smooth => Starts::Smooth(Arrival::new(rate.interval_nanos())),
                };
                self.next_id = self.next_id.wrapping_add(1);
                let (period, counts) = (rate.period_nanos(), rate.counts);
                self.all.push(History { id: self.next_id, period, counts, needed_until: 0, starts });
                self.all.len() - 1
            }
        };
        let history = &mut self.all[index];
        let number = history.push(u64::from(need.get()), now);
        history.needed_until = history.ends_at();
        Some(Start { history: history.id, left: need.get(), number, at: now })
    }

    /// All of them, with those rates of `limits` that they are of. `paces`: there may be several of a kind but for their pace.
    pub(crate) fn touched(&self, limits: &Limits, paces: bool) -> impl Iterator<Item = Touched> {
        self.all.iter().map(move |history| {
            let (mode, smooth) = match &history.starts {
                Starts::Window(_) => (Mode::Window, None),
                Starts::Smooth(arrival) => (Mode::Smooth, Some(arrival.state())),
            };
            let pace = smooth.filter(|_| paces).map_or(0, |smooth| smooth.interval);
            Touched {
                id: history.id,
                kind: RateKind { mode, period: history.period, counts: history.counts, pace },
                smooth,
                limit: limits.rates.iter().find(|rate| history.is_of(rate)).map(|rate| rate.limit),
            }
        })
    }

    /// Puts a history back as it was written down: its starts in order, or how it stands if it is smooth; and `booked` units
    /// at `now` besides. Answers which it is; `None`: nothing of it counts any more.
    pub(crate) fn restore(
        &mut self,
        kind: RateKind,
        starts: &[(u64, u64)],
        smooth: Option<SmoothState>,
        booked: u32,
        now: u64,
    ) -> Option<u32> {
        let started = !starts.is_empty() || smooth.is_some_and(|smooth| smooth.arrival > now);
        let starts = match kind.mode {
            Mode::Window => {
                let mut window = Window::default();
                let booked = (booked > 0).then_some((now, u64::from(booked)));
                for (at, units) in starts.iter().copied().filter(|(at, _)| *at <= now).chain(booked) {
                    window.record(at, kind.period, units);
                }
                Starts::Window(Box::new(window))
            }
            Mode::Smooth => {
                let mut arrival = Arrival::restored(smooth?, now)?;
                arrival.push(u64::from(booked), now);
                Starts::Smooth(arrival)
            }
        };
        self.next_id = self.next_id.wrapping_add(1);
        let mut history =
            History { id: self.next_id, counts: kind.counts, period: kind.period, needed_until: 0, starts };
        // What is only booked takes no place.
        if started {
            history.needed_until = history.ends_at();
        }
        (history.ends_at() > now).then(|| {
            self.all.push(history);
            self.next_id
        })
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// When there is room for the kinds of these rates beside those whose place is taken. `None`: now.
    pub(crate) fn has_room_at(&self, limits: &Limits, now: u64) -> Option<u64> {
        let has_place = |rate: &Rate| self.all.iter().any(|history| history.is_needed(now) && history.is_of(rate));
        let new = limits.rates.iter().filter(|rate| !has_place(rate)).count();
        let over = (self.living(now) + new).saturating_sub(MAX_KINDS);
        if new == 0 || over == 0 {
            return None;
        }
        // Those of the request itself make no room: one that ends is a new one then.
        let others = self.all.iter().filter(|history| !limits.rates.iter().any(|rate| history.is_of(rate)));
        let ends = others.map(|history| history.needed_until).filter(|end| *end > now);
        let mut ends: SmallVec<[u64; MAX_KINDS]> = ends.collect();
        ends.sort_unstable();
        ends.get(over - 1).copied()
    }

    /// How many places are taken.
    pub(crate) fn living(&self, now: u64) -> usize {
        self.all.iter().filter(|history| history.is_needed(now)).count()
    }

    /// Takes `units` back from each history that the starts of a lease here were written into, the latest starts first,
    /// as far as they still count.
    ///
    /// What was taken is noted in `noted`.
    pub(crate) fn refund<'a>(
        &mut self,
        starts: impl DoubleEndedIterator<Item = &'a mut Start>,
        units: u32,
        now: u64,
        noted: &mut Taken,
    ) {
        let mut taken: SmallVec<[(u32, u32); 2]> = SmallVec::new();
        for start in starts.rev() {
            let Some(history) = self.all.iter_mut().find(|history| history.id == start.history) else { continue };
            let before = match taken.iter_mut().find(|(id, _)| *id == start.history) {
                Some((_, before)) => before,
                None => {
                    taken.push((start.history, 0));
                    let Some((_, before)) = taken.last_mut() else { continue };
                    before
                }
            };
            let take = start.left.min(units - *before);
            *before += take;
            start.left -= if planted::is(Bug::RefundTwice) { 0 } else { take };
            let back = match &mut history.starts {
                Starts::Window(window) => window.refund(start.at, u64::from(take), now, history.period),
                Starts::Smooth(arrival) => arrival.refund(&mut start.number, u64::from(take), now),
            };
            // Its place goes with what is no longer there.
            history.needed_until = history.needed_until.min(history.ends_at());
            noted.push((history.id, start.at, back));
        }
    }

    /// Units of `rate` in use now, for show.
    pub(crate) fn used(&mut self, rate: &Rate, now: u64) -> u64 {
        if rate.mode == Mode::Smooth {
            return self.arrival(rate).map_or(0, |arrival| arrival.used(now));
        }
        match self.all.iter_mut().find(|history| history.is_of(rate)) {
            Some(History { starts: Starts::Window(window), period, .. }) => window.used(now, *period),
            _ => 0,
        }
    }

    /// Whether any is of a smooth rate.
    pub(crate) fn has_smooth(&self) -> bool {
        self.all.iter().any(|history| matches!(history.starts, Starts::Smooth(_)))
    }

    /// The smooth ones do not drain from one instant to another.
    pub(crate) fn stand_still(&mut self, from: u64, to: u64) {
        for history in &mut self.all {
            if let Starts::Smooth(arrival) = &mut history.starts
                && arrival.at > from
            {
                arrival.at = arrival.at.saturating_add(to.saturating_sub(from));
            }
        }
    }

    /// Puts the smooth ones at the pace of these limits from `changed` on; whether that was another for any.
    pub(crate) fn at_pace_of(&mut self, limits: &Limits, changed: u64) -> bool {
        let mut any = false;
        for history in &mut self.all {
            let rate = limits.rates.iter().find(|rate| history.is_like(rate));
            if let (Starts::Smooth(arrival), Some(rate)) = (&mut history.starts, rate) {
                any |= arrival.interval != rate.interval_nanos();
                *arrival = arrival.at_pace(rate.interval_nanos(), changed);
            }
        }
        any
    }

    /// The log entries that the shard has booked for them.
    #[inline]
    pub(crate) fn logged(&self) -> usize {
        self.logged as usize
    }

    pub(crate) fn set_logged(&mut self, entries: usize) {
        self.logged = u32::try_from(entries).unwrap_or(u32::MAX);
    }

    /// Entries of all its logs.
    pub(crate) fn log_entries(&self) -> usize {
        let entries = self.all.iter().map(|history| match &history.starts {
            Starts::Window(window) => window.len(),
            Starts::Smooth(_) => 0,
        });
        entries.sum()
    }

    /// Forgets what has left its windows.
    pub(crate) fn forget(&mut self, now: u64) {
        self.all.iter_mut().for_each(|history| history.forget(now));
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    /// When all of it has aged out. In the past: it has.
    pub(crate) fn ends_at(&self) -> u64 {
        self.all.iter().map(History::ends_at).max().unwrap_or(0)
    }
}
