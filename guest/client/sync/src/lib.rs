//! `weir-client-sync.wasm`: meets a WASI 0.2 component's import of `weir:flow` on somebody else's host.
//!
//! Its variables are those of `weir-client-core`, and so are its promises. Every call blocks the instance until it is answered, by
//! `wasi:io/poll`; a WASI 0.2 instance serves one request at a time, so nobody else waits for that.
//!
//! # Nothing happens between calls
//! There is no task in the background, and so **no lease is extended by itself**: each ends by its lease time (30 s, or
//! `WEIR_LEASE_TIME`, or what the guest set) unless the guest calls `extend`. `remaining` says how long that is. A release or a drop
//! is sent before it returns. `keep` sends nothing: the end of the response cannot be seen from here, so the lease ends by its
//! lease time.

mod bindings;
#[path = "../../shared/convert.rs"]
mod convert;
mod wasi;

use bindings::exports::weir::flow::{leases_sync, types};
use convert::{Options, ask};
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use wasi::Wasi;
use weir_client_core::{Client, Lease, Outcome, Refused, at_once};

thread_local! {
    /// One for each instance.
    static CLIENT: Rc<Client<Wasi>> = Rc::new(Client::new(Wasi, |name| std::env::var(name).ok()));
}

fn client() -> Rc<Client<Wasi>> {
    CLIENT.with(Rc::clone)
}

/// What is exported.
struct Component;

/// A lease in the hands of a guest. Dropping it sends the release.
struct Held {
    lease: Lease,
    /// How it ends; none where it is left to its lease time.
    end: Cell<Option<Outcome>>,
}

impl Held {
    fn export(lease: Lease) -> types::Lease {
        types::Lease::new(Self { lease, end: Cell::new(Some(Outcome::Ok)) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(outcome) = self.end.get() {
            // Its host blocks, so it is ready at once.
            let _ = at_once(client().release(&self.lease, outcome));
        }
    }
}

impl types::Guest for Component {
    type Lease = Held;
    type RequestOptions = Options;
}

impl types::GuestLease for Held {
    fn id(&self) -> String {
        self.lease.id().to_owned()
    }

    fn fence(&self) -> u64 {
        self.lease.fence()
    }

    fn remaining(&self) -> Option<types::Duration> {
        Some(self.lease.remaining(wasip2::clocks::monotonic_clock::now()))
    }
}

impl leases_sync::Guest for Component {
    fn acquire(
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<types::RequestOptions>,
    ) -> Result<types::Lease, types::Refusal> {
        one(scope, limit_key, cost, more, true)
    }

    fn try_acquire(
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<types::RequestOptions>,
    ) -> Result<types::Lease, types::Refusal> {
        one(scope, limit_key, cost, more, false)
    }

    fn acquire_batch(
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        count: u32,
        least: u32,
        more: Option<types::RequestOptions>,
    ) -> Result<Vec<types::Lease>, types::Refusal> {
        let ask = ask(scope, limit_key, cost, more);
        let leases = now(client().acquire(&ask, true, count, least))?;
        Ok(leases.into_iter().map(Held::export).collect())
    }

    fn check(
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<types::RequestOptions>,
    ) -> Result<Vec<types::Constraint>, types::Refusal> {
        let constraints = now(client().check(&ask(scope, limit_key, cost, more)))?;
        Ok(constraints.into_iter().map(types::Constraint::from).collect())
    }

    fn extend(
        lease: types::LeaseBorrow<'_>,
        lease_time: types::Duration,
    ) -> Result<Option<types::Duration>, types::Refusal> {
        Ok(Some(now(client().extend(&lease.get::<Held>().lease, lease_time))?))
    }

    fn settle(lease: types::LeaseBorrow<'_>, cost: u32) -> Result<types::Settled, types::Refusal> {
        Ok(now(client().settle(&lease.get::<Held>().lease, cost))?.into())
    }

    fn release(lease: types::Lease, outcome: types::Outcome) {
        lease.get::<Held>().end.set(Some(outcome.into()));
    }

    fn keep(lease: types::Lease) {
        lease.get::<Held>().end.set(None);
    }
}

fn one(
    scope: Option<String>,
    limit_key: Option<String>,
    cost: u32,
    more: Option<types::RequestOptions>,
    waits: bool,
) -> Result<types::Lease, types::Refusal> {
    let ask = ask(scope, limit_key, cost, more);
    match now(client().acquire(&ask, waits, 1, 1))?.pop() {
        Some(lease) => Ok(Held::export(lease)),
        None => Err(unavailable("the Weir server granted nothing")),
    }
}

fn now<T>(call: impl Future<Output = Result<T, Refused>>) -> Result<T, types::Refusal> {
    match at_once(call) {
        Some(answer) => answer.map_err(types::Refusal::from),
        None => Err(unavailable("the host of this client does not block")),
    }
}

fn unavailable(message: &str) -> types::Refusal {
    types::Refusal {
        reason: types::Reason::Unavailable,
        retry_after: None,
        blocked_on: Vec::new(),
        message: message.to_owned(),
    }
}
