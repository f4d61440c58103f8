//! The admin API: the rule book, counters, components, health, metrics.
//!
//! | request | does |
//! |---|---|
//! | `GET /v1/rules` | the book; its version is the entity tag |
//! | `GET /v1/rules?after=VERSION&wait=30s` | the book once it has another version; 304 if it has not until then |
//! | `PUT /v1/rules` | applies a batch: all of it, or nothing; with `?dry-run=true` it only answers what would differ |
//! | `GET`, `DELETE /v1/rules/{pattern...}` | one rule; `DELETE` takes `If-Match: "VERSION"` |
//! | `GET /v1/counters?prefix=&limit=` | live usage, in the order of names |
//! | `GET /v1/counters/{name...}` | the live usage of one counter |
//! | `POST /v1/counters/{name...}` | pauses, resumes, pins, unpins, resets or drains it |
//! | `GET /v1/explain?scope=&limit-key=&cost=` | why a request would be granted or not, and when |
//! | `POST /v1/explain` | the same of any request that the lease API takes, in the same body |
//! | `GET /v1/components` | what is served |
//! | `GET /healthz` | 200 while it serves, 503 once it shuts down |
//! | `GET /metrics` | Prometheus text |
//!
//! A body that says it is anything but JSON is answered 415; curl's word for what it was not told is taken, as pages of browsers are
//! refused by their `Origin`. In a path `/` and `*` may stand as they are; the `#` of an inline key is written `%23`.
//!
//! Every error is a problem that names the field and its place. It runs on one thread of its own, so a batch that
//! replaces the book holds up the next admin request and no call.
//!
//! # Who may
//! Whoever is on this machine, and whoever has a token, in the scopes of that token; see the module `access`. To look takes
//! the right `read`, to change the book `rules`, to operate a counter `operate`; health is open. A pattern whose scope is `*` is
//! for those with all scopes. Lists show what lies in the scopes of the token; components and metrics are shown whole.

mod counters;
mod explain;
mod input;
pub(crate) mod rules;

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper::service::Service;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use weir_engine::Engine;
use weir_wasm::Component;

use crate::access::{Access, Door};
use crate::api::ComponentsView;
use crate::body::{self, Bounds};
use crate::metrics::Metrics;
use crate::problem::{Problem, shorten};
use crate::serve::{Phase, Phases};
use crate::tokens::{Right, Timestamp, Tokens};
use crate::watch::Watch;
use crate::{connection, leases, listen, query};

/// The largest body: a batch of 100,000 rules, the most that a book holds, at 300 bytes each. In a minute it comes over 5 Mbit/s.
const BODY: Bounds =
    Bounds { most: 32 * 1024 * 1024, time: Duration::from_secs(60), instead: "send the batch in parts" };
/// Takes by `POST` what the lease API takes, as that does.
const EXPLAIN: &str = "/v1/explain";
/// Open to everybody, and names nothing.
const HEALTH: &str = "/healthz";
/// How long answers under way may take once everything else has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How often it is looked whether the file of tokens has changed: a token that is revoked is refused within two seconds.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the admin API shows and changes.
pub(crate) struct Admin {
    pub(crate) engine: Engine,
    pub(crate) door: Door,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) components: ComponentsView,
    pub(crate) served: Vec<Arc<Component>>,
    pub(crate) phases: Phases,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) max_connections: usize,
    /// One for each request that waits for a change of the book.
    pub(crate) watchers: Semaphore,
}

type Shared = State<Arc<Admin>>;
/// Who asks, as [`admit`] has found.
type Who = Extension<Access>;

/// Serves the admin API until the server has stopped.
///
/// # Cancel safety
/// Dropping it drops its connections; a batch is applied or not, never in part.
pub(crate) async fn serve(listener: TcpListener, permits: Arc<Semaphore>, admin: Admin, phases: Phases) {
    if admin.door.tokens.can_change() {
        tokio::spawn(keep_up(Arc::clone(&admin.door.tokens)));
    }
    let service = TowerToHyperService::new(router(admin));
    let builder = Arc::new(connection::builder());
    let graceful = GracefulShutdown::new();
    let watch = Watch::new(Arc::clone(&permits));
    let watching = tokio::spawn(watch.clone().run());
    let take = |accepted: listen::Accepted| {
        let (service, builder, watch, watcher) =
            (service.clone(), Arc::clone(&builder), watch.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = accepted.permit;
            let answer = |request| {
                let answer = service.call(request);
                async move { answer.await.unwrap_or_else(|never: Infallible| match never {}) }
            };
            connection::serve(&builder, accepted.stream, &watch, watcher, answer).await;
        });
    };
    if let Err(error) = listen::accept(listener, permits, phases, Phase::Stopped, take).await {
        tracing::error!(%error, "the admin API cannot accept");
    }
    let _late = tokio::time::timeout(LAST_ANSWERS, graceful.shutdown()).await;
    watching.abort();
}

/// Reads the tokens again whenever they change. Requests never touch the disk.
async fn keep_up(tokens: Arc<Tokens>) {
    let mut ticks = tokio::time::interval(LOOK_AGAIN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let tokens = Arc::clone(&tokens);
        if tokio::task::spawn_blocking(move || tokens.refresh()).await.is_err() {
            tracing::error!("the tokens could not be looked at");
        }
    }
}

/// Lets nobody pass who may not do what they ask for, and then takes in what they send; the handlers look at scopes.
async fn admit(State(admin): Shared, request: Request, next: Next) -> Result<Response, Box<Problem>> {
    if request.uri().path() == HEALTH {
        return Ok(next.run(request).await);
    }
    let now = Timestamp::of_unix_millis(admin.engine.unix_millis());
    let access = admin.door.admit(request.uri(), request.headers(), now)?;
    access.needs(right(request.method(), request.uri().path()))?;
    query::is_text(request.uri())?;
    let (mut parts, sent) = request.into_parts();
    parts.extensions.insert(access);
    let bounds = if asks(&parts.method, parts.uri.path()) { leases::BODY } else { BODY };
    let body = body::whole(sent, bounds).await?;
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

/// Whether it changes nothing, though it has a body.
fn asks(method: &Method, path: &str) -> bool {
    *method == Method::POST && path == EXPLAIN
}

fn right(method: &Method, path: &str) -> Right {
    match *method {
        Method::GET | Method::HEAD => Right::Read,
        _ if asks(method, path) => Right::Read,
        _ if path.starts_with("/v1/counters") => Right::Operate,
        _ => Right::Rules,
    }
}

fn router(admin: Admin) -> Router {
    let admin = Arc::new(admin);
    Router::new()
        .route("/v1/rules", get(rules::list).put(rules::apply))
        .route("/v1/rules/{*pattern}", get(rules::one).delete(rules::delete))
        .route("/v1/counters", get(counters::list))
        .route("/v1/counters/{*name}", get(counters::one).post(counters::operate))
        .route(EXPLAIN, get(explain::asked).post(explain::sent))
        .route("/v1/components", get(components))
        .route(HEALTH, get(health))
        .route("/metrics", get(metrics))
        .fallback(async |uri: Uri| {
            let detail = format!("there is no `{}` in the admin API", shorten(uri.path()));
            Problem::new(StatusCode::NOT_FOUND, detail).because("unknown-resource")
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this resource does not take that method; the header `allow` lists those it takes",
            )
            .because("method-not-allowed")
        })
        // There is a limit of our own before it.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), admit))
        .with_state(admin)
}

async fn components(State(admin): Shared) -> Json<ComponentsView> {
    Json(admin.components.clone())
}

async fn health(State(admin): Shared) -> Result<Json<serde_json::Value>, Box<Problem>> {
    match admin.phases.now() {
        Phase::Serving => Ok(Json(serde_json::json!({ "status": "ok" }))),
        Phase::Draining | Phase::Stopped => Err(shuts_down()),
    }
}

fn shuts_down() -> Box<Problem> {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server shuts down").because("unavailable").into()
}

async fn metrics(State(admin): Shared) -> Response {
    let connections = admin.max_connections.saturating_sub(admin.permits.available_permits());
    let outbound = admin.served.iter().map(|component| (component.name(), component.outbound_counts()));
    let text = admin.metrics.render(&admin.engine, connections, outbound);
    ([(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))], text).into_response()
}

impl IntoResponse for Box<Problem> {
    fn into_response(self) -> Response {
        IntoResponse::into_response(*self)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        Problem::into_response(self).map(Body::from)
    }
}
