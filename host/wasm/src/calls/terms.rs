//! What a call asks of the limiter: its key, its scope, and what the egress rule for its destination wants.
//!
//! The key lies under the scope that the call names, else under the component's own, and never under the one that the request
//! being served came under: a provider's limits are the same whoever is served. For the same reason nothing but what is
//! named is taken; a call that names neither key nor scope is free, but for the egress rule.

use super::attempts::Attempts;
use super::bindings::weir::calls::calls as wit;
use super::options::CallOptionsEntry;
use crate::acquire::{LONGEST_WAIT, given_up};
use crate::bindings::weir::flow::types::Refusal;
use crate::convert::refused;
use crate::egress::Ruled;
use crate::request::RequestState;
use crate::view::{FlowCtxView, Home};
use std::error::Error;
use weir_engine::{Reason, Request};

impl FlowCtxView<'_> {
    /// The attempts of a call, if it may be made.
    pub(super) fn attempts(
        &self,
        home: &Home,
        options: CallOptionsEntry,
        ruled: Option<Ruled>,
    ) -> Result<Attempts, wit::CallError> {
        if home.is_cancelled() {
            return Err(wit::CallError::Refused(given_up()));
        }
        if let Some(wrong) = options.wrong {
            return Err(wit::CallError::Invalid(wrong));
        }
        let (retry, attempt_timeout) = (options.retry.clone(), options.attempt_timeout);
        let ask = self.ask(home, options, ruled)?;
        let (flow, identity) = (self.ctx.engine.clone(), self.ctx.identity.clone());
        Ok(Attempts { flow, identity, home: home.clone(), ask, retry, attempt_timeout })
    }

    fn ask(
        &self,
        home: &RequestState,
        options: CallOptionsEntry,
        ruled: Option<Ruled>,
    ) -> Result<Request, wit::CallError> {
        let own = self.ctx.identity.default_key.scope();
        let scope = options.scope.as_ref().map_or(own, |key| key.scope()).to_owned();
        let mut request = match options.scope {
            Some(key) => {
                self.allowed(home, key.scope()).map_err(wit::CallError::Refused)?;
                Request::new(key)
            }
            None => Request::unscoped(),
        };
        if let Some((key, limits)) = options.key {
            request = request.inline(&scope, &key, limits).map_err(|error| invalid(&error))?;
        }
        request.cost = options.cost.unwrap_or(request.cost);
        request.priority = options.priority.unwrap_or(request.priority);
        request.max_wait = options.max_wait.map(|max_wait| max_wait.min(LONGEST_WAIT));
        if let Some(ruled) = ruled {
            request = request.also(ruled.key).map_err(|error| invalid(&error))?;
            request.cost = request.cost.max(ruled.cost);
            request.max_wait = request.max_wait.into_iter().chain(ruled.max_wait).min();
        }
        request.validate().map_err(|error| invalid(&error))?;
        Ok(request.caller(self.ctx.identity.caller))
    }
}

fn invalid(error: &dyn Error) -> wit::CallError {
    wit::CallError::Invalid(error.to_string())
}

/// All calls of the component together keep as many bytes of bodies as they may.
pub(super) fn too_much_kept(home: &RequestState) -> Refusal {
    home.note_refusal();
    refused(
        Reason::Overloaded,
        "overloaded: calls of this component keep as many bytes for their retries already as they may",
    )
}
