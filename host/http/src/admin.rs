//! The admin API: the rule book, counters, components, health, metrics.
//!
//! | request | does |
//! |---|---|
//! | `GET /v1/rules` | the book; its version is the entity tag |
//! | `PUT /v1/rules` | applies a batch: all of it, or nothing |
//! | `GET`, `DELETE /v1/rules/{pattern...}` | one rule; `DELETE` takes `If-Match: "VERSION"` |
//! | `GET /v1/counters?prefix=&limit=` | live usage, in the order of names |
//! | `GET /v1/components` | what is served |
//! | `GET /healthz` | 200 while it serves, 503 once it shuts down |
//! | `GET /metrics` | Prometheus text |
//!
//! Every error is a problem that names the field and its place. It runs on one thread of its own, so a batch that
//! replaces the book holds up the next admin request and no call. Whoever reaches this port is trusted: it listens on
//! 127.0.0.1 unless told otherwise.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::service::Service;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use weir_engine::{Change, CounterQuery, Engine, Pattern, Precondition, RuleError};

use crate::api::{AppliedView, BatchBody, BookView, ComponentsView, CounterView, CountersView, RuleView};
use crate::metrics::Metrics;
use crate::problem::{Problem, shorten};
use crate::serve::{Phase, Phases};
use crate::{connection, listen};

/// The largest body: a batch of 100,000 rules, the most that a book holds, at 300 bytes each.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
/// Counters shown where no `limit` is given.
const COUNTERS: usize = 100;
/// The most counters in one answer, so that it stays within a few megabytes.
const MAX_COUNTERS: usize = 10_000;

/// How long answers under way may take once everything else has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What the admin API shows and changes.
pub(crate) struct Admin {
    pub(crate) engine: Engine,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) components: ComponentsView,
    pub(crate) phases: Phases,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) max_connections: usize,
}

type Shared = State<Arc<Admin>>;

/// Serves the admin API until the server has stopped.
///
/// # Cancel safety
/// Dropping it drops its connections; a batch is applied or not, never in part.
pub(crate) async fn serve(listener: TcpListener, permits: Arc<Semaphore>, admin: Admin, phases: Phases) {
    let service = TowerToHyperService::new(router(admin));
    let builder = Arc::new(connection::builder());
    let graceful = GracefulShutdown::new();
    let take = |accepted: listen::Accepted| {
        let (service, builder, watcher) = (service.clone(), Arc::clone(&builder), graceful.watcher());
        tokio::spawn(async move {
            let _permit = accepted.permit;
            let answer = |request| {
                let answer = service.call(request);
                async move { answer.await.unwrap_or_else(|never: Infallible| match never {}) }
            };
            connection::serve(&builder, accepted.stream, watcher, std::future::pending(), answer).await;
        });
    };
    if let Err(error) = listen::accept(listener, permits, phases, Phase::Stopped, take).await {
        tracing::error!(%error, "the admin API cannot accept");
    }
    let _late = tokio::time::timeout(LAST_ANSWERS, graceful.shutdown()).await;
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/v1/rules", get(rules).put(apply))
        .route("/v1/rules/{*pattern}", get(rule).delete(delete))
        .route("/v1/counters", get(counters))
        .route("/v1/components", get(components))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .fallback(async |uri: Uri| {
            Problem::new(StatusCode::NOT_FOUND, format!("there is no `{}` in the admin API", shorten(uri.path())))
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this resource does not take that method; the header `allow` lists those it takes",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(admin))
}

async fn rules(State(admin): Shared, headers: HeaderMap) -> Response {
    let book = admin.engine.book();
    let tag = entity_tag(book.version());
    if headers.get(IF_NONE_MATCH).is_some_and(|known| *known == tag) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response();
    }
    ([(ETAG, tag)], Json(BookView::from(&*book))).into_response()
}

async fn apply(State(admin): Shared, body: Result<Bytes, BytesRejection>) -> Result<Response, Box<Problem>> {
    let batch: BatchBody = parse(&body.map_err(|rejection| bad_body(&rejection))?)?;
    let changes = batch
        .changes()
        .map_err(|(index, error)| Problem::bad_request(format!("changes[{index}]"), error.to_string()))?;
    applied(&admin, &changes)
}

async fn rule(State(admin): Shared, Path(pattern): Path<String>) -> Result<Response, Box<Problem>> {
    let pattern = self::pattern(&pattern)?;
    let book = admin.engine.book();
    let rule = book.get(&pattern).ok_or(RuleError::NotFound { pattern })?;
    Ok(([(ETAG, entity_tag(rule.version))], Json(RuleView::from(rule))).into_response())
}

async fn delete(
    State(admin): Shared,
    Path(pattern): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Box<Problem>> {
    let pattern = self::pattern(&pattern)?;
    let when = match headers.get(IF_MATCH) {
        None => Precondition::None,
        Some(tag) => Precondition::Version(version(tag).ok_or_else(|| {
            Problem::bad_request("if-match", "write the version of the rule in quotes, such as \"3\"")
        })?),
    };
    applied(&admin, &[Change::Delete { pattern, when }])
}

fn applied(admin: &Admin, changes: &[Change]) -> Result<Response, Box<Problem>> {
    // Nothing awaits between these two, and this thread is the only one that changes rules over HTTP.
    let before = admin.engine.book();
    let after = admin.engine.apply(changes)?;
    let differences = after.diff(&before).into_iter().map(Into::into).collect();
    tracing::info!(version = after.version(), changes = changes.len(), "rule book changed");
    Ok(([(ETAG, entity_tag(after.version()))], Json(AppliedView { version: after.version(), differences }))
        .into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CountersQuery {
    prefix: Option<String>,
    limit: Option<usize>,
}

async fn counters(
    State(admin): Shared,
    query: Result<Query<CountersQuery>, QueryRejection>,
) -> Result<Json<CountersView>, Box<Problem>> {
    let Query(query) = query.map_err(|rejection| Problem::bad_request("query", rejection.body_text()))?;
    let limit = query.limit.unwrap_or(COUNTERS);
    if limit == 0 || limit > MAX_COUNTERS {
        return Err(
            Problem::bad_request("limit", format!("limit={limit} is out of bounds: 1 to {MAX_COUNTERS}")).into()
        );
    }
    // One more than is shown tells whether there are more.
    let mut found = admin.engine.counters(&CounterQuery { prefix: query.prefix, limit: limit + 1 });
    let more = found.len() > limit;
    found.truncate(limit);
    Ok(Json(CountersView { counters: found.into_iter().map(CounterView::from).collect(), more }))
}

async fn components(State(admin): Shared) -> Json<ComponentsView> {
    Json(admin.components.clone())
}

async fn health(State(admin): Shared) -> Result<Json<serde_json::Value>, Box<Problem>> {
    match admin.phases.now() {
        Phase::Serving => Ok(Json(serde_json::json!({ "status": "ok" }))),
        Phase::Draining | Phase::Stopped => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server shuts down").because("unavailable").into())
        }
    }
}

async fn metrics(State(admin): Shared) -> Response {
    let connections = admin.max_connections.saturating_sub(admin.permits.available_permits());
    let text = admin.metrics.render(&admin.engine, connections);
    ([(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))], text).into_response()
}

fn pattern(text: &str) -> Result<Pattern, Box<Problem>> {
    text.parse().map_err(|error| {
        Problem::bad_request("pattern", format!("`{}` is not a pattern: {error}", shorten(text))).into()
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Problem>> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = error.path().to_string();
        bad_json(field, error.inner())
    })?;
    deserializer.end().map_err(|error| bad_json(".".to_owned(), &error))?;
    Ok(value)
}

fn bad_json(field: String, error: &serde_json::Error) -> Problem {
    let place = format!("line {}, column {}", error.line(), error.column());
    // serde_json puts the place behind its message; here it has a field of its own.
    let detail = error.to_string();
    let detail = detail.split(" at line ").next().unwrap_or(&detail).to_owned();
    let field = if field == "." { "body".to_owned() } else { field };
    Problem::bad_request(field, detail).at(place)
}

fn bad_body(rejection: &BytesRejection) -> Problem {
    let status = rejection.status();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::new(
            status,
            format!("the body is larger than {MAX_BODY_BYTES} bytes: send the batch in parts"),
        );
    }
    Problem::new(status, rejection.body_text())
}

fn entity_tag(version: u64) -> HeaderValue {
    // Digits in quotes always are a header value.
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

fn version(tag: &HeaderValue) -> Option<u64> {
    tag.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

impl From<RuleError> for Box<Problem> {
    fn from(error: RuleError) -> Self {
        let (status, reason, field) = match &error {
            RuleError::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found", "pattern"),
            RuleError::VersionMismatch { .. } => (StatusCode::PRECONDITION_FAILED, "version-mismatch", "if-version"),
            RuleError::AlreadyExists { .. } => (StatusCode::PRECONDITION_FAILED, "already-exists", "if-absent"),
            _ => (StatusCode::BAD_REQUEST, "invalid", "changes"),
        };
        let mut problem = Problem::new(status, error.to_string()).because(reason);
        problem.field = Some(field.to_owned());
        Self::new(problem)
    }
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
