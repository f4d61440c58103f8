//! A request is decided: at once, or by writing it down to wait.

use crate::acquire::{Begun, Secrets};
use crate::cell::Wait;
use crate::engine::Engine;
use crate::lease::Lease;
use crate::secret::unguessable;
use smallvec::SmallVec;
use std::sync::Arc;
use weir_limiter::planted::{self, Bug};
use weir_limiter::{Grant, Input, Output, Reason, Refusal, Request, WaiterId};

impl Engine {
    /// 128 unguessable bits for each lease that a request may get.
    pub(crate) fn secrets(&self, request: &Request) -> Secrets {
        (0..request.count.get().min(weir_limiter::MAX_BATCH)).map(|_| unguessable()).collect()
    }

    /// Decides a request: at once, or by writing it down to wait.
    #[inline]
    pub(crate) fn begin(&self, request: &Request, wait: bool, secrets: &[u128]) -> Begun {
        if let Some(store) = &self.core.store
            && (store.is_clogged() || store.is_failing() && !secrets.is_empty())
        {
            return Begun::Ended(Err(Refusal::new(Reason::Unavailable)));
        }
        let direct = if secrets.is_empty() { request.direct() } else { None };
        if direct.is_none() && (request.validate().is_err() || request.idempotency_key.is_some() && secrets.is_empty())
        {
            return Begun::Ended(Err(Refusal::new(Reason::Invalid)));
        }
        let input = Input::Acquire { request, wait, secrets };
        let mut waiting = None;
        if let [key] = request.targets.as_slice()
            && request.inline.is_empty()
        {
            // One scope, one shard, one lock.
            let hash = self.core.placement.hash(key.scope());
            let index = self.core.placement.shard_of_hash(hash);
            let cell = &self.core.cells[usize::from(index)];
            let mut shard = cell.lock();
            let now = self.core.clock.now();
            if let Some((key, cost)) = direct
                && let Some(taken) = shard.take(now, key, hash, cost, request.caller)
            {
                let recorded = cell.hand_over(&mut shard);
                drop(shard);
                return Begun::Granted(Lease::taken(Arc::clone(cell), taken, recorded));
            }
            let output = cell.step_locked(shard, now, input.clone(), |cell, output| {
                if let Output::Waiting(waiter) = output {
                    let wait = Arc::<Wait>::default();
                    cell.expect(waiter.ticket, Arc::clone(&wait));
                    waiting = Some((*waiter, wait));
                }
            });
            return match (output, waiting) {
                (Output::Granted(grant), _) if grant.more.is_empty() => {
                    Begun::Granted(Lease::in_cell(Some(Arc::clone(cell)), grant))
                }
                (Output::Granted(grant), _) => Begun::Ended(Ok(Lease::all(&self.core, grant))),
                (_, Some((waiter, wait))) => Begun::Waiting { waiter, shards: SmallVec::from_slice(&[index]), wait },
                (Output::Elsewhere(shards), None) => self.begin_many(shards, request, &input),
                (output, None) => Begun::Ended(Err(refused(output))),
            };
        }
        if request.is_unscoped() {
            return Begun::Ended(Ok(Lease::all(&self.core, Grant::unscoped(request, self.now()))));
        }
        self.begin_many(self.core.placement.shards_of(request), request, &input)
    }

    /// The same over several shards; more are taken where a step asks for them.
    fn begin_many(&self, mut shards: SmallVec<[u16; 4]>, request: &Request, input: &Input<'_>) -> Begun {
        debug_assert!(!request.is_unscoped());
        loop {
            let mut waiting = None;
            let output = self.core.step_many(&shards, input.clone(), |output| {
                if let Output::Waiting(waiter) = output {
                    let wait = Arc::<Wait>::default();
                    self.core.cells[usize::from(waiter.shard)].expect(waiter.ticket, Arc::clone(&wait));
                    waiting = Some((*waiter, wait));
                }
            });
            return match (output, waiting) {
                (Output::Granted(grant), _) => Begun::Ended(Ok(Lease::all(&self.core, grant))),
                (_, Some((waiter, wait))) => Begun::Waiting { waiter, shards, wait },
                (Output::Elsewhere(needed), None) => {
                    shards = needed;
                    continue;
                }
                (output, None) => Begun::Ended(Err(refused(output))),
            };
        }
    }

    pub(crate) fn cancel(&self, waiter: WaiterId, shards: SmallVec<[u16; 4]>) {
        // First: a grant that is decided from here on finds nobody and goes back by itself.
        self.core.cells[usize::from(waiter.shard)].forget(waiter.ticket);
        if planted::is(Bug::CancelLeavesWaiter) {
            return;
        }
        self.core.step_where_needed(shards, &Input::Cancel { waiter });
    }
}

fn refused(output: Output) -> Refusal {
    match output {
        Output::Refused(refusal) => refusal,
        _ => Refusal::new(Reason::Unavailable),
    }
}
