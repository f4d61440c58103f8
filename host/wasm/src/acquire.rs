//! From a guest's words to a request of the engine, and from the engine's answer to a handle.
//!
//! Everything a guest says is checked here, once, for all flavours of acquire. Its mistakes are answers (`invalid`,
//! `denied`), never traps. A trap is left for handles that do not exist, which is a fault of the bindings.
//!
//! Default scope and limit key: those of the request when it came scoped, else the component's own scope. The lease
//! that ingress took for the request rides along as `lend_from`, so that a component that acquires what its own
//! request already holds does not wait for itself.

use crate::bindings::weir::flow::types as wit;
use crate::convert::{refusal, refused};
use crate::lease::LeaseEntry;
use crate::options::{MAX_MORE_TARGETS, OptionsEntry};
use crate::request::{MAX_LEASES, NoPlace, RequestState};
use crate::view::FlowCtxView;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::Resource;
use weir_engine::{Lease, Reason, Refusal, Request, ScopedKey};

/// The longest wait that a guest can ask for; more is taken as this. Its request has a deadline anyway.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// What every acquire answers.
pub(crate) type Answer = Result<Resource<LeaseEntry>, wit::Refusal>;

/// What a guest said.
pub(crate) struct Ask {
    pub(crate) scope: Option<String>,
    pub(crate) limit_key: Option<String>,
    pub(crate) cost: u32,
    pub(crate) more: Option<Resource<OptionsEntry>>,
}

impl FlowCtxView<'_> {
    /// Checks what the guest said and makes a request of it.
    #[inline]
    pub(crate) fn request(&mut self, home: &RequestState, ask: Ask) -> wasmtime::Result<Result<Request, wit::Refusal>> {
        let more = match ask.more {
            Some(more) => Some(self.table.delete(more)?),
            None => None,
        };
        Ok(self.checked(home, ask.scope, ask.limit_key.as_deref(), ask.cost, more))
    }

    #[inline]
    fn checked(
        &self,
        home: &RequestState,
        scope: Option<String>,
        limit_key: Option<&str>,
        cost: u32,
        more: Option<OptionsEntry>,
    ) -> Result<Request, wit::Refusal> {
        if home.is_cancelled() {
            return Err(given_up());
        }
        let key = match (scope, limit_key) {
            (None, None) => home.key().unwrap_or(&self.ctx.identity.default_key).clone(),
            (None, Some(limit_key)) => {
                let scope = home.key().unwrap_or(&self.ctx.identity.default_key).scope();
                ScopedKey::new(scope, Some(limit_key)).map_err(|error| invalid(&error))?
            }
            (Some(scope), limit_key) => self.named(home, &scope, limit_key)?,
        };
        let Some(cost) = NonZeroU32::new(cost) else {
            return Err(refused(Reason::Invalid, "invalid: the cost is 0; it must be at least 1"));
        };
        let mut request = Request::new(key).cost(cost);
        if let Some(lend) = home.lend() {
            request = request.lend_from(lend);
        }
        if let Some(more) = more {
            if more.too_many {
                return Err(refused(Reason::Invalid, format!("invalid: more than {MAX_MORE_TARGETS} further targets")));
            }
            for (scope, limit_key) in &more.targets {
                let key = self.named(home, scope, limit_key.as_deref())?;
                request = request.also(key).map_err(|error| invalid(&error))?;
            }
            if let Some(max_wait) = more.max_wait {
                request = request.max_wait(max_wait.min(LONGEST_WAIT));
            }
            if let Some(lease_time) = more.lease_time {
                request = request.lease_time(lease_time);
            }
            request.validate().map_err(|error| invalid(&error))?;
        }
        Ok(request)
    }

    /// A key that the guest named; whether it may is part of the question.
    fn named(&self, home: &RequestState, scope: &str, limit_key: Option<&str>) -> Result<ScopedKey, wit::Refusal> {
        let key = ScopedKey::new(scope, limit_key).map_err(|error| invalid(&error))?;
        let own = home.key().is_some_and(|own| own.scope() == scope);
        if own || self.ctx.identity.allows(scope) {
            Ok(key)
        } else {
            let name = &self.ctx.identity.name;
            Err(refused(
                Reason::Denied,
                format!(
                    "denied: the component `{name}` may not use the scope `{scope}`; its configuration must allow it"
                ),
            ))
        }
    }

    /// Makes a handle of what the engine granted.
    pub(crate) fn answer(
        &mut self,
        home: Arc<RequestState>,
        outcome: Result<Lease, Refusal>,
    ) -> wasmtime::Result<Answer> {
        let lease = match outcome {
            Ok(lease) => lease,
            Err(why) => return Ok(Err(refusal(&why))),
        };
        let (id, fence) = (lease.id(), lease.fence());
        let (home, place) = match home.hold(lease) {
            Ok(place) => (home, place),
            Err(NoPlace::Full) => return Ok(Err(too_many_leases())),
            Err(NoPlace::Ended(lease)) => {
                let background = self.ctx.background().clone();
                match background.hold(lease) {
                    Ok(place) => (background, place),
                    Err(NoPlace::Full | NoPlace::Ended(_)) => return Ok(Err(too_many_leases())),
                }
            }
        };
        let entry = LeaseEntry::new(home, place, id, fence);
        match self.table.push(entry) {
            Ok(resource) => Ok(Ok(resource)),
            // The entry was dropped by the failed push, and so the lease went back.
            Err(_full) => Ok(Err(refused(
                Reason::Overloaded,
                "overloaded: this instance has as many open resources as it may have",
            ))),
        }
    }
}

pub(crate) fn given_up() -> wit::Refusal {
    refused(Reason::Unavailable, "unavailable: the client of this request has gone, or its deadline has passed")
}

pub(crate) fn too_many_waiting(most: usize) -> wit::Refusal {
    refused(
        Reason::Overloaded,
        format!("overloaded: {most} acquires of this component wait already, which is the most allowed"),
    )
}

fn too_many_leases() -> wit::Refusal {
    refused(
        Reason::Overloaded,
        format!("overloaded: this request holds {MAX_LEASES} leases already, which is the most allowed"),
    )
}

fn invalid(error: &dyn std::error::Error) -> wit::Refusal {
    refused(Reason::Invalid, format!("invalid: {error}"))
}
