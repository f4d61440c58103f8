//! `weir-client.wasm`: meets a WASI 0.3 component's import of `weir:flow` on somebody else's host.
//!
//! ```sh
//! weir compose app.wasm --client --no-middleware -o anywhere.wasm
//! wasmtime serve -Scli --addr 127.0.0.1:3000 --env WEIR_URL=http://127.0.0.1:8080 anywhere.wasm
//! ```
//!
//! Its variables are those of `weir-client-core`, and so are its promises. What is its own is the life of a lease.
//!
//! # Who keeps a lease
//! `release`, `keep` and the drop of a handle are plain functions: one that waited for the network would trap. So the call that
//! acquired a lease goes on after it has returned: its task becomes the lease's [keeper](keeper), and what happens to the handle is
//! only told to it. The instance lives as long as any such task, so a host that ends instances when they are idle lets it finish.
//!
//! | The guest | The keeper |
//! |---|---|
//! | holds a lease that it gave no lease time | extends it each time that half of its time has passed, for an hour at most |
//! | holds a lease with a lease time of its own | leaves it: it ends then, unless the guest extends it |
//! | drops or releases it | sends the release, up to four times |
//! | says `keep` | lets go: the end of the response cannot be seen from here, so it ends by its lease time. Weir's middleware holds its lease instead |
//! | traps, or is ended by its host | is gone as well; the lease ends by its lease time |
//!
//! # Not handled here
//! Lending: what ingress took for a request elsewhere is unknown here. A lease that was granted while the guest cancelled its
//! call ends by its lease time.

mod bindings;
#[path = "../../shared/convert.rs"]
mod convert;
mod keeper;
mod wasi;

use bindings::exports::weir::flow::{leases, types};
use convert::{Options, ask};
use keeper::{End, Kept};
use std::rc::Rc;
use wasi::Wasi;
use weir_client_core::Client;

thread_local! {
    /// One for each instance.
    static CLIENT: Rc<Client<Wasi>> = Rc::new(Client::new(Wasi, |name| std::env::var(name).ok()));
}

fn client() -> Rc<Client<Wasi>> {
    CLIENT.with(Rc::clone)
}

/// What is exported.
struct Component;

impl types::Guest for Component {
    type Lease = Kept;
    type RequestOptions = Options;
}

impl types::GuestLease for Kept {
    fn id(&self) -> String {
        self.lease().id().to_owned()
    }

    fn fence(&self) -> u64 {
        self.lease().fence()
    }

    fn remaining(&self) -> Option<types::Duration> {
        Some(self.lease().remaining(wasip3::clocks::monotonic_clock::now()))
    }
}

impl leases::Guest for Component {
    async fn acquire(
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<types::RequestOptions>,
    ) -> Result<types::Lease, types::Refusal> {
        one(scope, limit_key, cost, more, true).await
    }

    async fn try_acquire(
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<types::RequestOptions>,
    ) -> Result<types::Lease, types::Refusal> {
        one(scope, limit_key, cost, more, false).await
    }

    async fn acquire_batch(
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        count: u32,
        least: u32,
        more: Option<types::RequestOptions>,
    ) -> Result<Vec<types::Lease>, types::Refusal> {
        let ask = ask(scope, limit_key, cost, more);
        let leases = client().acquire(&ask, true, count, least).await?;
        Ok(leases.into_iter().map(|lease| types::Lease::new(Kept::new(lease))).collect())
    }

    async fn check(
        scope: Option<String>,
        limit_key: Option<String>,
        cost: u32,
        more: Option<types::RequestOptions>,
    ) -> Result<Vec<types::Constraint>, types::Refusal> {
        let constraints = client().check(&ask(scope, limit_key, cost, more)).await?;
        Ok(constraints.into_iter().map(types::Constraint::from).collect())
    }

    async fn extend(
        lease: types::LeaseBorrow<'_>,
        lease_time: types::Duration,
    ) -> Result<Option<types::Duration>, types::Refusal> {
        Ok(Some(client().extend(lease.get::<Kept>().lease(), lease_time).await?))
    }

    async fn settle(lease: types::LeaseBorrow<'_>, cost: u32) -> Result<types::Settled, types::Refusal> {
        Ok(client().settle(lease.get::<Kept>().lease(), cost).await?.into())
    }

    fn release(lease: types::Lease, outcome: types::Outcome) {
        lease.into_inner::<Kept>().end(End::Released(outcome.into()));
    }

    fn keep(lease: types::Lease) {
        lease.into_inner::<Kept>().end(End::LetGo);
    }
}

async fn one(
    scope: Option<String>,
    limit_key: Option<String>,
    cost: u32,
    more: Option<types::RequestOptions>,
    waits: bool,
) -> Result<types::Lease, types::Refusal> {
    let ask = ask(scope, limit_key, cost, more);
    match client().acquire(&ask, waits, 1, 1).await?.pop() {
        Some(lease) => Ok(types::Lease::new(Kept::new(lease))),
        None => Err(types::Refusal {
            reason: types::Reason::Unavailable,
            retry_after: None,
            blocked_on: Vec::new(),
            message: "the Weir server granted nothing".to_owned(),
        }),
    }
}
