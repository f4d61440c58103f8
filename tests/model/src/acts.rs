//! What clients and operators do, one operation at a time, and what each answer must be.

use crate::classes::Class;
use crate::client::{Flag, Future, Got, Owned};
use crate::naive::{Need, Verdict, nanos};
use crate::plan::{self, one_in_hundred};
use crate::world::{Cause, Key, Waiter, World, line_of, naive_holds};
use anyhow::{Result, bail, ensure};
use std::sync::Arc;
use std::time::Duration;
use weir_engine::{
    ConstraintKind, CounterName, DEFAULT_MAX_WAIT, KEPT, LeaseId, LeaseRef, Outcome, Reason, Refusal, Request, Verb,
};

impl World {
    /// A lease to ride on: often one that has lent before, or that rides itself.
    fn lender(&self) -> Option<LeaseRef> {
        let held = |owned: &Owned| self.naive.held.iter().find(|held| held.id == owned.id);
        let has_lent = |owned: &&Owned| held(owned).is_some_and(|held| held.needs.iter().any(|need| need.spent));
        let rides = |owned: &&Owned| held(owned).is_some_and(|held| held.lender.is_some());
        let mut lenders = self.owned.iter().filter(|owned| owned.got.reference().is_some());
        let lender = match self.sequence % 5 {
            0 => None,
            1 => lenders.find(has_lent),
            2 | 3 => lenders.clone().find(rides).or(lenders.next()),
            _ => lenders.next(),
        };
        lender.and_then(|owned| owned.got.reference())
    }

    pub(crate) fn acquire(&mut self) -> Result<()> {
        let mut request = plan::request(&mut self.rng, &self.mix);
        let batch = one_in_hundred(&mut self.rng, self.mix.batch);
        if batch {
            let count = self.rng.u32(1..=4);
            let least = self.rng.u32(1..=count);
            request = request.batch(count.try_into()?, least.try_into()?)?;
        }
        let timed = one_in_hundred(&mut self.rng, self.mix.timed);
        if timed {
            request = request.lease_time(Duration::from_millis(self.rng.u64(100..400)));
        }
        let mut key = None;
        if timed && one_in_hundred(&mut self.rng, self.mix.keyed) {
            if !self.keys.is_empty() && self.rng.bool() {
                return self.repeat();
            }
            let name = format!("key-{}", self.sequence);
            request = request.idempotency_key(&name)?;
            key = Some(name);
        }
        // Where everything is in one shard: else the parts of a lease end one after the other, and who rides meanwhile pays more.
        let lend = self.mix.shards == 1 && one_in_hundred(&mut self.rng, self.mix.lend);
        if lend
            && key.is_none()
            && !batch
            && let Some(lease) = self.lender()
        {
            request = request.lend_from(lease);
        }
        let wait = one_in_hundred(&mut self.rng, self.mix.wait);
        if !wait {
            request = request.max_wait(Duration::ZERO);
        }
        self.visits.acquires += 1;
        let needs = self.needs(&request);
        let verdict = self.naive.verdict(&needs, true, self.now);
        // Who rides stands alone.
        let line = if !request.lend_from.is_empty() { format!("alone {}", self.sequence) } else { line_of(&request) };
        let behind = self.waiters.iter().any(|waiter| waiter.line == line);
        let barred = self.barred(&needs, None);
        // Who rides may go past the barrier of one who waits for what it rides on.
        let stopped = barred && request.lend_from.is_empty();
        let owed = self.may_be_owed(&needs, request.priority, &line);
        let scopes = request.targets.len() + request.inline.len();
        self.visits.hit_full += u64::from(verdict == Some(Verdict::Blocked));
        self.visits.touched_several += u64::from(scopes > 1);
        let limits = self.limits(&needs);
        let wish = request.max_wait.unwrap_or(Duration::MAX);
        let rule = limits.iter().filter_map(|limits| limits.max_wait).min().unwrap_or(Duration::MAX);
        let max_wait = if wish.min(rule) == Duration::MAX { DEFAULT_MAX_WAIT } else { wish.min(rule) };
        self.say(|| format!("acquire {needs:?} {request:?}: {verdict:?} behind {behind} barred {barred}"));
        if self.rng.u8(..4) == 0 {
            self.ask_first(&request, verdict, (behind || stopped, behind || barred || owed))?;
        }
        let mut future = if timed {
            Future::Timed(self.engine.acquire_timed_batch(request.clone()))
        } else if batch {
            Future::Batch(self.engine.acquire_batch(request.clone()))
        } else {
            Future::One(self.engine.acquire(request.clone()))
        };
        let flag = Arc::<Flag>::default();
        let outcome = future.poll(&flag);
        self.sequence += 1;
        let free = verdict == Some(Verdict::Fits) && !behind && !barred && !owed;
        match outcome {
            Some(Ok(got)) => {
                ensure!(
                    verdict != Some(Verdict::Blocked) && verdict != Some(Verdict::Never),
                    "granted what does not fit: {verdict:?}"
                );
                ensure!(!behind, "granted before those who wait in its line");
                ensure!(!stopped, "granted past a barrier");
                self.visits.note(Class::GrantedAtOnce);
                let whole = got.len() as u32 == request.count.get();
                if batch && request.count.get() > 1 {
                    self.visits.note(if whole { Class::BatchWhole } else { Class::BatchPart });
                }
                ensure!(got.len() as u32 >= request.least.get(), "a batch of {} got {}", request.least, got.len());
                self.granted(&request, got, self.now)?;
                if self.naive.held.last().is_some_and(|held| held.lender.is_some()) {
                    self.visits.note(Class::Lent);
                }
                let lender = self.naive.held.last().and_then(|held| held.lender);
                if self.naive.held.iter().any(|held| Some(held.id) == lender && held.lender.is_some()) {
                    self.visits.note(Class::LentOn);
                }
                if self.naive.held.last().is_some_and(|held| held.needs.iter().any(|need| need.anew)) {
                    self.visits.note(Class::LentAgain);
                }
                if !whole && self.waiters.is_empty() && !self.mix.small_caps {
                    let needs = self.needs(&request.clone().batch(1.try_into()?, 1.try_into()?)?);
                    let more = self.naive.verdict(&needs, true, self.now);
                    ensure!(more != Some(Verdict::Fits), "a batch got less than fits");
                }
                if let Some(name) = key {
                    self.note_key(&name, &request);
                }
            }
            Some(Err(refusal)) => self.refused(&needs, &refusal, verdict, free, max_wait)?,
            None => {
                ensure!(!free, "waits though it fits");
                ensure!(verdict != Some(Verdict::Never), "waits for what never comes");
                ensure!(!max_wait.is_zero(), "waits though it may not");
                let names = |need: &Need| need.calls + need.cost > 0 && self.naive.draining.contains(&need.counter);
                ensure!(!needs.iter().any(names), "let in while it drains");
                if scopes > 1 {
                    self.visits.note(Class::SeveralCounters);
                }
                if self.waiters.iter().filter(|waiter| waiter.line == line).count() >= 2 {
                    self.visits.note(Class::Lines);
                }
                if limits.iter().any(|limits| limits.concurrency.is_some_and(|concurrency| concurrency.limit == 0)) {
                    self.visits.note(Class::Closed);
                }
                for need in &needs {
                    let full = self.naive.verdict(std::slice::from_ref(need), true, self.now) == Some(Verdict::Blocked);
                    if full && need.counter.contains('*') {
                        self.visits.note(Class::PoolBlocked);
                    }
                    if full && need.own.is_some() {
                        self.visits.note(Class::InlineBlocked);
                    }
                    if full && self.naive.paused.contains(&need.counter) {
                        self.visits.note(Class::Paused);
                    }
                    if self.naive.pinned.contains_key(&need.counter) {
                        self.visits.note(Class::Pinned);
                    }
                }
                let deadline = self.now.saturating_add(nanos(max_wait));
                if let Some(name) = &key {
                    let (request, waiter) = (request.clone(), self.sequence);
                    let entry = Key { request, leases: Vec::new(), waiter, until: u64::MAX };
                    self.keys.insert(name.clone(), entry);
                }
                self.waiters.push(Waiter {
                    sequence: self.sequence,
                    at: self.now,
                    deadline,
                    needs_of: self.version,
                    request,
                    line,
                    needs,
                    futures: vec![(future, flag, deadline)],
                    key,
                });
            }
        }
        self.check(Cause::Arrival)
    }

    /// A question must not change anything, and must answer as the deed does.
    /// Asks for the decision first. `behind`: whether others are certainly before it, and whether they may be.
    pub(crate) fn ask_first(
        &mut self,
        request: &Request,
        verdict: Option<Verdict>,
        behind: (bool, bool),
    ) -> Result<()> {
        match self.engine.check(request) {
            Ok(_) => {
                ensure!(matches!(verdict, Some(Verdict::Fits) | None) && !behind.0, "check admits what does not fit");
            }
            Err(refusal) => {
                let cap = refusal.reason == Reason::Overloaded;
                ensure!(cap || behind.1 || verdict != Some(Verdict::Fits), "check refuses what fits: {refusal}");
            }
        }
        if self.rng.u8(..8) == 0 {
            let explanation = self.engine.explain(request)?;
            ensure!(explanation.book_version == self.version, "explained by another book");
            if let (None, Some(forecast)) = (&explanation.refusal, explanation.forecast) {
                ensure!(forecast.admitted_in.is_zero(), "it would be granted now, and in {:?}", forecast.admitted_in);
            }
        }
        Ok(())
    }

    pub(crate) fn refused(
        &mut self,
        needs: &[Need],
        refusal: &Refusal,
        verdict: Option<Verdict>,
        free: bool,
        max_wait: Duration,
    ) -> Result<()> {
        let limits = self.limits(needs);
        ensure!(refusal.book_version == self.version, "refused by another book");
        let kinds = refusal.blocked_on.iter().any(|constraint| {
            constraint.kind == ConstraintKind::Cap && constraint.limit == weir_limiter::MAX_KINDS as u64
        });
        match refusal.reason {
            Reason::TooLarge => {
                ensure!(verdict == Some(Verdict::Never), "too large, they say: {verdict:?}");
                self.visits.note(Class::TooLarge);
            }
            Reason::Overloaded => {
                let room = limits.iter().any(|limits| limits.max_waiters.is_some());
                ensure!(self.mix.small_caps || kinds || room, "overloaded without a reason: {refusal}");
                ensure!(!kinds || verdict != Some(Verdict::Fits), "too many kinds, they say");
                self.visits.note(if kinds { Class::TooManyKinds } else { Class::Overloaded });
            }
            Reason::Limited | Reason::Paused | Reason::PushedBack => {
                ensure!(!free, "refused though it fits: {refusal}");
                ensure!(verdict != Some(Verdict::Never), "to be repeated, they say, and it never fits");
                let no_room = limits.iter().any(|limits| limits.max_waiters == Some(0));
                let draining = needs.iter().any(|need| self.naive.draining.contains(&need.counter));
                ensure!(max_wait.is_zero() || no_room || draining, "refused though it may wait: {refusal}");
                ensure!(!refusal.blocked_on.is_empty(), "refused without saying why");
                self.visits.note(match refusal.reason {
                    Reason::Paused if draining => Class::Draining,
                    Reason::Paused => Class::Paused,
                    Reason::PushedBack => Class::PushedBack,
                    _ => Class::Limited,
                });
                self.try_retry_after(needs, refusal)?;
            }
            other => bail!("refused as {other}: {refusal}"),
        }
        Ok(())
    }

    /// A rate's retry-after is exact: refused at every instant before, granted at it, if nothing else happens.
    pub(crate) fn try_retry_after(&mut self, needs: &[Need], refusal: &Refusal) -> Result<()> {
        let exact = refusal.blocked_on.iter().all(|constraint| {
            constraint.kind == ConstraintKind::Rate && !constraint.estimated && constraint.frees_in.is_some()
        });
        let Some(after) = refusal.retry_after.filter(|after| exact && !after.is_zero()) else { return Ok(()) };
        let at = self.now.saturating_add(nanos(after));
        // What is held by then may have expired; only the histories are asked.
        let expires = self.naive.held.iter().any(|held| held.ends_at.is_some_and(|end| end <= at));
        if self.barred(needs, None) || expires {
            return Ok(());
        }
        let before = self.naive.verdict(needs, true, at - 1);
        ensure!(before != Some(Verdict::Fits), "retry-after {after:?} is too late");
        let then = self.naive.verdict(needs, true, at);
        ensure!(then != Some(Verdict::Blocked), "retry-after {after:?} is too early");
        self.visits.note(Class::RetryAfterHeld);
        Ok(())
    }

    /// A repeated request under a key that was used before.
    pub(crate) fn repeat(&mut self) -> Result<()> {
        self.keys.retain(|_, key| key.until > self.now);
        let mut names: Vec<&String> = self.keys.keys().collect();
        if names.is_empty() {
            return Ok(());
        }
        names.sort_unstable();
        let name = names[self.rng.usize(..names.len())].clone();
        let key = &self.keys[&name];
        let mut request = key.request.clone();
        let other = self.rng.u8(..4) == 0;
        if other {
            request.cost = request.cost.checked_add(1).unwrap_or(request.cost);
        }
        let (leases, waiter) = (key.leases.clone(), key.waiter);
        let joined = self.waiters.iter().find(|found| found.sequence == waiter && leases.is_empty());
        let most = joined.map_or(u64::MAX, |found| found.deadline.saturating_sub(self.now)).min(5_000_000);
        if !other {
            // The wait is no part of what must be equal. Who would wait longer than the first has tests of its own (`engine/tests/keys.rs`).
            request.max_wait = Some(Duration::from_nanos(most));
        }
        self.say(|| format!("repeat {name} other {other}"));
        let mut future = Future::Timed(self.engine.acquire_timed_batch(request));
        let flag = Arc::<Flag>::default();
        let waits = self.waiters.iter_mut().find(|found| found.sequence == waiter && leases.is_empty());
        match (future.poll(&flag), waits) {
            (Some(Err(refusal)), _) if refusal.reason == Reason::Conflict => {
                ensure!(other, "a conflict with itself");
                self.visits.note(Class::KeyConflict);
            }
            (None, Some(found)) => {
                ensure!(!other, "another request joined a waiter");
                found.futures.push((future, flag, self.now + most));
                self.visits.note(Class::KeyJoined);
            }
            (Some(Ok(got)), None) => {
                ensure!(!other, "another request got the lease of a key");
                let ids: Vec<LeaseId> = got.iter().filter_map(Got::timed).collect();
                let known: Vec<LeaseId> = leases.iter().map(|(lease, _)| *lease).collect();
                ensure!(ids == known, "a key answers with other leases: {ids:?}, not {known:?}");
                let alive = leases.iter().any(|(_, id)| naive_holds(&self.naive, *id));
                ensure!(alive, "a key answers with leases that have ended");
                // They are owned already.
                got.into_iter().for_each(Got::leave);
                self.visits.note(Class::KeyRepeated);
            }
            (Some(Err(refusal)), None) if refusal.reason == Reason::Ended => {
                let alive = leases.iter().any(|(_, id)| naive_holds(&self.naive, *id));
                ensure!(!alive && !other && refusal.ended.is_some(), "a key says that it ended: {refusal}");
                self.visits.note(Class::KeyEnded);
            }
            (outcome, _) => bail!("a repeated request got {outcome:?}"),
        }
        self.check(Cause::Arrival)
    }

    pub(crate) fn note_key(&mut self, name: &str, request: &Request) {
        let leases = self.owned.iter().rev().filter(|owned| owned.key.as_deref() == Some(name));
        let mut leases: Vec<(LeaseId, u64)> = leases.filter_map(|owned| Some((owned.got.timed()?, owned.id))).collect();
        leases.sort_unstable_by_key(|(_, id)| *id);
        let until = self.now.saturating_add(nanos(request.lease_time.unwrap_or_default() + KEPT));
        self.keys.insert(name.to_owned(), Key { request: request.clone(), leases, waiter: 0, until });
    }

    /// A lease lasts until `end`, or has ended then: so much longer is its key kept.
    pub(crate) fn keep_key(&mut self, lease: LeaseId, end: u64, ended: bool) {
        let key = self.keys.values_mut().find(|key| key.leases.iter().any(|(known, _)| *known == lease));
        let Some(key) = key else { return };
        let until = end.saturating_add(nanos(KEPT));
        if !ended {
            key.until = key.until.max(until);
        } else if key.leases.len() == 1 {
            key.until = until;
        }
    }

    /// Writes down what was granted at `at`, having asked whether it fits.
    pub(crate) fn granted(&mut self, request: &Request, got: Vec<Got>, at: u64) -> Result<()> {
        let single = request.clone().batch(1.try_into()?, 1.try_into()?)?;
        let needs = self.needs(&single);
        for (index, got) in got.into_iter().enumerate() {
            let verdict = self.naive.verdict(&needs, false, at);
            ensure!(
                matches!(verdict, Some(Verdict::Fits) | None),
                "over a limit: {needs:?} is {verdict:?} at unit {index}"
            );
            ensure!(got.book_version() == self.version, "granted by book {}, not {}", got.book_version(), self.version);
            let fence = got.fence();
            ensure!(
                fence > self.last_fence || request.is_unscoped() || self.mix.shards > 1,
                "a fence that does not grow"
            );
            self.last_fence = self.last_fence.max(fence);
            let ends_at = request.lease_time.map(|time| at.saturating_add(nanos(time)));
            self.leases += 1;
            let id = self.leases;
            self.say(|| format!("granted {id}, fence {fence}, rides {}", needs.iter().any(|need| need.lent != (0, 0))));
            let lender = request
                .lend_from
                .first()
                .and_then(|part| self.owned.iter().find(|owned| owned.got.reference() == Some(*part)));
            let lender = lender.map(|owned| owned.id);
            self.naive.grant(id, needs.clone(), ends_at, lender, at);
            let key = request.idempotency_key.as_deref().map(str::to_owned);
            self.owned.push(Owned { got, id, granted_at: at, cost: request.cost.get(), key });
        }
        Ok(())
    }

    pub(crate) fn take_owned(&mut self) -> Option<Owned> {
        if self.owned.is_empty() {
            return None;
        }
        let index = self.rng.usize(..self.owned.len());
        Some(self.owned.swap_remove(index))
    }

    pub(crate) fn release(&mut self) -> Result<()> {
        let outcome = if one_in_hundred(&mut self.rng, self.mix.pushback) {
            Outcome::PushedBack(Duration::from_nanos(self.rng.u64(0..20_000_000)))
        } else if self.rng.u8(..8) == 0 {
            Outcome::Failed
        } else {
            Outcome::Ok
        };
        let Some(owned) = self.take_owned() else { return Ok(()) };
        self.end(owned, outcome)
    }

    pub(crate) fn end(&mut self, owned: Owned, outcome: Outcome) -> Result<()> {
        self.say(|| format!("release {} {outcome:?}", owned.id));
        let held = self.naive.end(owned.id);
        if let (Some(held), Outcome::PushedBack(asked)) = (&held, outcome) {
            for need in &held.needs {
                let rule = self.naive.limits(&need.counter, None).and_then(|limits| limits.max_pushback);
                let Some(most) = rule.or(need.leaf.then_some(weir_limiter::DEFAULT_MAX_PUSHBACK)) else { continue };
                let until = self.now + nanos(asked.min(most));
                let before = self.naive.pushed.get(&need.counter).copied().unwrap_or(0);
                if until > self.now {
                    self.naive.pushed.insert(need.counter.clone(), before.max(until));
                }
            }
        }
        if let Some(id) = owned.got.timed() {
            let gone = self.engine.release(id, outcome).is_err();
            ensure!(gone == held.is_none(), "released a lease that had ended, or could not end one that lives");
            self.ended.push(id);
            if !gone {
                self.keep_key(id, self.now, true);
            }
        } else {
            owned.got.release(outcome);
        }
        self.check(Cause::Release)
    }

    pub(crate) fn crash(&mut self) -> Result<()> {
        self.visits.note(Class::Crashed);
        // One after the other: what is not given back yet is still owned, and may be ridden on.
        while let Some(index) = self.owned.iter().position(|owned| owned.got.timed().is_none()) {
            let owned = self.owned.swap_remove(index);
            self.end(owned, Outcome::Ok)?;
        }
        Ok(())
    }

    pub(crate) fn cancel(&mut self) -> Result<()> {
        if self.waiters.is_empty() {
            return Ok(());
        }
        let index = self.rng.usize(..self.waiters.len());
        let waiter = &mut self.waiters[index];
        let which = self.rng.usize(..waiter.futures.len());
        drop(waiter.futures.swap_remove(which));
        if waiter.futures.is_empty() {
            let gone = self.waiters.swap_remove(index);
            let head = self.waiters.iter().all(|other| other.line != gone.line || other.sequence > gone.sequence);
            self.visits.note(if head { Class::CancelledWaiting } else { Class::CancelledInLine });
            if let Some(name) = &gone.key {
                self.keys.remove(name);
            }
            self.say(|| format!("cancel {}", gone.sequence));
        }
        self.check(Cause::Cancel)
    }

    pub(crate) fn settle(&mut self) -> Result<()> {
        let index = self.rng.usize(..self.owned.len());
        let cost = self.rng.u32(0..8);
        let owned = &mut self.owned[index];
        let (id, before) = (owned.id, owned.cost);
        let alive = naive_holds(&self.naive, id);
        let settled = owned.got.settle(&self.engine, cost);
        self.say(|| format!("settle {id} at {cost}, was {before}: {settled:?}"));
        match settled {
            Some(settled) => {
                ensure!(alive, "settled a lease that had ended");
                let expected = (before.saturating_sub(cost), cost.saturating_sub(before));
                // Who has ridden may have taken more over than it asked for; who has lent keeps what its start has paid for.
                ensure!(
                    self.mix.lend > 0 || (settled.refunded, settled.overrun) == expected,
                    "settled {before} at {cost} as {settled:?}"
                );
                self.naive.settle(id, u64::from(cost), self.now);
                self.owned[index].cost = cost;
                if cost < before {
                    self.visits.note(Class::SettledRefund);
                }
                if cost > before {
                    self.visits.note(Class::SettledOverrun);
                }
            }
            None => ensure!(!alive, "a lease that lives cannot be settled"),
        }
        self.check(Cause::Release)
    }

    pub(crate) fn extend_or_forge(&mut self) -> Result<()> {
        if self.rng.u8(..3) == 0 {
            let id = match self.ended.last() {
                Some(id) if self.rng.bool() => *id,
                _ => LeaseId { shard: self.rng.u16(..9), secret: self.rng.u128(..) },
            };
            ensure!(self.engine.release(id, Outcome::Ok).is_err(), "released by a stale or forged id");
            ensure!(self.engine.extend(id, Duration::from_secs(1)).is_err(), "extended by a stale or forged id");
            ensure!(self.engine.settle(id, 0).is_err(), "settled by a stale or forged id");
            self.visits.note(Class::Forged);
        } else if let Some(owned) = self.owned.iter().find(|owned| owned.got.timed().is_some())
            && let Some(id) = owned.got.timed()
        {
            let time = Duration::from_millis(self.rng.u64(100..600));
            let latest = owned.granted_at + nanos(weir_limiter::MAX_LEASE_LIFE);
            let outcome = self.engine.extend(id, time);
            let number = owned.id;
            let held = self.naive.held.iter_mut().find(|held| held.id == number);
            match (outcome, held) {
                (Ok(remaining), Some(held)) => {
                    let end = (self.now + nanos(time)).min(latest).max(held.ends_at.unwrap_or(0));
                    ensure!(self.now + nanos(remaining) == end, "extended to another instant");
                    held.ends_at = Some(end);
                    self.keep_key(id, end, false);
                    self.visits.note(Class::Extended);
                }
                (Err(_), None) => {}
                (outcome, held) => bail!("extending {held:?} gave {outcome:?}"),
            }
        }
        self.check(Cause::Arrival)
    }

    pub(crate) fn change_book(&mut self) -> Result<()> {
        let known: Vec<String> = self.naive.rules.keys().cloned().collect();
        let changes = plan::changes(&mut self.rng, &self.mix, &known);
        self.say(|| format!("book {changes:?}"));
        let Ok(book) = self.engine.apply(&changes) else { return Ok(()) };
        self.version = book.version();
        let rules = book.rules().map(|rule| (rule.pattern.to_string(), rule.spec.clone())).collect();
        let before = std::mem::replace(&mut self.naive.rules, rules);
        self.naive.changed(self.now);
        let adopted = self.naive.adopt(&before);
        if adopted {
            self.visits.note(Class::Adopted);
        }
        self.check(Cause::Book)
    }

    pub(crate) fn operate(&mut self) -> Result<()> {
        let name = plan::counter(&mut self.rng, &self.mix);
        let verb = match self.rng.u8(..12) {
            0 => Verb::Pause,
            1..=4 => Verb::Resume,
            5 => Verb::Drain,
            6 => Verb::Pin(plan::limits(&mut self.rng, &self.mix)),
            7..=9 => Verb::Unpin,
            _ => Verb::Reset,
        };
        self.say(|| format!("{verb:?} {name}"));
        if self.engine.operate(&name.parse::<CounterName>()?, &verb).is_err() {
            ensure!(self.mix.small_caps, "no room to operate");
            return self.check(Cause::Book);
        }
        match verb {
            Verb::Pause => _ = self.naive.paused.insert(name),
            Verb::Drain => _ = self.naive.draining.insert(name),
            Verb::Resume => {
                self.naive.paused.remove(&name);
                self.naive.draining.remove(&name);
                self.naive.pushed.remove(&name);
            }
            Verb::Pin(limits) => _ = self.naive.pinned.insert(name, limits),
            Verb::Unpin => _ = self.naive.pinned.remove(&name),
            Verb::Reset => {
                self.naive.reset(&name);
                self.visits.note(Class::Reset);
            }
        }
        self.naive.changed(self.now);
        self.check(Cause::Book)
    }

    pub(crate) fn advance(&mut self) -> Result<()> {
        let next = self.waiters.iter().flat_map(|waiter| &waiter.futures).map(|(.., deadline)| *deadline);
        let next = next.chain(self.waiters.iter().map(|waiter| waiter.deadline));
        let next = next.chain(self.naive.held.iter().filter_map(|held| held.ends_at)).filter(|at| *at > self.now).min();
        let by = match (self.rng.u8(..20), next) {
            (0..=3, Some(next)) => next - self.now,
            (4..=6, Some(next)) => next - self.now - 1,
            (7, Some(next)) => next - self.now + 1,
            (8..=13, _) => self.rng.u64(0..8_000_000),
            (14, _) => 61_000_000_000,
            (15, _) if self.rng.u8(..10) == 0 => 86_400_000_000_000,
            _ => self.rng.u64(0..60_000_000),
        };
        let due = self.naive.held.iter().filter(|held| held.ends_at.is_some_and(|end| end <= self.now + by)).count();
        if due > 1 {
            self.visits.note(Class::SeveralDue);
        }
        self.say(|| format!("advance {by}"));
        self.now += by;
        self.engine.advance(Duration::from_nanos(by));
        self.check(Cause::Time)
    }
}
