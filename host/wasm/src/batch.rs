//! Batches: several leases for one question, in both flavours.
//!
//! A batch is bounded by what its request may hold before the limiter is asked, so that what is granted can be held.

use crate::acquire::{Ask, invalid, told, too_many_leases};
use crate::bindings::weir::flow::types as wit;
use crate::convert::refused;
use crate::lease::LeaseEntry;
use crate::request::RequestState;
use crate::view::{FlowCtxView, Home};
use crate::waiting::Waiting;
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use wasmtime::component::Resource;
use weir_engine::{AcquireBatch, Lease, Reason, Refusal, Request, RequestError};

/// What an acquire of a batch answers.
pub(crate) type BatchAnswer = Result<Vec<Resource<LeaseEntry>>, wit::Refusal>;

/// What became of a batch at once.
pub(crate) enum BatchBegun {
    Answer(BatchAnswer),
    Wait(Waiting<AcquireBatch>),
}

impl FlowCtxView<'_> {
    /// Asks for a batch. With `stalls`, waiting is refused where it would stall other requests of the instance.
    pub(crate) fn begin_batch(
        &mut self,
        home: Home,
        ask: Ask,
        (count, least): (u32, u32),
        stalls: bool,
    ) -> wasmtime::Result<BatchBegun> {
        let checked = self.request(&home, ask)?.and_then(|request| batch(&home, request, count, least));
        let request = match checked {
            Ok(request) => request,
            Err(refusal) => return Ok(BatchBegun::Answer(Err(refusal))),
        };
        let mut acquire = self.ctx.engine.acquire_batch(request);
        // Takes its place in line, or is decided on the spot.
        if let Poll::Ready(outcome) = Pin::new(&mut acquire).poll(&mut Context::from_waker(Waker::noop())) {
            return Ok(BatchBegun::Answer(self.answer_batch(&home, outcome)?));
        }
        let ticket = acquire.ticket();
        if ticket.is_some() && stalls && !self.ctx.may_block {
            return Ok(BatchBegun::Answer(Err(would_block())));
        }
        Ok(match Waiting::new(self.ctx, home, acquire, ticket) {
            Ok(waiting) => BatchBegun::Wait(waiting),
            Err(refusal) => BatchBegun::Answer(Err(refusal)),
        })
    }

    /// Makes handles of what the engine granted: of all, or of none.
    pub(crate) fn answer_batch(
        &mut self,
        home: &Home,
        outcome: Result<Vec<Lease>, Refusal>,
    ) -> wasmtime::Result<BatchAnswer> {
        let leases = match outcome {
            Ok(leases) => leases,
            Err(why) => return Ok(Err(told(home, &why))),
        };
        let mut handles = Vec::with_capacity(leases.len());
        for lease in leases {
            match self.handle(home.clone(), lease) {
                Ok(handle) => handles.push(handle),
                Err(refusal) => {
                    for handle in handles {
                        self.table.delete(handle)?;
                    }
                    return Ok(Err(refusal));
                }
            }
        }
        Ok(Ok(handles))
    }
}

/// A batch of a request, of at most what its home has room for.
fn batch(home: &RequestState, mut request: Request, count: u32, least: u32) -> Result<Request, wit::Refusal> {
    let (Some(count), Some(least)) = (NonZeroU32::new(count), NonZeroU32::new(least)) else {
        return Err(invalid(&RequestError::Batch { count, least }));
    };
    if count > NonZeroU32::MIN {
        // Nothing is lent to it, and so it need not stand alone.
        request.lend_from.clear();
    }
    let mut request = request.batch(count, least).map_err(|error| invalid(&error))?;
    let room = u32::try_from(home.room()).ok().and_then(NonZeroU32::new).filter(|room| *room >= least);
    request.count = request.count.min(room.ok_or_else(too_many_leases)?);
    Ok(request)
}

pub(crate) fn would_block() -> wit::Refusal {
    refused(
        Reason::WouldBlock,
        "would-block: a wait here would stall other requests of this instance; use the interface `leases`",
    )
}
