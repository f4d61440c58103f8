//! One run: an engine on a virtual clock, the naive limiter beside it, and clients that do what clients do.
//!
//! After every operation everything the engine promises is checked against what the naive limiter knows:
//!
//! - (a, b) each grant fits, at its own instant, under the limits of the book version that it names;
//! - (c) what a counter holds is the sum of what its leases hold, and what it started is what the naive limiter started;
//! - (d) nobody who fits waits, nobody is passed in its line, nobody waits past its deadline or for what never comes;
//! - (e) a key answers as the first request under it did;
//! - (g) every decision is made by the book in force;
//! - (h) what is cancelled or refused has left nothing behind;
//! - a future that is ready has been woken.

use crate::classes::Visits;
use crate::client::{Flag, Future, Owned};
use crate::naive::{Naive, Need, Verdict};
use crate::plan::{Mix, one_in_hundred};
use anyhow::Result;
use fastrand::Rng;
use std::collections::HashMap;
use std::sync::Arc;
use weir_engine::{Clock, CounterSnapshot, Engine, EngineConfig, LeaseId, Limits, Request, ShardLimits};

/// Whoever waits, through one future or, under a key, several.
pub(crate) struct Waiter {
    /// The order of arrival.
    pub(crate) sequence: u64,
    pub(crate) at: u64,
    pub(crate) deadline: u64,
    pub(crate) request: Request,
    pub(crate) line: String,
    pub(crate) needs: Vec<Need>,
    pub(crate) needs_of: u64,
    /// With the instant at which the wait of each is over: for who has joined, not after that of the first.
    pub(crate) futures: Vec<(Future, Arc<Flag>, u64)>,
    pub(crate) key: Option<String>,
}

/// What a key stands for.
pub(crate) struct Key {
    pub(crate) request: Request,
    /// Empty while it waits.
    pub(crate) leases: Vec<(LeaseId, u64)>,
    pub(crate) waiter: u64,
    /// When it is forgotten.
    pub(crate) until: u64,
}

/// See the module.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) mix: Mix,
    pub(crate) engine: Engine,
    pub(crate) naive: Naive,
    pub(crate) now: u64,
    pub(crate) version: u64,
    pub(crate) sequence: u64,
    pub(crate) leases: u64,
    pub(crate) last_fence: u64,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) owned: Vec<Owned>,
    pub(crate) ended: Vec<LeaseId>,
    pub(crate) keys: HashMap<String, Key>,
    pub(crate) counters: HashMap<String, CounterSnapshot>,
    pub(crate) visits: Visits,
    /// What was done, for whoever replays it.
    pub(crate) log: Option<Vec<String>>,
}

/// Why somebody may have been let in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Arrival,
    Release,
    Cancel,
    Time,
    Book,
}

pub(crate) fn line_of(request: &Request) -> String {
    let mut targets: Vec<&str> = request.targets.iter().map(|key| key.as_str()).collect();
    targets.sort_unstable();
    let first = request.targets.first().and_then(|key| key.limit_key());
    let share = request.fairness_key.as_deref().or(first).unwrap_or_default();
    format!("{targets:?}{:?}{}{share:?}{}", request.inline, request.priority, request.weight)
}

impl World {
    pub(crate) fn new(seed: u64, log: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mix = Mix::draw(&mut rng);
        let (clock, _) = Clock::manual();
        let limits = if mix.small_caps {
            ShardLimits { max_counters: 9, max_waiters: 3, max_log_entries: 6, max_leases: 6 }
        } else {
            ShardLimits::default()
        };
        let engine = Engine::new(EngineConfig { shards: mix.shards, limits, clock });
        Self {
            rng,
            mix,
            engine,
            naive: Naive::default(),
            now: Clock::MANUAL_START,
            version: 0,
            sequence: 0,
            leases: 0,
            last_fence: 0,
            waiters: Vec::new(),
            owned: Vec::new(),
            ended: Vec::new(),
            keys: HashMap::new(),
            counters: HashMap::new(),
            visits: Visits::default(),
            log: log.then(Vec::new),
        }
    }

    pub(crate) fn say(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let line = format!("{:>16} {}", self.now - Clock::MANUAL_START, text());
            log.push(line);
        }
    }

    /// Does and checks this many operations, then sees to it that everything ends.
    pub(crate) fn run(&mut self, operations: u64) -> Result<()> {
        self.change_book()?;
        for _ in 0..operations {
            self.operation()?;
            self.visits.operations += 1;
        }
        self.finish()
    }

    pub(crate) fn operation(&mut self) -> Result<()> {
        let mix = |world: &mut Self, percent| one_in_hundred(&mut world.rng, percent);
        if mix(self, self.mix.book / 3) {
            self.change_book()
        } else if mix(self, self.mix.verbs / 2) {
            self.operate()
        } else if mix(self, self.mix.crash) {
            self.crash()
        } else if mix(self, self.mix.settle) && !self.owned.is_empty() {
            self.settle()
        } else {
            match self.rng.u8(..20) {
                0..=8 if self.mix.crowd && self.waiters.len() > 24 => self.release(),
                0..=8 => self.acquire(),
                9..=13 => self.release(),
                14 => self.cancel(),
                15 => self.extend_or_forge(),
                _ if self.mix.crowd => {
                    if self.rng.u8(..200) == 0 {
                        self.advance()
                    } else {
                        self.release()
                    }
                }
                _ => self.advance(),
            }
        }
    }

    pub(crate) fn needs(&self, request: &Request) -> Vec<Need> {
        let (calls, cost) =
            (u64::from(request.least.get()), u64::from(request.cost.get()) * u64::from(request.least.get()));
        let mut needs: Vec<Need> = Vec::new();
        for key in &request.targets {
            for (counter, leaf) in self.naive.counters_of(key.as_str()) {
                match needs.iter_mut().find(|need| need.counter == counter) {
                    Some(need) => need.leaf |= leaf,
                    None => needs.push(Need::new(counter, (calls, cost), None, leaf)),
                }
            }
        }
        for inline in &request.inline {
            let own = Some(inline.limits.clone());
            needs.push(Need::new(inline.name.to_string(), (calls, cost), own, true));
        }
        if request.count.get() == 1
            && let Some(lender) = request
                .lend_from
                .first()
                .and_then(|part| self.owned.iter().find(|owned| owned.got.reference() == Some(*part)))
        {
            self.naive.ride(&mut needs, Some(lender.id));
        }
        needs
    }

    /// All limits that hold for a request.
    pub(crate) fn limits(&mut self, needs: &[Need]) -> Vec<Limits> {
        needs.iter().filter_map(|need| self.naive.limits(&need.counter, need.own.as_ref())).collect()
    }

    /// Whether somebody of another line and of no lower priority waits for what it needs, and lacks more than there is: what is free
    /// may be owed to that one. How much, `fairness.rs` of the limiter's tests says.
    pub(crate) fn may_be_owed(&mut self, needs: &[Need], priority: u8, line: &str) -> bool {
        let takes = needs.iter().filter(|need| need.calls + need.cost > 0 || need.anew);
        let mine: Vec<&str> = takes.map(|need| need.counter.as_str()).collect();
        let others = self.waiters.iter().filter(|other| other.line != line && other.request.priority >= priority);
        let others: Vec<Request> = others.map(|other| other.request.clone()).collect();
        others.iter().any(|other| {
            let needs = self.needs(other);
            needs.iter().any(|need| mine.contains(&need.counter.as_str()))
                && self.naive.verdict(&needs, false, self.now) != Some(Verdict::Fits)
        })
    }

    pub(crate) fn barred(&self, needs: &[Need], ticket: Option<u64>) -> bool {
        // Who rides on a lease whole waits behind nobody there.
        needs.iter().filter(|need| need.calls + need.cost > 0).any(|need| {
            let barrier = self.counters.get(&need.counter).and_then(|counter| counter.barrier);
            barrier.is_some_and(|barrier| ticket.is_none_or(|ticket| barrier < ticket))
        })
    }
}

pub(crate) fn naive_holds(naive: &Naive, id: u64) -> bool {
    naive.held.iter().any(|held| held.id == id)
}

impl Drop for World {
    fn drop(&mut self) {
        // Futures before the engine, and no check on the way out.
        self.waiters.clear();
        self.owned.clear();
    }
}
