//! The rule book over HTTP: shown, waited for, changed, or only asked what a change would do.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use weir_engine::{Change, Precondition, RuleBook, RuleError};

use super::input::{self, Asked, Rest};
use super::{Admin, Shared, Who};
use crate::access::Access;
use crate::api::{AppliedView, BatchBody, BookView, RuleView};
use crate::problem::Problem;
use crate::serve::Phase;

/// How long a request waits for a change where it does not say.
const WAIT: Duration = Duration::from_secs(30);
/// The longest such wait: proxies on the way commonly cut connections that are silent for longer.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Requests that may wait for a change at once: half of the connections, so that there is always one for an operator.
pub(crate) const MAX_WATCHERS: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BookQuery {
    after: Option<String>,
    wait: Option<String>,
}

pub(super) async fn list(
    State(admin): Shared,
    Extension(access): Who,
    query: Asked<BookQuery>,
    headers: HeaderMap,
) -> Result<Response, Box<Problem>> {
    let query = input::query(query)?;
    let after = input::number("after", query.after.as_deref(), 0..=u64::MAX)?;
    let wait = input::duration("wait", query.wait.as_deref())?;
    let book = match (after, wait) {
        (Some(after), wait) => changed(&admin, after, wait.unwrap_or(WAIT)).await?,
        (None, Some(_)) => {
            return Err(Problem::bad_request("wait", "wait belongs to after=VERSION: wait for what?").into());
        }
        (None, None) => Some(admin.engine.book()),
    };
    let Some(book) = book else {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, entity_tag(after.unwrap_or_default()))]).into_response());
    };
    let tag = entity_tag(book.version());
    if headers.get(IF_NONE_MATCH).is_some_and(|known| *known == tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response());
    }
    let mut view = BookView::from(&*book);
    if !access.sees_all() {
        view.rules.retain(|rule| access.within(rule.body.pattern.0.scope()).is_ok());
    }
    Ok(([(ETAG, tag)], Json(view)).into_response())
}

/// The first book seen with another version than `after`; `None`: there was none for so long.
///
/// # Cancel safety
/// Nothing is lost.
async fn changed(admin: &Admin, after: u64, wait: Duration) -> Result<Option<Arc<RuleBook>>, Box<Problem>> {
    if wait > MAX_WAIT {
        let given = weir_engine::format_duration(wait);
        return Err(Problem::bad_request("wait", format!("wait={given} is out of bounds: at most 1m")).into());
    }
    let Ok(_place) = admin.watchers.try_acquire() else {
        let detail = format!("{MAX_WATCHERS} requests wait for a change of the rule book: there is no place for more");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).because("overloaded").into());
    };
    let mut phases = admin.phases.clone();
    tokio::select! {
        biased;
        book = admin.engine.book_after(after) => Ok(Some(book)),
        () = phases.reached(Phase::Draining) => Err(super::shuts_down()),
        () = tokio::time::sleep(wait) => Ok(None),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ApplyQuery {
    dry_run: Option<String>,
}

pub(super) async fn apply(
    State(admin): Shared,
    Extension(access): Who,
    query: Asked<ApplyQuery>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Box<Problem>> {
    let dry_run = input::field("dry-run", input::query(query)?.dry_run.as_deref())?.unwrap_or(false);
    let batch: BatchBody = input::body(&headers, body)?;
    let changes = batch
        .changes()
        .map_err(|(index, error)| Problem::bad_request(format!("changes[{index}]"), error.to_string()))?;
    applied(&admin, &access, &changes, batch.if_book_version, dry_run).await
}

pub(super) async fn one(State(admin): Shared, Extension(access): Who, path: Rest) -> Result<Response, Box<Problem>> {
    let pattern = input::pattern(path)?;
    access.within(pattern.scope())?;
    let book = admin.engine.book();
    let rule = book.get(&pattern).ok_or(RuleError::NotFound { pattern })?;
    Ok(([(ETAG, entity_tag(rule.version))], Json(RuleView::from(rule))).into_response())
}

pub(super) async fn delete(
    State(admin): Shared,
    Extension(access): Who,
    path: Rest,
    headers: HeaderMap,
) -> Result<Response, Box<Problem>> {
    let pattern = input::pattern(path)?;
    let when = match headers.get(IF_MATCH) {
        None => Precondition::None,
        Some(tag) => Precondition::Version(version(tag).ok_or_else(|| {
            Problem::bad_request("if-match", "write the version of the rule in quotes, such as \"3\"")
        })?),
    };
    applied(&admin, &access, &[Change::Delete { pattern, when }], None, false).await
}

async fn applied(
    admin: &Admin,
    access: &Access,
    changes: &[Change],
    expected: Option<u64>,
    dry_run: bool,
) -> Result<Response, Box<Problem>> {
    changes.iter().try_for_each(|change| access.within(change.pattern().scope()))?;
    // Nothing awaits between these two, and this thread is the only one that changes rules over HTTP.
    let before = admin.engine.book();
    let (version, differences) = if dry_run {
        expected.map_or(Ok(()), |version| before.expect_version(version))?;
        // The date of the change is not shown.
        (before.version(), before.apply(changes, 0)?.diff(&before))
    } else {
        admin.engine.can_save().map_err(Problem::cannot_save)?;
        let after = match expected {
            Some(version) => admin.engine.apply_to(version, changes)?,
            None => admin.engine.apply(changes)?,
        };
        tracing::info!(version = after.version(), changes = changes.len(), by = access.caller(), "rule book changed");
        admin.engine.saved().await.map_err(Problem::unsaved)?;
        (after.version(), after.diff(&before))
    };
    let differences = differences.into_iter().map(Into::into).collect();
    Ok(([(ETAG, entity_tag(version))], Json(AppliedView { version, differences, dry_run })).into_response())
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
            RuleError::BookVersionMismatch { .. } => {
                (StatusCode::PRECONDITION_FAILED, "version-mismatch", "if-book-version")
            }
            RuleError::AlreadyExists { .. } => (StatusCode::PRECONDITION_FAILED, "already-exists", "if-absent"),
            _ => (StatusCode::BAD_REQUEST, "invalid", "changes"),
        };
        let mut problem = Problem::new(status, error.to_string()).because(reason);
        problem.field = Some(field.to_owned());
        Self::new(problem)
    }
}
