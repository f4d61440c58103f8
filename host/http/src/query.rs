//! Queries: what is wrong with one, before and after it is taken apart.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use http::Uri;
use serde::de::DeserializeOwned;

use crate::problem::{Problem, shorten};

/// What axum puts before its message.
const PREFIX: &str = "Failed to deserialize query string: ";

/// Reads a query.
///
/// # Errors
/// A problem that says what is wrong with it.
pub(crate) fn read<T: DeserializeOwned>(uri: &Uri) -> Result<T, Box<Problem>> {
    is_text(uri)?;
    let Query(query) = Query::<T>::try_from_uri(uri).map_err(|rejection| rejected(&rejection))?;
    Ok(query)
}

/// What does not fit its fields.
pub(crate) fn rejected(rejection: &QueryRejection) -> Box<Problem> {
    let text = rejection.body_text();
    Problem::bad_request("query", text.strip_prefix(PREFIX).unwrap_or(&text)).into()
}

/// Refuses a query where nobody would look at it.
///
/// # Errors
/// There is one.
pub(crate) fn none(uri: &Uri) -> Result<(), Box<Problem>> {
    match uri.query() {
        None | Some("") => Ok(()),
        Some(query) => {
            let detail = format!("nothing of it is looked at here, and there is `{}`: leave it out", shorten(query));
            Err(Problem::bad_request("query", detail).into())
        }
    }
}

/// Refuses bytes that are no text: what takes a query apart puts U+FFFD in their place, which nobody has sent.
///
/// # Errors
/// A problem that names the field and the byte.
pub(crate) fn is_text(uri: &Uri) -> Result<(), Box<Problem>> {
    for pair in uri.query().unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        for (field, text) in [("query", name), (name, value)] {
            let bytes = decoded(text);
            if let Err(error) = std::str::from_utf8(&bytes) {
                let at = error.valid_up_to();
                let detail = format!("it has the byte 0x{:02x} at position {at}, which is no UTF-8", bytes[at]);
                return Err(Problem::bad_request(shorten(field), detail).into());
            }
        }
    }
    Ok(())
}

/// The bytes that a part of a query stands for.
fn decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, behind @ ..] if *first == b'%' => {
                digit(*high).zip(digit(*low)).map(|(high, low)| (high * 16 + low, behind))
            }
            _ => None,
        };
        let (byte, behind) = escaped.unwrap_or((*first, after));
        bytes.push(byte);
        rest = behind;
    }
    bytes
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(query: &str) -> Uri {
        format!("/x?{query}").parse().unwrap()
    }

    #[test]
    fn bytes_that_are_no_text_are_named_as_they_were_sent() {
        for (query, field, part) in [
            ("scope=%FF", "scope", "the byte 0xff at position 0"),
            ("cost=1&limit-key=a%c3%28", "limit-key", "the byte 0xc3 at position 1"),
            ("scope=a%e2%82", "scope", "the byte 0xe2 at position 1"),
            ("%80=1", "query", "the byte 0x80 at position 0"),
        ] {
            let problem = is_text(&uri(query)).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field), "{query}");
            assert!(problem.detail.contains(part), "{query}: {}", problem.detail);
        }
        for query in ["", "scope", "scope=%E2%82%ac&b=%", "a=%4&b=%zz+", "=&&="] {
            assert!(is_text(&uri(query)).is_ok(), "{query}");
        }
    }

    #[test]
    fn where_nothing_is_looked_at_nothing_may_be_said() {
        assert!(none(&uri("")).is_ok() && none(&Uri::from_static("/x")).is_ok());
        assert_eq!(none(&uri("speed=1")).unwrap_err().field.as_deref(), Some("query"));
    }
}
