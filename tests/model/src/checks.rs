//! What must hold after every operation.

use crate::classes::Class;
use crate::client::Got;
use crate::naive::{Verdict, nanos};
use crate::world::{Cause, Waiter, World, naive_holds};
use anyhow::{Result, bail, ensure};
use std::time::Duration;
use weir_engine::{CounterQuery, IDLE_KEEP, KEPT, Mode, Outcome, Reason, Refusal, Verb};

impl World {
    /// Everything that must hold after any operation.
    pub(crate) fn check(&mut self, cause: Cause) -> Result<()> {
        self.take_outcomes(cause)?;
        for _ in 0..self.naive.expire(self.now) {
            self.visits.note(Class::Expired);
        }
        let naive = &self.naive;
        // Some who own a timed lease forget it; others find out that it has ended.
        self.owned
            .retain(|owned| owned.got.timed().is_none() || naive_holds(naive, owned.id) || owned.id.is_multiple_of(4));
        // Where somebody waits, a barrier may stand.
        if self.mix.looks || !self.waiters.is_empty() || self.rng.u8(..32) == 0 {
            self.compare_counters()?;
        } else {
            self.counters.clear();
        }
        self.nobody_waits_in_vain()?;
        if self.visits.operations.is_multiple_of(16) {
            self.naive.forget(self.now);
            let horizon = self.now;
            self.keys.retain(|_, key| {
                key.leases.is_empty()
                    || key.leases.iter().any(|(_, id)| naive_holds(&self.naive, *id))
                    || !horizon.is_multiple_of(3)
            });
            if self.keys.len() > 12 {
                self.keys.retain(|_, key| key.leases.is_empty());
            }
        }
        Ok(())
    }

    /// Polls everybody; whoever is ready must have been woken. Grants are written down in the order in which they were
    /// made.
    pub(crate) fn take_outcomes(&mut self, cause: Cause) -> Result<()> {
        let mut granted: Vec<(u64, u64, Waiter, Vec<Got>)> = Vec::new();
        let mut index = 0;
        while index < self.waiters.len() {
            let waiter = &mut self.waiters[index];
            let mut outcome: Option<Result<Vec<Got>, Refusal>> = None;
            let (now, last) = (self.now, waiter.deadline);
            let mut over = Vec::new();
            for (place, (future, flag, deadline)) in waiter.futures.iter_mut().enumerate() {
                let woken = flag.take();
                if let Some(ready) = future.poll(flag) {
                    ensure!(woken, "ready, and nobody woke it: {ready:?}");
                    if matches!(&ready, Err(refusal) if refusal.reason == Reason::TimedOut) && now < last {
                        ensure!(now >= *deadline, "timed out before its deadline");
                        over.push(place);
                        continue;
                    }
                    if let (Some(Ok(first)), Ok(again)) = (&outcome, &ready) {
                        let ids = |got: &[Got]| got.iter().map(Got::timed).collect::<Vec<_>>();
                        ensure!(ids(first) == ids(again), "two that waited under one key got other leases");
                    }
                    outcome = outcome.or(Some(ready));
                } else {
                    ensure!(now < *deadline, "waits past its deadline");
                }
            }
            for place in over.into_iter().rev() {
                drop(waiter.futures.remove(place));
                self.visits.note(Class::TimedOut);
            }
            if waiter.futures.is_empty() {
                // The last whose own wait was over has taken the waiter along, which may have let in others that were asked before.
                let gone = self.waiters.swap_remove(index);
                self.keys.retain(|name, _| Some(name) != gone.key.as_ref());
                index = 0;
                continue;
            }
            let Some(outcome) = outcome else {
                index += 1;
                continue;
            };
            let waiter = self.waiters.swap_remove(index);
            match outcome {
                Ok(got) => {
                    let at = waiter.at + got.first().map_or(0, Got::waited);
                    let fence = got.iter().map(Got::fence).min().unwrap_or(0);
                    granted.push((at, fence, waiter, got));
                }
                Err(refusal) => self.ended(&waiter, &refusal)?,
            }
        }
        granted.sort_by_key(|(at, fence, ..)| (*at, *fence));
        for position in 0..granted.len() {
            let (_, _, waiter, _) = &granted[position];
            let ahead = |other: &Waiter| other.line == waiter.line && other.sequence < waiter.sequence;
            let passed =
                self.waiters.iter().find(|other| ahead(other)).map(|other| (other.sequence, other.request.clone()));
            ensure!(passed.is_none(), "{} {:?} has passed {passed:?} in its line", waiter.sequence, waiter.request);
            ensure!(!granted[position + 1..].iter().any(|(_, _, other, _)| ahead(other)), "passed in its line");
        }
        for (at, _, waiter, got) in granted {
            ensure!(at <= waiter.deadline, "granted after its deadline");
            self.naive.expire(at);
            self.visits.note(Class::GrantedAfterWait);
            self.visits.note(match cause {
                Cause::Release => Class::WokenByRelease,
                Cause::Cancel => Class::WokenByCancel,
                Cause::Time => Class::WokenByTime,
                Cause::Book => Class::BookRaised,
                Cause::Arrival => Class::GrantedAfterWait,
            });
            ensure!(got.len() as u32 >= waiter.request.least.get(), "a batch got less than its minimum");
            self.granted(&waiter.request, got, at)?;
            if let Some(name) = &waiter.key {
                self.note_key(name, &waiter.request);
            }
        }
        Ok(())
    }

    pub(crate) fn ended(&mut self, waiter: &Waiter, refusal: &Refusal) -> Result<()> {
        if let Some(name) = &waiter.key {
            self.keys.remove(name);
        }
        self.say(|| format!("{} ended: {refusal}", waiter.sequence));
        match refusal.reason {
            Reason::TimedOut => {
                ensure!(self.now >= waiter.deadline, "timed out before its deadline");
                self.visits.note(Class::TimedOut);
            }
            Reason::TooLarge => {
                let needs = self.needs(&waiter.request);
                let verdict = self.naive.verdict(&needs, false, self.now);
                ensure!(verdict == Some(Verdict::Never), "too large, they say: {verdict:?}");
                self.visits.note(Class::TooLargeLater);
            }
            other => bail!("a waiter ended as {other}: {refusal}"),
        }
        Ok(())
    }

    pub(crate) fn compare_counters(&mut self) -> Result<()> {
        let found = self.engine.counters(&CounterQuery::default());
        let waiting: usize = found.iter().map(|counter| counter.waiting).sum();
        ensure!(waiting == self.waiters.len(), "{waiting} wait at counters, and {} futures", self.waiters.len());
        let (mut calls, mut cost) = (0, 0);
        for counter in &found {
            let usage = self.naive.usage(&counter.counter);
            let name = &counter.counter;
            ensure!(
                (counter.calls, counter.cost) == usage,
                "{name} holds {}/{}, not {usage:?}",
                counter.calls,
                counter.cost
            );
            (calls, cost) = (calls + usage.0, cost + usage.1);
            for rate in counter.rates.iter().filter(|rate| rate.rate.mode == Mode::Window) {
                let (least, most) = self.naive.started(name, &rate.rate, self.now);
                ensure!(
                    (least..=most).contains(&rate.used),
                    "{name} has started {} under {}, not {least} to {most}",
                    rate.used,
                    rate.rate
                );
            }
            if counter.concurrency.is_some_and(|concurrency| {
                u64::from(concurrency.limit)
                    < if concurrency.counts == weir_engine::Counts::Calls { usage.0 } else { usage.1 }
            }) {
                self.visits.note(Class::OverLimit);
            }
            if counter.barrier.is_some() {
                self.visits.note(Class::Barrier);
            }
        }
        let all = self.naive.held.iter().flat_map(|held| &held.needs);
        let all = all.fold((0, 0), |(calls, cost), need| (calls + need.calls, cost + need.cost));
        ensure!((calls, cost) == all, "counters hold {calls}/{cost}, leases {all:?}");
        if self.log.is_some() {
            let waiting = found.iter().filter(|counter| counter.waiting > 0 || counter.barrier.is_some());
            let waiting: Vec<_> =
                waiting.map(|counter| (&counter.counter, counter.waiting, counter.calls, counter.barrier)).collect();
            let text = format!("  waiting {waiting:?}");
            self.say(|| text);
        }
        self.counters = found.into_iter().map(|counter| (counter.counter.clone(), counter)).collect();
        Ok(())
    }

    pub(crate) fn nobody_waits_in_vain(&mut self) -> Result<()> {
        for index in 0..self.waiters.len() {
            if self.waiters[index].needs_of != self.version || !self.waiters[index].request.lend_from.is_empty() {
                let needs = self.needs(&self.waiters[index].request);
                let waiter = &mut self.waiters[index];
                (waiter.needs, waiter.needs_of) = (needs, self.version);
            }
            let waiter = &self.waiters[index];
            ensure!(waiter.deadline > self.now, "waits past its deadline");
            let ahead = |other: &Waiter| other.line == waiter.line && other.sequence < waiter.sequence;
            let head = !self.waiters.iter().any(ahead);
            let ticket = waiter.futures.first().and_then(|(future, ..)| future.ticket());
            let barred = match ticket {
                Some(ticket) => self.barred(&waiter.needs, Some(ticket)),
                None => self.barred(&waiter.needs, None),
            };
            let waiter_rides = !waiter.request.lend_from.is_empty();
            let needs = waiter.needs.clone();
            match self.naive.verdict(&needs, false, self.now) {
                // Who rode on a lease that has ended since waits its time out.
                Some(Verdict::Never) if waiter_rides => {}
                Some(Verdict::Never) => bail!("waits for what never comes: {needs:?}"),
                Some(Verdict::Fits) if head && !barred => {
                    let (priority, line) = (self.waiters[index].request.priority, self.waiters[index].line.clone());
                    let owed = self.may_be_owed(&needs, priority, &line);
                    ensure!(owed, "fits, and waits: {needs:?}");
                    self.visits.note(Class::HeldBack);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The faults stop, everything is given back, and nothing may be left.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.say(|| "finish".to_owned());
        while let Some(owned) = self.owned.pop() {
            self.end(owned, Outcome::Ok)?;
        }
        let operated: Vec<String> =
            self.naive.paused.iter().chain(&self.naive.draining).chain(self.naive.pushed.keys()).cloned().collect();
        for name in operated {
            if self.engine.operate(&name.parse()?, &Verb::Resume).is_ok() {
                self.naive.paused.remove(&name);
                self.naive.draining.remove(&name);
                self.naive.pushed.remove(&name);
            }
            self.check(Cause::Book)?;
        }
        for name in self.naive.pinned.keys().cloned().collect::<Vec<_>>() {
            if self.engine.operate(&name.parse()?, &Verb::Unpin).is_ok() {
                self.naive.pinned.remove(&name);
                self.naive.changed(self.now);
            }
            self.check(Cause::Book)?;
        }
        for _ in 0..self.waiters.len() + 2 {
            self.now += 61_000_000_000;
            self.engine.advance(Duration::from_secs(61));
            self.check(Cause::Time)?;
            while let Some(owned) = self.owned.pop() {
                self.end(owned, Outcome::Ok)?;
            }
        }
        ensure!(self.waiters.is_empty(), "{} wait though everything is free", self.waiters.len());
        let long = Duration::from_nanos(IDLE_KEEP) + KEPT + Duration::from_secs(20_000 * 86_400);
        self.now += nanos(long);
        self.engine.advance(long);
        let left = (self.engine.counters(&CounterQuery::default()), self.engine.metrics());
        ensure!(
            self.engine.is_empty(),
            "something is left behind: {left:?}\n{:?}",
            self.log.as_ref().map(|_| &self.engine)
        );
        Ok(())
    }
}
