//! Why a request would be granted or not, over HTTP.

use std::num::{NonZeroU16, NonZeroU32};

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, Uri};
use axum::{Extension, Json};
use serde::Deserialize;
use weir_engine::{DEFAULT_PRIORITY, MAX_WEIGHT, Request, ScopedKey};

use super::input::{self, Asked};
use super::{Admin, Shared, Who};
use crate::access::Access;
use crate::api::{AcquireBody, ExplanationView};
use crate::problem::Problem;
use crate::{leases, query};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ExplainQuery {
    scope: Option<String>,
    limit_key: Option<String>,
    cost: Option<String>,
    priority: Option<String>,
    max_wait: Option<String>,
    fairness_key: Option<String>,
    weight: Option<String>,
}

/// Of a request under one key, in a query.
pub(super) async fn asked(
    State(admin): Shared,
    Extension(access): Who,
    query: Asked<ExplainQuery>,
) -> Result<Json<ExplanationView>, Box<Problem>> {
    explain(&admin, &access, &request(&input::query(query)?)?)
}

/// Of any request, in the body that the lease API takes. How long a lease would last and an idempotency key make no difference.
pub(super) async fn sent(
    State(admin): Shared,
    Extension(access): Who,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ExplanationView>, Box<Problem>> {
    query::none(&uri)?;
    let body: AcquireBody = input::body(&headers, body)?;
    explain(&admin, &access, &body.request().map_err(leases::bad_field)?)
}

fn explain(admin: &Admin, access: &Access, request: &Request) -> Result<Json<ExplanationView>, Box<Problem>> {
    leases::within(access, request)?;
    // It was checked field by field; what is left can only be a limiter that has shut down.
    let explanation = admin.engine.explain(request).map_err(|refusal| Problem::refused(&refusal))?;
    Ok(Json(explanation.into()))
}

fn request(query: &ExplainQuery) -> Result<Request, Box<Problem>> {
    let bad = |field: &str, error: String| Box::new(Problem::bad_request(field, error));
    let scope = query.scope.as_deref().ok_or_else(|| bad("scope", "scope=NAME is missing".to_owned()))?;
    ScopedKey::new(scope, None).map_err(|error| bad("scope", error.to_string()))?;
    let key = ScopedKey::new(scope, query.limit_key.as_deref()).map_err(|error| bad("limit-key", error.to_string()))?;
    let mut request = Request::new(key);
    let cost = input::number("cost", query.cost.as_deref(), NonZeroU32::MIN..=NonZeroU32::MAX)?;
    request.cost = cost.unwrap_or(NonZeroU32::MIN);
    request.priority = input::number("priority", query.priority.as_deref(), 0..=u8::MAX)?.unwrap_or(DEFAULT_PRIORITY);
    request.max_wait = input::duration("max-wait", query.max_wait.as_deref())?;
    let weight = input::number("weight", query.weight.as_deref(), 1..=MAX_WEIGHT)?;
    request.weight = weight.and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN);
    let Some(key) = &query.fairness_key else { return Ok(request) };
    let weight = request.weight;
    request.fairness(key, weight).map_err(|error| bad("fairness-key", error.to_string()))
}
