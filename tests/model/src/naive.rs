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
    /// Whether a lease that has this lends its start no more: it has lent it, or its own work was started by another's.
    pub(crate) spent: bool,
    /// What its start has paid for another.
    pub(crate) paid: u64,
    /// Whether it is a start of its own, though it rides.
    pub(crate) anew: bool,
    pub(crate) own: Option<Limits>,
    pub(crate) leaf: bool,
    /// What it will be once the lease that it names has its loan back.
    later: Option<Box<Self>>,
}

impl Need {
    /// So much, on nobody's account.
    pub(crate) fn new(counter: String, (calls, cost): (u64, u64), own: Option<Limits>, leaf: bool) -> Self {
        Self { counter, calls, cost, lent: (0, 0), spent: false, paid: 0, anew: false, own, leaf, later: None }
    }

    /// Takes off what it can ride on.
    fn rides_on(&mut self, own: &Self) {
        let whole = (own.calls + own.lent.0, own.cost + own.lent.1);
        self.lent = (whole.0.min(self.calls), whole.1.min(self.cost));
        self.calls -= self.lent.0;
        self.cost -= self.lent.1;
        // A start pays for two: who was let in by it, and the first that rides on that.
        self.anew = own.spent && self.lent != (0, 0);
        self.spent = self.lent != (0, 0) && !self.anew;
    }

    /// Calls and cost that start with it.
    fn starts(&self) -> (u64, u64) {
        if self.anew { (self.calls + self.lent.0, self.cost + self.lent.1) } else { (self.calls, self.cost) }
    }
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
    /// Whether the engine has surely written it down: a kind that nobody has brought for long may have lost its place.
    sure: bool,
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
    /// Until when its place at an inline key is taken: at least, and at most.
    needed: (u64, u64),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Naive {
    pub(crate) rules: BTreeMap<String, RuleSpec>,
    pub(crate) held: Vec<Held>,
    histories: HashMap<String, BTreeMap<Kind, History>>,
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

    /// Every lease holds its share of the pools that were not in force before; whether any did.
    pub(crate) fn adopt(&mut self, before: &BTreeMap<String, RuleSpec>) -> bool {
        let in_force = |rules: &BTreeMap<String, RuleSpec>, pattern: &str| {
            rules.get(pattern).is_some_and(|rule| rule.total && !rule.disabled)
        };
        if !self.rules.keys().any(|pattern| in_force(&self.rules, pattern) && !in_force(before, pattern)) {
            return false;
        }
        let mut adopted = false;
        // Who lends was granted before who rides on it.
        self.held.sort_by_key(|held| held.id);
        for index in 0..self.held.len() {
            for need in self.held[index].needs.clone() {
                let whole = (need.calls + need.lent.0, need.cost + need.lent.1);
                if whole == (0, 0) || need.counter.contains(['*', '#']) {
                    continue;
                }
                let pools = self.rules.keys().filter(|pattern| in_force(&self.rules, pattern));
                let pools: Vec<String> = pools.filter(|pattern| matches(pattern, &need.counter)).cloned().collect();
                for pool in pools {
                    if self.held[index].needs.iter().any(|need| need.counter == pool) {
                        continue;
                    }
                    adopted = true;
                    let mut share = Need::new(pool.clone(), whole, None, false);
                    let lender = self.held[index].lender;
                    let lender = self.held.iter().find(|held| Some(held.id) == lender);
                    if let Some(own) = lender.and_then(|held| held.needs.iter().find(|own| own.counter == pool)) {
                        share.rides_on(own);
                    }
                    let (lent, anew) = (share.lent, share.anew);
                    let lender = self.held[index].lender;
                    self.held[index].needs.push(share);
                    if lent != (0, 0) {
                        self.pay(lender, &pool, lent.1, anew);
                    }
                }
            }
        }
        adopted
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

    /// Units of a window kind that still count at `now`: at least, and at most.
    pub(crate) fn started(&self, counter: &str, rate: &Rate, now: u64) -> (u64, u64) {
        let kind = kind_of(counter, rate);
        self.histories.get(counter).and_then(|all| all.get(&kind)).map_or((0, 0), |history| history.used(kind, now))
    }

    /// Asks one counter. `newcomer` has not been let in yet. `Err`: it cannot say to the nanosecond.
    fn ask(&mut self, need: &Need, newcomer: bool, now: u64) -> Result<Verdict, Verdict> {
        match (self.ask_now(need, newcomer, now), &need.later) {
            (Ok(Verdict::Never), Some(later)) if self.ask_now(later, newcomer, now) != Ok(Verdict::Never) => {
                Ok(Verdict::Blocked)
            }
            (verdict, _) => verdict,
        }
    }

    fn ask_now(&mut self, need: &Need, newcomer: bool, now: u64) -> Result<Verdict, Verdict> {
        let starts = need.starts();
        if starts == (0, 0) {
            return Ok(Verdict::Fits);
        }
        let mut verdict = Verdict::Fits;
        // Who only rides is no newcomer to a counter: it is there already.
        let newcomer = newcomer && need.calls + need.cost > 0;
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
        let mut unsure = false;
        for rate in &limits.rates {
            let need_here = if rate.counts == Counts::Calls { starts.0 } else { starts.1 };
            if need_here == 0 {
                continue;
            }
            let kind = kind_of(&need.counter, rate);
            let history = self.histories.get(&need.counter).and_then(|all| all.get(&kind));
            let (least, most) = history.map_or((0, 0), |history| history.used(kind, now));
            // Of a smooth rate in nanoseconds.
            let (need_here, limit) = match rate.mode {
                Mode::Window => (need_here, u64::from(rate.limit.get())),
                Mode::Smooth => {
                    let burst = rate.burst.map_or(1, |burst| u64::from(burst.get()));
                    (need_here * interval(rate), burst * interval(rate))
                }
            };
            if need_here > limit {
                return Ok(Verdict::Never);
            }
            if least + need_here > limit {
                verdict = Verdict::Blocked;
            }
            unsure |= most + need_here > limit;
        }
        if need.own.is_some() && !self.pinned.contains_key(&need.counter) {
            let own: BTreeSet<Kind> = limits.rates.iter().map(|rate| kind_of(&need.counter, rate)).collect();
            let full = |places: BTreeSet<Kind>, fewer: &BTreeSet<Kind>| {
                own.iter().any(|kind| !fewer.contains(kind)) && places.union(&own).count() > weir_limiter::MAX_KINDS
            };
            let (least, most) = self.places(&need.counter, now);
            if full(least.clone(), &most) {
                verdict = Verdict::Blocked;
            }
            unsure |= full(most, &least);
        }
        if unsure && verdict == Verdict::Fits { Err(verdict) } else { Ok(verdict) }
    }

    /// The kinds whose places are taken at a counter: at least, and at most.
    fn places(&self, counter: &str, now: u64) -> (BTreeSet<Kind>, BTreeSet<Kind>) {
        let all = || self.histories.get(counter).into_iter().flatten();
        let least = all().filter(|(_, history)| history.needed.0 > now).map(|(kind, _)| *kind).collect();
        (least, all().filter(|(_, history)| history.needed.1 > now).map(|(kind, _)| *kind).collect())
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

    /// Takes off what a request can ride on: the lease that lends, if that lives. While it lends to another, it will later.
    pub(crate) fn ride(&self, needs: &mut [Need], lender: Option<u64>) {
        let lends = self.held.iter().find(|held| Some(held.id) == lender);
        let Some(lends) = lends else { return };
        let lent = self.held.iter().any(|held| held.lender == Some(lends.id));
        for need in needs {
            let Some(own) = lends.needs.iter().find(|own| own.counter == need.counter) else { continue };
            if lent {
                let mut later = need.clone();
                later.rides_on(own);
                need.later = Some(Box::new(later));
            } else {
                need.rides_on(own);
            }
        }
    }

    /// A grant, whatever it thinks of it; it has been asked before.
    pub(crate) fn grant(&mut self, id: u64, needs: Vec<Need>, ends_at: Option<u64>, lender: Option<u64>, now: u64) {
        for need in &needs {
            let Some(limits) = self.limits(&need.counter, need.own.as_ref()) else { continue };
            self.start(&need.counter, &limits, need.starts(), id, now);
        }
        let lender = lender.filter(|_| needs.iter().any(|need| need.lent != (0, 0)));
        for need in needs.iter().filter(|need| need.lent != (0, 0)) {
            self.pay(lender, &need.counter, need.lent.1, need.anew);
        }
        self.held.push(Held { id, needs, ends_at, lender });
    }

    /// A lender's start has paid for so much of another's work, unless that is a start of its own.
    fn pay(&mut self, lender: Option<u64>, counter: &str, cost: u64, anew: bool) {
        let lends = self.held.iter_mut().filter(|held| Some(held.id) == lender).flat_map(|held| &mut held.needs);
        for own in lends.filter(|own| own.counter == counter) {
            own.spent = true;
            own.paid = own.paid.max(if anew { 0 } else { cost });
        }
    }

    /// Writes a start down under these limits, and at an inline key in every other history that is there.
    fn start(&mut self, counter: &str, limits: &Limits, (calls, cost): (u64, u64), id: u64, now: u64) {
        let all = self.histories.entry(counter.to_owned()).or_default();
        let inline = counter.contains('#');
        let own: Vec<(Kind, u64)> = limits.rates.iter().map(|rate| (kind_of(counter, rate), interval(rate))).collect();
        let units = |kind: &Kind| if kind.2 == Counts::Calls { calls } else { cost };
        for (kind, history) in all.iter_mut().filter(|(kind, _)| inline && own.iter().all(|(own, _)| own != *kind)) {
            let sure = history.needed.0 > now;
            history.start(units(kind), id, now, sure);
        }
        for (kind, interval) in own.iter().filter(|(kind, _)| units(kind) > 0) {
            let history = all.entry(*kind).or_default();
            if history.needed.0 <= now {
                history.starts.iter_mut().for_each(|start| start.sure = false);
            }
            if kind.0 == Mode::Smooth {
                history.pace(*interval, now);
            }
            history.start(units(kind), id, now, true);
            history.needed = match (inline, kind.0) {
                (false, _) => (u64::MAX, u64::MAX),
                (true, Mode::Window) => (now + kind.1, now + kind.1),
                (true, Mode::Smooth) if history.vague => (now, history.free_at(false)),
                (true, Mode::Smooth) => (history.free_at(true), history.free_at(false)),
            };
        }
    }

    /// A lease ends.
    pub(crate) fn end(&mut self, id: u64) -> Option<Held> {
        let index = self.held.iter().position(|held| held.id == id)?;
        let ended = self.held.swap_remove(index);
        // Who rides on it holds that itself from now on, or rides on what it rode on.
        if let Some(borrower) = self.held.iter_mut().find(|held| held.lender == Some(id)) {
            for need in &mut borrower.needs {
                let Some(own) = ended.needs.iter().find(|own| own.counter == need.counter) else { continue };
                let (calls, cost) = (need.lent.0.min(own.calls), need.lent.1.min(own.cost));
                need.lent = (need.lent.0 - calls, need.lent.1 - cost);
                need.calls += calls;
                need.cost += cost;
            }
            borrower.lender = ended.lender.filter(|_| borrower.needs.iter().any(|need| need.lent != (0, 0)));
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
            let total = cost.max(lent);
            let started = need.starts().1.max(need.paid);
            need.lent.1 = need.lent.1.min(total);
            let cost = total - need.lent.1;
            need.cost = cost;
            let after = need.starts().1.max(need.paid);
            if after < started {
                for (kind, history) in self.histories.get_mut(&need.counter).into_iter().flatten() {
                    if kind.2 == Counts::Cost {
                        history.refund(*kind, id, started - after, now);
                    }
                }
            }
            if after > started {
                let limits = self.limits(&need.counter, need.own.as_ref()).unwrap_or_default();
                self.start(&need.counter, &limits, (0, after - started), id, now);
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
        for (kind, history) in self.histories.values_mut().flatten() {
            match kind.0 {
                Mode::Window => history.starts.retain(|start| start.at + kind.1 > now),
                Mode::Smooth if history.free_at(false) <= now => {
                    *history = History { interval: history.interval, needed: history.needed, ..History::default() };
                }
                Mode::Smooth => {}
            }
        }
        self.pushed.retain(|_, until| *until > now);
    }
}

impl History {
    fn start(&mut self, units: u64, id: u64, now: u64, sure: bool) {
        if units > 0 {
            self.starts.push(Start { at: now, units, id, sure });
        }
    }

    /// What is still to drain does so at another pace from `now` on: under a rule, where all is sure.
    fn pace(&mut self, interval: u64, now: u64) {
        if self.interval != interval {
            if self.interval > 0 {
                let left = u128::from(self.free_at(false).saturating_sub(now)) * u128::from(interval);
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
            if self.starts.iter().chain(&self.before).any(|start| start.id == id) {
                self.vague = true;
                self.surely_needed_until(now);
            }
            return;
        }
        for start in self.starts.iter_mut().rev().filter(|start| start.id == id && start.at + kind.1 > now) {
            let taken = units.min(start.units);
            start.units -= taken;
            units -= taken;
        }
        self.starts.retain(|start| start.units > 0);
        let end = self.starts.iter().filter(|start| start.sure).map(|start| start.at + kind.1).max();
        self.surely_needed_until(end.unwrap_or(now));
    }

    /// Where nothing is left of any kind, the counter may have been dropped.
    fn surely_needed_until(&mut self, end: u64) {
        if self.needed.1 != u64::MAX {
            self.needed.0 = self.needed.0.min(end);
        }
    }

    /// When all that has started has drained, one unit an interval, replayed from the first start; or what surely has.
    fn free_at(&self, sure: bool) -> u64 {
        let starts = self.starts.iter().filter(|start| start.sure || !sure);
        starts.fold(self.free_at, |free_at, start| free_at.max(start.at) + start.units * self.interval)
    }

    /// What counts at `now`, of a window in units and of a smooth rate in nanoseconds: at least, and at most.
    fn used(&self, kind: Kind, now: u64) -> (u64, u64) {
        let used = |sure: bool| match kind.0 {
            Mode::Window => {
                let starts = self.starts.iter().filter(|start| start.at + kind.1 > now && (start.sure || !sure));
                starts.map(|start| start.units).sum()
            }
            Mode::Smooth => self.free_at(sure).saturating_sub(now),
        };
        // A place that is not taken may have been given to another kind.
        let least = if self.vague || self.needed.0 <= now { 0 } else { used(true) };
        (least, used(false))
    }
}
