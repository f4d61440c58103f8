//! From a guest's words to a request of the engine, and from the engine's answer to a handle.
//!
//! Everything a guest says is checked here, once, for all flavours of acquire. Its mistakes are answers (`invalid`,
//! `denied`), never traps. A trap is left for handles that do not exist, which is a fault of the bindings.
//!
//! Default scope and limit key: those of the request when it came scoped, else the component's own scope. The lease
//! that ingress took for the request, or a component around this one, rides along as `lend_from`, so that a component that
//! acquires what its own request already holds does not wait for itself. The caller of every request is the component.

use crate::bindings::weir::flow::types as wit;
use crate::convert::{refusal, refused};
use crate::lease::LeaseEntry;
use crate::options::OptionsEntry;
use crate::request::{MAX_LEASES, NoPlace, RequestState};
use crate::view::{FlowCtxView, Home};
use std::num::NonZeroU32;
use std::time::Duration;
use wasmtime::component::Resource;
use weir_engine::{Lease, Reason, Refusal, Request, ScopedKey};

/// The longest wait that a guest can ask for; more is taken as this. Its request has a deadline anyway.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

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
    pub(crate) fn request(&mut self, home: &Home, ask: Ask) -> wasmtime::Result<Result<Request, wit::Refusal>> {
        let more = match ask.more {
            Some(more) => Some(self.table.delete(more)?),
            None => None,
        };
        Ok(self.checked(home, ask.scope, ask.limit_key.as_deref(), ask.cost, more))
    }

    #[inline]
    fn checked(
        &self,
        home: &Home,
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
        let mut request = Request::new(key).cost(cost).caller(self.ctx.identity.caller);
        if let Some(more) = more {
            request = self.with_options(home, request, more)?;
        }
        request.lend_from = home.lend(&request, &home.stack);
        Ok(request)
    }

    /// The request with what the guest said besides. Apart, so that one without options stays small.
    #[inline(never)]
    fn with_options(
        &self,
        home: &RequestState,
        mut request: Request,
        more: OptionsEntry,
    ) -> Result<Request, wit::Refusal> {
        if let Some(wrong) = more.wrong {
            return Err(refused(Reason::Invalid, format!("invalid: {wrong}")));
        }
        // The scope of the call is that of its first target.
        if let Some(own) = request.targets.first().cloned() {
            for (key, limits) in more.flow_controls {
                request = request.inline(own.scope(), &key, limits).map_err(|error| invalid(&error))?;
            }
        }
        for key in more.targets {
            self.allowed(home, key.scope())?;
            request = request.also(key).map_err(|error| invalid(&error))?;
        }
        if let Some((key, weight)) = more.fairness {
            (request.fairness_key, request.weight) = (Some(key), weight);
        }
        request.priority = more.priority.unwrap_or(request.priority);
        request.max_wait = more.max_wait.map(|max_wait| max_wait.min(LONGEST_WAIT));
        request.lease_time = more.lease_time;
        request.validate().map_err(|error| invalid(&error))?;
        Ok(request)
    }

    /// A key that the guest named; whether it may is part of the question.
    fn named(&self, home: &RequestState, scope: &str, limit_key: Option<&str>) -> Result<ScopedKey, wit::Refusal> {
        let key = ScopedKey::new(scope, limit_key).map_err(|error| invalid(&error))?;
        self.allowed(home, scope)?;
        Ok(key)
    }

    pub(crate) fn allowed(&self, home: &RequestState, scope: &str) -> Result<(), wit::Refusal> {
        let own = home.key().is_some_and(|own| own.scope() == scope);
        if own || self.ctx.identity.allows(scope) {
            Ok(())
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
    pub(crate) fn answer(&mut self, home: Home, outcome: Result<Lease, Refusal>) -> wasmtime::Result<Answer> {
        Ok(match outcome {
            Ok(lease) => self.handle(home, lease),
            Err(why) => Err(told(&home, &why)),
        })
    }

    /// Puts a lease with its request, and a handle for it into the table. Where there is no room it goes back.
    #[inline]
    pub(crate) fn handle(&mut self, home: Home, lease: Lease) -> Answer {
        let (id, fence) = (lease.id(), lease.fence());
        let (request, place) = match home.hold(lease, home.stack.first().copied()) {
            Ok(place) => (home.request, place),
            Err(NoPlace::Full) => return Err(too_many_leases()),
            Err(NoPlace::Ended(lease)) => {
                let background = self.ctx.background().clone();
                match background.hold(lease, home.stack.first().copied()) {
                    Ok(place) => (background, place),
                    Err(NoPlace::Full | NoPlace::Ended(_)) => return Err(too_many_leases()),
                }
            }
        };
        let entry = LeaseEntry::new(request, place, id, fence);
        self.table.push(entry).map_err(|_full| {
            // The entry was dropped by the failed push, and so the lease went back.
            refused(Reason::Overloaded, "overloaded: this instance has as many open resources as it may have")
        })
    }
}

/// A refusal of the engine, as its guest is told it.
#[cold]
pub(crate) fn told(home: &RequestState, why: &Refusal) -> wit::Refusal {
    home.note_refusal();
    refusal(why)
}

pub(crate) fn given_up() -> wit::Refusal {
    refused(Reason::Unavailable, "unavailable: the client of this request has gone, or its deadline has passed")
}

pub(crate) fn too_many_leases() -> wit::Refusal {
    refused(
        Reason::Overloaded,
        format!("overloaded: this request holds {MAX_LEASES} leases already, which is the most allowed"),
    )
}

pub(crate) fn invalid(error: &dyn std::error::Error) -> wit::Refusal {
    refused(Reason::Invalid, format!("invalid: {error}"))
}
