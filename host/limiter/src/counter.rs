//! Counters: the live usage of one concrete `scope[/l1[/l2]]`.
//!
//! A counter knows what is held (calls and cost), what was started (one history for each mode, period and counting that
//! any rule ever used here and that has not aged out), who is parked at it, and which rule binds it. The rule is looked
//! up when the book changed since, not at every acquire.
//!
//! A counter that equals a fresh one is dropped by its shard's sweep; until its rate history has aged out it does not
//! equal one, so dropping never forgives quota.

use crate::book::{Rule, RuleBook};
use crate::histogram::Histogram;
use crate::lease::Hold;
use crate::limits::{Counts, MAX_RATES, Mode, Rate};
use crate::order::Waitlist;
use crate::smooth::{self, Arrival};
use crate::window::Window;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What one rate remembers.
#[derive(Debug)]
enum Starts {
    Window(Box<Window>),
    /// The arrival time of the next unit; 0 when never used.
    Smooth(Arrival),
}

/// The history of one (mode, period, counting).
#[derive(Debug)]
struct History {
    period: u64,
    counts: Counts,
    starts: Starts,
}

impl History {
    fn is_of(&self, rate: &Rate) -> bool {
        let mode = match self.starts {
            Starts::Window(_) => Mode::Window,
            Starts::Smooth(_) => Mode::Smooth,
        };
        (mode, self.period, self.counts) == (rate.mode, rate.period_nanos(), rate.counts)
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

/// See the module.
#[derive(Debug)]
pub(crate) struct Counter {
    /// `scope[/l1[/l2]]`.
    pub(crate) name: Box<str>,
    /// Calls held now.
    pub(crate) calls: u64,
    /// Cost held now.
    pub(crate) cost: u64,
    /// The rule that binds, as of `book_version`.
    pub(crate) rule: Option<Arc<Rule>>,
    pub(crate) book_version: u64,
    histories: SmallVec<[History; 1]>,
    /// The log entries that its shard has booked for it.
    pub(crate) logged: usize,
    pub(crate) waitlist: Waitlist,
    /// The tickets whose barriers stand here; see `order`.
    pub(crate) barriers: BTreeSet<u64>,
    /// Mean time that a lease is held, of those that are measured, in nanoseconds; 0: none was yet.
    pub(crate) mean_hold: u64,
    /// When it was last charged or given back to.
    pub(crate) last_used: u64,
    pub(crate) granted: u64,
    pub(crate) refused: u64,
    /// Waits of those who had to; there is none for a counter where nobody ever waited.
    pub(crate) waits: Option<Box<Histogram>>,
    /// Whether a sweep is due that will look at it; see `shard`.
    pub(crate) swept_later: bool,
    /// When a refill is due that will look at its waitlist; 0: none.
    pub(crate) refill_at: u64,
}

impl Counter {
    pub(crate) fn new(name: &str, book: &RuleBook) -> Self {
        Self {
            name: name.into(),
            calls: 0,
            cost: 0,
            rule: book.binding(name).cloned(),
            book_version: book.version(),
            histories: SmallVec::new(),
            logged: 0,
            waitlist: Waitlist::default(),
            barriers: BTreeSet::new(),
            mean_hold: 0,
            last_used: 0,
            granted: 0,
            refused: 0,
            waits: None,
            swept_later: false,
            refill_at: 0,
        }
    }

    /// Looks the binding rule up again, because the book changed at `changed`. Smooth rates go on at their new pace from
    /// then.
    #[cold]
    pub(crate) fn refresh(&mut self, book: &RuleBook, changed: u64) {
        self.rule = book.binding(&self.name).cloned();
        self.book_version = book.version();
        let Some(rule) = &self.rule else { return };
        for history in &mut self.histories {
            let rate = rule.spec.limits.rates.iter().find(|rate| history.is_of(rate));
            if let (Starts::Smooth(arrival), Some(rate)) = (&mut history.starts, rate) {
                *arrival = arrival.at_pace(rate.interval_nanos(), changed);
            }
        }
    }

    /// What is held, in what a limit counts.
    #[inline]
    pub(crate) fn held(&self, counts: Counts) -> u64 {
        match counts {
            Counts::Calls => self.calls,
            Counts::Cost => self.cost,
        }
    }

    /// Whether `need` more units of `rate` fit now. No effect but forgetting what has left the window.
    pub(crate) fn ask(&mut self, rate: &Rate, now: u64, need: u32) -> RateVerdict {
        // Who needs nothing is not in the way of a limit, nor it in theirs, even where more was started than it now allows.
        let Some(units) = std::num::NonZeroU32::new(need) else { return RateVerdict::Fits };
        let period = rate.period_nanos();
        let history = self.histories.iter_mut().find(|history| history.is_of(rate));
        match rate.mode {
            Mode::Window => {
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
            Mode::Smooth => {
                let arrival = match history {
                    Some(History { starts: Starts::Smooth(arrival), .. }) => arrival.at,
                    _ => 0,
                };
                match smooth::ask(rate, arrival, now, units) {
                    smooth::Verdict::Fits(_) => RateVerdict::Fits,
                    smooth::Verdict::NotUntil(at) => RateVerdict::NotUntil(at),
                    smooth::Verdict::Never => RateVerdict::Never,
                }
            }
        }
    }

    /// Writes down that `need` units of `rate` start now.
    pub(crate) fn start(&mut self, rate: &Rate, now: u64, need: u32) {
        let Some(units) = std::num::NonZeroU32::new(need) else { return };
        let index = match self.histories.iter().position(|history| history.is_of(rate)) {
            Some(index) => index,
            None => {
                // A history that has aged out makes room: rules that change every minute must not pile them up.
                self.histories.retain(|history| history.ends_at() > now);
                let starts = match rate.mode {
                    Mode::Window => Starts::Window(Box::default()),
                    Mode::Smooth => Starts::Smooth(Arrival { at: 0, interval: rate.interval_nanos() }),
                };
                self.histories.push(History { period: rate.period_nanos(), counts: rate.counts, starts });
                self.histories.len() - 1
            }
        };
        match &mut self.histories[index].starts {
            Starts::Window(window) => window.record(now, rate.period_nanos(), u64::from(need)),
            Starts::Smooth(arrival) => {
                if let smooth::Verdict::Fits(next) = smooth::ask(rate, arrival.at, now, units) {
                    arrival.at = next;
                }
            }
        }
    }

    /// Units of `rate` in use now, for show.
    pub(crate) fn rate_used(&mut self, rate: &Rate, now: u64) -> u64 {
        match self.histories.iter_mut().find(|history| history.is_of(rate)) {
            None => 0,
            Some(history) => match &mut history.starts {
                Starts::Window(window) => window.used(now, history.period),
                Starts::Smooth(arrival) => smooth::used(rate, arrival.at, now),
            },
        }
    }

    /// Log entries of all its windows.
    pub(crate) fn log_entries(&self) -> usize {
        self.histories
            .iter()
            .map(|history| match &history.starts {
                Starts::Window(window) => window.len(),
                Starts::Smooth(_) => 0,
            })
            .sum()
    }

    /// Forgets what has left its windows.
    pub(crate) fn forget(&mut self, now: u64) {
        for history in &mut self.histories {
            if let Starts::Window(window) = &mut history.starts {
                window.used(now, history.period);
            }
        }
        if self.histories.len() > MAX_RATES {
            self.histories.retain(|history| history.ends_at() > now);
        }
    }

    /// Whether its next start opens a log that it does not have yet.
    #[inline]
    pub(crate) fn starts_a_log(&self) -> bool {
        self.logged == 0 && self.rule.as_ref().is_some_and(|rule| !rule.spec.limits.rates.is_empty())
    }

    /// Takes back what a lease held.
    #[inline]
    pub(crate) fn give_back(&mut self, hold: &Hold, now: u64) {
        self.calls -= u64::from(hold.calls);
        self.cost -= u64::from(hold.cost);
        self.last_used = now;
    }

    /// Whether nothing is admitted until somebody says so.
    pub(crate) fn is_closed(&self) -> bool {
        let rule = self.rule.as_ref();
        rule.and_then(|rule| rule.spec.limits.concurrency).is_some_and(|concurrency| concurrency.limit == 0)
    }

    /// Whether a barrier stops this ticket here; a newcomer has none yet, and is later than all.
    #[inline]
    pub(crate) fn bars(&self, ticket: Option<u64>) -> bool {
        self.barriers.first().is_some_and(|barrier| ticket.is_none_or(|ticket| *barrier < ticket))
    }

    /// Nothing is held, nobody waits, and no barrier stands here.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.calls == 0 && self.cost == 0 && self.waitlist.is_empty() && self.barriers.is_empty()
    }

    /// When its rate history has aged out. In the past: it has.
    pub(crate) fn history_ends_at(&self) -> u64 {
        self.histories.iter().map(History::ends_at).max().unwrap_or(0)
    }

    /// Takes the end of a hold into the mean: an exponential average that forgets after about eight.
    #[inline]
    pub(crate) fn held_for(&mut self, nanos: u64) {
        self.mean_hold =
            if self.mean_hold == 0 { nanos.max(1) } else { self.mean_hold - self.mean_hold / 8 + nanos / 8 };
    }
}
