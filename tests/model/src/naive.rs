//! A limiter that is slow and obvious: it keeps everything it ever saw, and decides by looking at all of it.
//!
//! It knows patterns, limits and time only by their definitions, and shares no arithmetic with the engine: windows are
//! sums over a list of starts, a smooth rate is replayed from its first start, the rule that binds is found by reading
//! every rule. It does not say who is next among those who wait; it says who fits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use weir_engine::{Counts, Limits, Mode, Rate, RuleSpec};

/// What a limit is counted under: two rates of one kind share their history. The last is the interval of a smooth rate at an
/// inline key; under a rule there is one at a time, and it is 0.
pub(crate) type Kind = (Mode, u64, Counts, u64);

/// What a request needs at one counter.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    pub(crate) counter: String,
    pub(crate) calls: u64,
    pub(crate) cost: u64,
    /// What it rides on instead of holding it.
    pub(crate) lent: (u64, u64),
    pub(crate) own: Option<Limits>,
    pub(crate) leaf: bool,
}

/// How everything stands towards a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fits,
    Blocked,
    Never,
}

/// A lease that lives.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// Its number here: fences of leases that cannot meet may be equal.
    pub(crate) id: u64,
    pub(crate) needs: Vec<Need>,
    pub(crate) ends_at: Option<u64>,
    /// The lease it rides on.
    pub(crate) lender: Option<u64>,
}

#[derive(Debug, Clone)]
struct Start {
    at: u64,
    units: u64,
    id: u64,
}

/// The history of one kind at one counter.
#[derive(Debug, Clone, Default)]
struct History {
    starts: Vec<Start>,
    /// Nanoseconds between units of a smooth one; what had started at another pace, and when that would have drained at this.
    interval: u64,
    before: Vec<Start>,
    free_at: u64,
    /// A smooth history that had a refund is not replayed to the nanosecond.
    vague: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Naive {
    pub(crate) rules: BTreeMap<String, RuleSpec>,
    pub(crate) held: Vec<Held>,
    histories: HashMap<String, BTreeMap<Kind, History>>,
    last_start: HashMap<String, u64>,
    pub(crate) paused: BTreeSet<String>,
    pub(crate) draining: BTreeSet<String>,
    pub(crate) pinned: BTreeMap<String, Limits>,
    pub(crate) pushed: BTreeMap<String, u64>,
    bound: HashMap<String, Option<Limits>>,
}

pub(crate) fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn kind_of(counter: &str, rate: &Rate) -> Kind {
    let paced = rate.mode == Mode::Smooth && counter.contains('#');
    (rate.mode, nanos(rate.period), rate.counts, if paced { interval(rate) } else { 0 })
}

fn interval(rate: &Rate) -> u64 {
    nanos(rate.period).div_ceil(u64::from(rate.limit.get()))
}

fn matches(pattern: &str, counter: &str) -> bool {
    let (pattern, counter): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), counter.split('/').collect());
    pattern.len() == counter.len() && pattern.iter().zip(&counter).all(|(p, c)| *p == "*" || p == c)
}

fn rank(pattern: &str) -> u32 {
    pattern.split('/').zip([4, 2, 1]).map(|(part, weight)| if part == "*" { 0 } else { weight }).sum()
}

impl Naive {
    /// The counters of a scoped key, with the pools that they are part of.
    pub(crate) fn counters_of(&self, key: &str) -> Vec<(String, bool)> {
        let parts: Vec<&str> = key.split('/').collect();
        let mut counters = Vec::new();
        for depth in 1..=parts.len() {
            let name = parts[..depth].join("/");
            let pools =
                self.rules.iter().filter(|(pattern, rule)| rule.total && !rule.disabled && matches(pattern, &name));
            let pools: Vec<_> = pools.map(|(pattern, _)| (pattern.clone(), false)).collect();
            counters.push((name, depth == parts.len()));
            counters.extend(pools);
        }
        counters
    }

    /// Every rule is read.
    fn rule_of(&self, counter: &str) -> Option<&RuleSpec> {
        if counter.contains('#') {
            return None;
        }
        if counter.contains('*') {
            return self.rules.get(counter).filter(|rule| rule.total && !rule.disabled);
        }
        let enforcing = |rule: &RuleSpec| !(rule.total || rule.shadow_limits.is_some() && rule.limits.is_empty());
        let rules =
            self.rules.iter().filter(|(pattern, rule)| !rule.disabled && enforcing(rule) && matches(pattern, counter));
        rules.max_by_key(|(pattern, _)| rank(pattern)).map(|(_, rule)| rule)
    }

    /// The limits that bind a counter for somebody who brings `own` along.
    pub(crate) fn limits(&mut self, counter: &str, own: Option<&Limits>) -> Option<Limits> {
        if let Some(pinned) = self.pinned.get(counter) {
            return Some(pinned.clone());
        }
        if own.is_some() {
            return own.cloned();
        }
        if let Some(known) = self.bound.get(counter) {
            return known.clone();
        }
        let found = self.rule_of(counter).map(|rule| rule.limits.clone());
        self.bound.insert(counter.to_owned(), found.clone());
        found
    }

    /// The rules or pins have changed at `now`.
    pub(crate) fn changed(&mut self, now: u64) {
        self.bound.clear();
        let counters: Vec<String> = self.histories.keys().cloned().collect();
        for counter in counters {
            let Some(limits) = self.limits(&counter, None) else { continue };
            for rate in limits.rates.iter().filter(|rate| rate.mode == Mode::Smooth) {
                let kind = kind_of(&counter, rate);
                if let Some(history) = self.histories.get_mut(&counter).and_then(|all| all.get_mut(&kind)) {
                    history.pace(interval(rate), now);
                }
            }
        }
    }

    /// Calls and cost held at a counter.
    pub(crate) fn usage(&self, counter: &str) -> (u64, u64) {
        let needs = self.held.iter().flat_map(|held| &held.needs).filter(|need| need.counter == counter);
        needs.fold((0, 0), |(calls, cost), need| (calls + need.calls, cost + need.cost))
    }

    /// Units of a window kind that still count at `now`.
    pub(crate) fn started(&self, counter: &str, rate: &Rate, now: u64) -> u64 {
        self.histories.get(counter).and_then(|all| all.get(&kind_of(counter, rate))).map_or(0, |history| {
            let period = nanos(rate.period);
            history.starts.iter().filter(|start| start.at + period > now).map(|start| start.units).sum()
        })
    }

    /// Asks one counter. `newcomer` has not been let in yet. `Err`: it cannot say to the nanosecond.
    fn ask(&mut self, need: &Need, newcomer: bool, now: u64) -> Result<Verdict, Verdict> {
        if need.calls == 0 && need.cost == 0 {
            return Ok(Verdict::Fits);
        }
        let mut verdict = Verdict::Fits;
        if self.paused.contains(&need.counter)
            || newcomer && self.draining.contains(&need.counter)
            || self.pushed.get(&need.counter).is_some_and(|until| *until > now)
        {
            verdict = Verdict::Blocked;
        }
        let Some(limits) = self.limits(&need.counter, need.own.as_ref()) else { return Ok(verdict) };
        let units = |counts| if counts == Counts::Calls { need.calls } else { need.cost };
        let (calls, cost) = self.usage(&need.counter);
        if let Some(concurrency) = limits.concurrency {
            let (held, limit) =
                (if concurrency.counts == Counts::Calls { calls } else { cost }, u64::from(concurrency.limit));
            let need_here = units(concurrency.counts);
            let lent = if concurrency.counts == Counts::Calls { need.lent.0 } else { need.lent.1 };
            let (need, whole) = (need_here, need_here + lent);
            if limit > 0 && need > 0 && whole > limit {
                return Ok(Verdict::Never);
            }
            if need > 0 && held + need > limit {
                verdict = Verdict::Blocked;
            }
        }
        let mut vague = false;
        for rate in &limits.rates {
            let need_here = units(rate.counts);
            if need_here == 0 {
                continue;
            }
            match rate.mode {
                Mode::Window => {
                    let limit = u64::from(rate.limit.get());
                    if need_here > limit {
                        return Ok(Verdict::Never);
                    }
                    if self.started(&need.counter, rate, now) + need_here > limit {
                        verdict = Verdict::Blocked;
                    }
                }
                Mode::Smooth => {
                    let burst = rate.burst.map_or(1, |burst| u64::from(burst.get()));
                    if need_here > burst {
                        return Ok(Verdict::Never);
                    }
                    let history = self.smooth(&need.counter, rate);
                    vague |= history.vague;
                    let interval = interval(rate);
                    if history.backlog(now) + need_here * interval > burst * interval {
                        verdict = Verdict::Blocked;
                    }
                }
            }
        }
        if need.own.is_some() && !self.pinned.contains_key(&need.counter) {
            vague |= self.histories.get(&need.counter).is_some_and(|all| all.values().any(|history| history.vague));
            let living = self.living(&need.counter, now);
            let new = limits.rates.iter().filter(|rate| !living.contains(&kind_of(&need.counter, rate))).count();
            if new > 0 && living.len() + new > weir_limiter::MAX_KINDS {
                verdict = Verdict::Blocked;
            }
        }
        if vague { Err(verdict) } else { Ok(verdict) }
    }

    /// How a smooth rate stands. One whose history does not know of all that has started begins with what the next slower pace of its
    /// like had still to drain at the last start.
    fn smooth(&self, counter: &str, rate: &Rate) -> History {
        let kind = kind_of(counter, rate);
        let last_start = self.last_start.get(counter).copied().unwrap_or(0);
        let all = self.histories.get(counter).into_iter().flatten();
        let mut known = all.filter(|(_, history)| history.vague || history.backlog(last_start) > 0);
        if let Some((_, own)) = known.clone().find(|(other, _)| **other == kind) {
            return own.clone();
        }
        let like = |other: &Kind| (other.0, other.1, other.2) == (kind.0, kind.1, kind.2) && other.3 > kind.3;
        // By interval, in ascending order.
        let mut begun = known.find(|(other, _)| like(other)).map(|(_, slower)| slower.clone()).unwrap_or_default();
        begun.pace(interval(rate), last_start);
        // A refund is taken from histories that the lease has started in.
        begun.before.clear();
        begun
    }

    fn living(&self, counter: &str, now: u64) -> Vec<Kind> {
        let all = self.histories.get(counter);
        all.into_iter().flatten().filter(|(kind, history)| history.lives(**kind, now)).map(|(kind, _)| *kind).collect()
    }

    /// Asks every counter. `None`: it cannot say to the nanosecond.
    pub(crate) fn verdict(&mut self, needs: &[Need], newcomer: bool, now: u64) -> Option<Verdict> {
        let mut found = Some(Verdict::Fits);
        for need in needs {
            match self.ask(need, newcomer, now) {
                Ok(Verdict::Never) => return Some(Verdict::Never),
                Ok(Verdict::Fits) => {}
                Ok(Verdict::Blocked) => found = found.map(|_| Verdict::Blocked),
                Err(_) => found = None,
            }
        }
        found
    }

    /// Takes off what a request can ride on: the lease that lends, if that lives and lends to nobody yet.
    pub(crate) fn ride(&self, needs: &mut [Need], lender: Option<u64>) {
        let lends = self.held.iter().find(|held| Some(held.id) == lender);
        let Some(lends) = lends.filter(|lends| self.held.iter().all(|held| held.lender != Some(lends.id))) else {
            return;
        };
        for need in needs {
            if let Some(own) = lends.needs.iter().find(|own| own.counter == need.counter) {
                need.lent = (own.calls.min(need.calls), own.cost.min(need.cost));
                need.calls -= need.lent.0;
                need.cost -= need.lent.1;
            }
        }
    }

    /// A grant, whatever it thinks of it; it has been asked before.
    pub(crate) fn grant(&mut self, id: u64, needs: Vec<Need>, ends_at: Option<u64>, lender: Option<u64>, now: u64) {
        for need in &needs {
            let Some(limits) = self.limits(&need.counter, need.own.as_ref()) else { continue };
            let mut started = false;
            let living = self.living(&need.counter, now);
            let begun: Vec<(Kind, History)> = (limits.rates.iter())
                .filter(|rate| rate.mode == Mode::Smooth)
                .map(|rate| (kind_of(&need.counter, rate), self.smooth(&need.counter, rate)))
                .collect();
            if need.counter.contains('#') {
                let other = |kind: &Kind| limits.rates.iter().all(|rate| kind_of(&need.counter, rate) != *kind);
                for kind in living.into_iter().filter(other) {
                    let units = if kind.2 == Counts::Calls { need.calls } else { need.cost };
                    if let Some(history) = self.histories.get_mut(&need.counter).and_then(|all| all.get_mut(&kind)) {
                        history.start(units, id, now);
                        started |= units > 0;
                    }
                }
            }
            for rate in &limits.rates {
                let units = if rate.counts == Counts::Calls { need.calls } else { need.cost };
                if units == 0 {
                    continue;
                }
                let (kind, all) =
                    (kind_of(&need.counter, rate), self.histories.entry(need.counter.clone()).or_default());
                let history = all.entry(kind).or_default();
                if let Some((_, begun)) = begun.iter().find(|(of, _)| *of == kind) {
                    *history = begun.clone();
                }
                history.start(units, id, now);
                started = true;
            }
            if started {
                self.last_start.insert(need.counter.clone(), now);
            }
        }
        let lender = lender.filter(|_| needs.iter().any(|need| need.lent != (0, 0)));
        self.held.push(Held { id, needs, ends_at, lender });
    }

    /// A lease ends.
    pub(crate) fn end(&mut self, id: u64) -> Option<Held> {
        let index = self.held.iter().position(|held| held.id == id)?;
        let ended = self.held.swap_remove(index);
        // Who rides on it holds that itself from now on.
        if let Some(borrower) = self.held.iter_mut().find(|held| held.lender == Some(id)) {
            borrower.lender = None;
            for need in &mut borrower.needs {
                let (calls, cost) = std::mem::take(&mut need.lent);
                need.calls += calls;
                need.cost += cost;
            }
        }
        Some(ended)
    }

    /// Ends what has come to its end by `now`; answers how many.
    pub(crate) fn expire(&mut self, now: u64) -> usize {
        let due = |held: &&Held| held.ends_at.is_some_and(|end| end <= now);
        let ids: Vec<u64> = self.held.iter().filter(due).map(|held| held.id).collect();
        ids.iter().filter_map(|id| self.end(*id)).count()
    }

    /// A lease costs `cost` instead: held at once, and in the starts of kinds that count cost.
    pub(crate) fn settle(&mut self, id: u64, cost: u64, now: u64) {
        let Some(index) = self.held.iter().position(|held| held.id == id) else { return };
        let lent: Vec<Need> =
            self.held.iter().find(|held| held.lender == Some(id)).map_or_else(Vec::new, |held| held.needs.clone());
        let mut needs = std::mem::take(&mut self.held[index].needs);
        for need in &mut needs {
            let lent = lent.iter().find(|lent| lent.counter == need.counter).map_or(0, |lent| lent.lent.1);
            let total = cost;
            let cost = total.saturating_sub(need.lent.1).max(lent);
            need.lent.1 = need.lent.1.min(total);
            let before = std::mem::replace(&mut need.cost, cost);
            if cost < before {
                for (kind, history) in self.histories.get_mut(&need.counter).into_iter().flatten() {
                    if kind.2 == Counts::Cost {
                        history.refund(*kind, id, before - cost, now);
                    }
                }
            } else if cost > before {
                let over = cost - before;
                let limits = self.limits(&need.counter, need.own.as_ref());
                let rates = || limits.iter().flat_map(|limits| &limits.rates);
                let mut kinds: Vec<Kind> = rates().map(|rate| kind_of(&need.counter, rate)).collect();
                if need.counter.contains('#') {
                    kinds.extend(
                        self.living(&need.counter, now)
                            .into_iter()
                            .filter(|kind| !kinds.contains(kind))
                            .collect::<Vec<_>>(),
                    );
                }
                for rate in rates().filter(|rate| rate.counts == Counts::Cost) {
                    let kind = kind_of(&need.counter, rate);
                    let begun = (rate.mode == Mode::Smooth).then(|| self.smooth(&need.counter, rate));
                    let history = self.histories.entry(need.counter.clone()).or_default().entry(kind).or_default();
                    if let Some(begun) = begun {
                        *history = begun;
                    }
                }
                for kind in kinds.into_iter().filter(|kind| kind.2 == Counts::Cost) {
                    if let Some(history) = self.histories.get_mut(&need.counter).and_then(|all| all.get_mut(&kind)) {
                        history.start(over, id, now);
                        self.last_start.insert(need.counter.clone(), now);
                    }
                }
            }
        }
        self.held[index].needs = needs;
    }

    /// Forgets what was started at a counter.
    pub(crate) fn reset(&mut self, counter: &str) {
        self.histories.remove(counter);
    }

    /// Drops what can no longer matter, so that a long run stays quick.
    pub(crate) fn forget(&mut self, now: u64) {
        for (counter, all) in &mut self.histories {
            let last_start = self.last_start.get(counter).copied().unwrap_or(now).min(now);
            all.retain(|kind, history| history.lives(*kind, last_start));
            for (kind, history) in all {
                if kind.0 == Mode::Window {
                    history.starts.retain(|start| start.at + kind.1 > now);
                }
            }
        }
        self.pushed.retain(|_, until| *until > now);
    }
}

impl History {
    fn start(&mut self, units: u64, id: u64, now: u64) {
        if units > 0 {
            self.starts.push(Start { at: now, units, id });
        }
    }

    /// What is still to drain does so at another pace from `now` on.
    fn pace(&mut self, interval: u64, now: u64) {
        if self.interval != interval {
            if self.interval > 0 {
                let left = u128::from(self.backlog(now)) * u128::from(interval);
                let left = left.div_ceil(u128::from(self.interval));
                self.free_at = now + u64::try_from(left).expect("a simulation is short");
                self.before.append(&mut self.starts);
            }
            self.interval = interval;
        }
    }

    fn refund(&mut self, kind: Kind, id: u64, mut units: u64, now: u64) {
        if kind.0 == Mode::Smooth {
            // How much of a smooth start still counts is the engine's to say; it may never be too much.
            self.vague |= self.starts.iter().chain(&self.before).any(|start| start.id == id);
            return;
        }
        for start in self.starts.iter_mut().rev().filter(|start| start.id == id && start.at + kind.1 > now) {
            let taken = units.min(start.units);
            start.units -= taken;
            units -= taken;
        }
        self.starts.retain(|start| start.units > 0);
    }

    /// Nanoseconds until all that has started has drained, one unit an interval: replayed from the first start.
    fn backlog(&self, now: u64) -> u64 {
        let mut free_at = self.free_at;
        for start in &self.starts {
            free_at = free_at.max(start.at) + start.units * self.interval;
        }
        free_at.saturating_sub(now)
    }

    fn lives(&self, kind: Kind, now: u64) -> bool {
        match kind.0 {
            Mode::Window => self.starts.iter().any(|start| start.at + kind.1 > now),
            Mode::Smooth => self.vague || self.backlog(now) > 0,
        }
    }
}
