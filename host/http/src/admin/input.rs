//! What arrives in paths, queries and bodies, and which of it is wrong where.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;
use weir_engine::{CounterName, Pattern, PatternError};

use crate::json;
use crate::problem::{Problem, shorten};

/// The rest of a path, decoded.
pub(super) type Rest = Result<Path<String>, PathRejection>;
/// A query, not yet looked at.
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;

/// The pattern of a path.
pub(super) fn pattern(path: Rest) -> Result<Pattern, Box<Problem>> {
    let text = rest("pattern", path)?;
    text.parse().map_err(|error: PatternError| Problem::bad_request("pattern", error.to_string()).into())
}

/// The counter of a path.
pub(super) fn counter(path: Rest) -> Result<CounterName, Box<Problem>> {
    let text = rest("counter", path)?;
    text.parse().map_err(|error| {
        Problem::bad_request(
            "counter",
            format!("`{}` is not a counter (scope[/l1[/l2]], a pool's pattern, or scope#key): {error}", shorten(&text)),
        )
        .into()
    })
}

fn rest(field: &str, path: Rest) -> Result<String, Box<Problem>> {
    let Path(text) = path.map_err(|rejection| Problem::bad_request(field, rejection.body_text()))?;
    Ok(text)
}

/// A whole query.
pub(super) fn query<T>(asked: Asked<T>) -> Result<T, Box<Problem>> {
    let Query(query) = asked.map_err(|rejection| crate::query::rejected(&rejection))?;
    Ok(query)
}

/// A field that is a number, within its bounds.
pub(super) fn number<T>(name: &str, text: Option<&str>, bounds: RangeInclusive<T>) -> Result<Option<T>, Box<Problem>>
where
    T: FromStr + PartialOrd + Display,
{
    let parse = |text: &str| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        let (least, most) = (bounds.start(), bounds.end());
        number.ok_or_else(|| wrong(name, text, &format_args!("expected a number from {least} to {most}")))
    };
    text.map(parse).transpose()
}

/// A field of a query, or of a header, that has a text form.
pub(super) fn field<T: FromStr<Err: Display>>(name: &str, text: Option<&str>) -> Result<Option<T>, Box<Problem>> {
    let parse = |text: &str| text.parse().map_err(|error: T::Err| wrong(name, text, &error));
    text.map(parse).transpose()
}

/// A field that is a duration.
pub(super) fn duration(name: &str, text: Option<&str>) -> Result<Option<Duration>, Box<Problem>> {
    let parse = |text: &str| weir_engine::parse_duration(text).map_err(|error| wrong(name, text, &error));
    text.map(parse).transpose()
}

fn wrong(name: &str, text: &str, error: &impl Display) -> Box<Problem> {
    Problem::bad_request(name, format!("{name}={}: {error}", shorten(text))).into()
}

/// A JSON body, which must not say that it is anything else.
pub(super) fn body<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Box<Problem>> {
    json::is_not_denied(headers)?;
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    json::read(&body)
}
