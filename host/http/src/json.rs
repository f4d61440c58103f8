//! JSON bodies: whether one is said to be JSON, what is wrong with it, and where.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use crate::problem::Problem;
use crate::words::plainly;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Refuses a body that does not say that it is JSON: a page in a browser cannot say so without asking first.
///
/// # Errors
/// 415, as a problem that says what to send.
pub(crate) fn is_said(headers: &HeaderMap) -> Result<(), Box<Problem>> {
    if says_so(headers) {
        return Ok(());
    }
    let detail = "the body must be JSON, and say so: content-type: application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).because("invalid").into())
}

/// The same, taking what `curl -d` sends too where nobody has said what it is: no type, or that of a form. Where a page in a browser is
/// kept away otherwise.
///
/// # Errors
/// As of [`is_said`].
pub(crate) fn is_not_denied(headers: &HeaderMap) -> Result<(), Box<Problem>> {
    match headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"application/x-www-form-urlencoded") => Ok(()),
        Some(_) => is_said(headers),
    }
}

fn says_so(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return false };
    if kind.as_bytes() == JSON.as_bytes() {
        return true;
    }
    let kind = kind.to_str().unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Reads a body, which must be an object: of a list serde would take the values for its fields. What lies further inside sees
/// to that itself, in [`crate::api`].
///
/// # Errors
/// A problem that names the field and its place.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Problem>> {
    if body.trim_ascii_start().first().is_some_and(|byte| *byte != b'{') {
        return Err(Problem::bad_request("body", "it is no JSON object: write {\"field\": value}").into());
    }
    // Noting the path costs more than reading does, and is of use where something is wrong.
    serde_json::from_slice(body).or_else(|_| read_carefully(body))
}

fn read_carefully<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Problem>> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = error.path().to_string();
        wrong(&field, error.inner())
    })?;
    deserializer.end().map_err(|error| wrong(".", &error))?;
    Ok(value)
}

fn wrong(field: &str, error: &serde_json::Error) -> Problem {
    let place = format!("line {}, column {}", error.line(), error.column());
    // serde_json puts the place behind its message; here it has a field of its own.
    let detail = error.to_string();
    let detail = plainly(detail.split(" at line ").next().unwrap_or(&detail));
    // A body that ends too early has no field that is at fault.
    let field = if error.is_eof() { "body" } else { known(field) };
    Problem::bad_request(field, detail).at(place)
}

/// As much of a path as has names: where the next one should begin, there is none.
fn known(path: &str) -> &str {
    match path.strip_suffix('?').unwrap_or(path).trim_end_matches('.') {
        "" => "body",
        known => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::AcquireBody;

    #[test]
    fn json_is_said_in_any_case_and_with_any_parameter() {
        for (kind, said) in [
            (Some("application/json"), true),
            (Some("Application/JSON"), true),
            (Some("application/json; charset=utf-8"), true),
            (Some("application/json ;x"), true),
            (None, false),
            (Some(""), false),
            (Some("text/plain"), false),
            (Some("text/plain; application/json"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("multipart/form-data; boundary=x"), false),
            (Some("application/jsonx"), false),
        ] {
            let headers: HeaderMap =
                kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind))).into_iter().collect();
            assert_eq!(is_said(&headers).is_ok(), said, "{kind:?}");
        }
    }

    #[test]
    fn what_has_no_name_is_blamed_on_what_it_is_in() {
        for (body, field) in [
            (r#"{"scope":"a",}"#, "body"),
            (r#"{"scope":"a""#, "body"),
            (r#"{"scope":"a"} x"#, "body"),
            (r#"{"scope":"a","cost":true}"#, "cost"),
            (r#"{"scope":"a","targets":[{"scope":"b"},{"scope":"c",}]}"#, "targets[1]"),
        ] {
            let problem = read::<AcquireBody>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field), "{body}: {}", problem.detail);
        }
    }

    #[test]
    fn a_path_ends_where_its_names_do() {
        for (path, field) in
            [(".", "body"), ("?", "body"), ("a.?", "a"), ("a[0].?", "a[0]"), ("a.b", "a.b"), ("a[1]", "a[1]")]
        {
            assert_eq!(known(path), field);
        }
    }
}
