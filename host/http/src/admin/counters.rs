//! Counters over HTTP: shown, and operated.

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde::Deserialize;
use weir_engine::{CounterKind, CounterName, CounterQuery, CounterSnapshot, Engine, OperateError, Pattern, Verb};

use super::input::{self, Asked, Rest};
use super::{Shared, Who};
use crate::api::{CounterView, CountersView, VerbBody, VerbError};
use crate::problem::Problem;

/// Counters shown where no `limit` is given.
const COUNTERS: usize = 100;
/// The most counters in one answer, so that it stays within a few megabytes.
const MAX_COUNTERS: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CountersQuery {
    prefix: Option<String>,
    limit: Option<String>,
}

pub(super) async fn list(
    State(admin): Shared,
    Extension(access): Who,
    query: Asked<CountersQuery>,
) -> Result<Json<CountersView>, Box<Problem>> {
    let query = input::query(query)?;
    let limit = input::number("limit", query.limit.as_deref(), 1..=MAX_COUNTERS)?.unwrap_or(COUNTERS);
    // One more than is shown tells whether there are more; of all, where some are not to be seen.
    let all = access.sees_all();
    let most = if all { limit + 1 } else { 0 };
    let mut found = admin.engine.counters(&CounterQuery { prefix: query.prefix, limit: most });
    found.retain(|counter| all || access.within(scope(&counter.counter)).is_ok());
    let more = found.len() > limit;
    found.truncate(limit);
    Ok(Json(CountersView { counters: found.into_iter().map(CounterView::from).collect(), more }))
}

/// The scope of a counter's name.
fn scope(name: &str) -> &str {
    name.split(['/', '#']).next().unwrap_or(name)
}

pub(super) async fn one(
    State(admin): Shared,
    Extension(access): Who,
    path: Rest,
) -> Result<Json<CounterView>, Box<Problem>> {
    let name = input::counter(path)?;
    access.within(name.scope())?;
    let found = find(&admin.engine, &name).ok_or_else(|| unknown(&admin.engine, &name))?;
    Ok(Json(found.into()))
}

pub(super) async fn operate(
    State(admin): Shared,
    Extension(access): Who,
    path: Rest,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<CounterView>, Box<Problem>> {
    let name = input::counter(path)?;
    access.within(name.scope())?;
    let body: VerbBody = input::body(&headers, body)?;
    let verb = body.verb().map_err(|error| bad_verb(&error))?;
    exists(&admin.engine, &name, &verb)?;
    // Where it cannot be written down too: whoever pauses something in an emergency must not need a disk.
    let counter = admin.engine.operate(&name, &verb).map_err(refused)?;
    tracing::info!(counter = name.as_str(), verb = ?body.verb, by = access.caller(), "counter operated");
    admin.engine.saved().await.map_err(Problem::unsaved)?;
    Ok(Json(counter.into()))
}

/// A verb that holds something up may come before the first request. One that takes something back needs a counter, and
/// a pool needs its rule: without it nobody would ever come there.
fn exists(engine: &Engine, name: &CounterName, verb: &Verb) -> Result<(), Box<Problem>> {
    let may_come_first = matches!(verb, Verb::Pause | Verb::Drain | Verb::Pin(_));
    if may_come_first && (name.kind() != CounterKind::Pool || has_pool(engine, name)) || find(engine, name).is_some() {
        return Ok(());
    }
    Err(unknown(engine, name))
}

fn has_pool(engine: &Engine, name: &CounterName) -> bool {
    let pattern: Option<Pattern> = name.as_str().parse().ok();
    let book = engine.book();
    pattern.and_then(|pattern| book.get(&pattern)).is_some_and(|rule| rule.spec.total && !rule.spec.disabled)
}

/// The counter of exactly this name: the first of those that begin with it.
fn find(engine: &Engine, name: &CounterName) -> Option<CounterSnapshot> {
    let query = CounterQuery { prefix: Some(name.as_str().to_owned()), limit: 1 };
    engine.counters(&query).into_iter().next().filter(|found| found.counter == name.as_str())
}

fn unknown(engine: &Engine, name: &CounterName) -> Box<Problem> {
    const IDLE: &str = "nothing is held or waits there, and nothing was started lately";
    let shown = name.as_str();
    let detail = match name.kind() {
        CounterKind::Pool if has_pool(engine, name) => format!("the pool `{shown}` is idle: {IDLE}"),
        CounterKind::Pool => format!("there is no pool `{shown}`: no rule of this pattern has `total` and is enabled"),
        _ => format!("there is no counter `{shown}`: {IDLE}"),
    };
    let mut problem = Problem::new(StatusCode::NOT_FOUND, detail).because("not-found");
    problem.field = Some("counter".to_owned());
    problem.into()
}

fn bad_verb(error: &VerbError) -> Box<Problem> {
    Problem::bad_request("limits", error.to_string()).into()
}

fn refused(error: OperateError) -> Box<Problem> {
    match error {
        OperateError::Limit(error) => bad_verb(&VerbError::Limit(error)),
        OperateError::Full(refusal) => Problem::refused(&refusal).into(),
        error => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into(),
    }
}
