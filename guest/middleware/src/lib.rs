//! Flow control in front of any WASI 0.3 HTTP component, by composition: `weir compose app.wasm -o limited.wasm`.
//!
//! Each request acquires before the component behind sees it, and holds what it got until the response's body has ended.
//! What is asked for stands in the environment of the composed component ([`config`]):
//!
//! ```toml
//! environment = { WEIR_SCOPE = "shop", WEIR_LIMIT_KEY = "{header:x-tenant}", WEIR_MAX_WAIT = "5s" }
//! ```
//!
//! With a rule `shop/*` of concurrency 2, the third request of tenant `a` waits up to 5 s for its turn, while tenant `b`
//! is served; a request without `x-tenant` is answered 400. Without `WEIR_SCOPE` the scope is that of the request, else
//! the component's own.
//!
//! # On somebody else's host
//! `weir compose --client` puts a client behind it that meets `weir:flow` by a Weir server over HTTP. Then nobody but this
//! component knows the response and the lease, and it holds the one until the other has been sent: see [`hold`]. It tells by
//! the lease: one of Weir's host has no end of its own (`remaining` is none), a client's always has. So there is one
//! middleware for all hosts, whatever composed it.
//!
//! # Invariants
//! - On Weir's host requests and responses are handed on as handles: no byte of a body goes through this component.
//! - The acquire comes before the first wait, in the task that the host called, so that the host knows whose it is.
//! - What is refused, the component behind never sees. The answer is the SDK's: 429, 503 and what else it says.
//! - The lease ends with the body, as the response says it went. Weir's host does that, because it alone sees the true end.
//!
//! # Not handled here
//! Limits: they stand in the rule book. On other hosts than Weir's, a component behind that acquires for itself takes another lease,
//! also on the same counter: at concurrency 1 it would wait for the middleware's, until its wait is over.

mod answer;
mod bindings;
mod config;
mod hold;
mod template;

use std::sync::OnceLock;

use bindings::exports::wasi::http::handler::Guest;
use bindings::wasi::http::handler;
use bindings::wasi::http::types::{ErrorCode, Method, Request, Response};
use http::StatusCode;
use weir_guest::{Lease, Outcome, Reason, Refused};

use crate::config::Config;
use crate::template::Facts;

struct Middleware;

bindings::export!(Middleware with_types_in bindings);

impl Guest for Middleware {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let lease = match admitted(&request).await {
            Ok(lease) => lease,
            Err(refusal) => return Ok(answer::response(refusal)),
        };
        let timed = is_elsewhere(&lease);
        let head = timed && matches!(request.get_method(), Method::Head);
        match handler::handle(request).await {
            Ok(response) if timed => Ok(hold::until_sent(response, lease, head)),
            Ok(response) => {
                lease.keep();
                Ok(response)
            }
            Err(error) => {
                lease.release(Outcome::Failed);
                Err(error)
            }
        }
    }
}

/// Whether this is somebody else's host. One look at one lease tells: a host does not change.
fn is_elsewhere(lease: &Lease) -> bool {
    static ELSEWHERE: OnceLock<bool> = OnceLock::new();
    *ELSEWHERE.get_or_init(|| lease.remaining().is_some())
}

async fn admitted(request: &Request) -> Result<Lease, http::Response<String>> {
    static CONFIG: OnceLock<Result<Config, String>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| Config::read(|name| std::env::var(name).ok()));
    // Whoever composed it is at fault, and no client.
    let config = config.as_ref().map_err(|problem| Refused::new(Reason::Invalid, problem).into_http())?;
    let acquire = config
        .acquire(request)
        .map_err(|problem| Refused::new(Reason::Invalid, problem).into_http_as(StatusCode::BAD_REQUEST))?;
    acquire.await.map_err(Refused::into_http)
}

impl Facts for Request {
    fn headers(&self, name: &str) -> Vec<Vec<u8>> {
        self.get_headers().get(name)
    }

    fn target(&self) -> Option<String> {
        self.get_path_with_query()
    }

    fn authority(&self) -> Option<String> {
        self.get_authority()
    }

    fn method(&self) -> String {
        let name = match self.get_method() {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(name) => return name,
        };
        name.to_owned()
    }
}
