//! An acquire that has to wait, with its room.
//!
//! Only one that really has to wait takes room in the waiting room of its component, which is smaller than the component's
//! slots: a component can never wait with all of them.

use crate::bindings::weir::flow::types as wit;
use crate::convert::refused;
use crate::ctx::{FlowCtx, WaitingRoom};
use crate::request::RequestState;
use crate::view::Home;
use std::future::Future;
use std::pin::pin;
use weir_engine::{Reason, Refusal};

/// An acquire that waits.
pub(crate) struct Waiting<F> {
    home: Home,
    acquire: F,
    _room: Option<WaitingRoom>,
}

impl<T, F: Future<Output = Result<T, Refusal>> + Unpin> Waiting<F> {
    /// Takes room for it, if it has this ticket in a line.
    ///
    /// # Errors
    /// `overloaded` when there is none.
    pub(crate) fn new(ctx: &FlowCtx, home: Home, acquire: F, ticket: Option<u64>) -> Result<Self, wit::Refusal> {
        match ctx.identity.wait(ticket) {
            Ok(_room) => Ok(Self { home, acquire, _room }),
            Err(most) => Err(too_many_waiting(&home, most)),
        }
    }

    /// Waits for the outcome; there is none when the request is given up first.
    ///
    /// # Cancel safety
    /// As the acquire: it leaves no trace.
    pub(crate) async fn outcome(self) -> (Home, Option<Result<T, Refusal>>) {
        let Self { home, acquire, _room } = self;
        let outcome = match futures::future::select(acquire, pin!(home.cancelled())).await {
            futures::future::Either::Left((outcome, _)) => Some(outcome),
            futures::future::Either::Right(((), _)) => None,
        };
        (home, outcome)
    }
}

pub(crate) fn too_many_waiting(home: &RequestState, most: usize) -> wit::Refusal {
    home.note_refusal();
    refused(
        Reason::Overloaded,
        format!("overloaded: {most} acquires of this component wait already, which is the most allowed"),
    )
}
