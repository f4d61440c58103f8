//! Any text as a pattern, a scoped key and a lease id: refused exactly when it breaks the rules of names, never a panic.
//!
//! The rules, once more and in other words: one to three parts joined by `/`, each of 1 to 128 letters, digits and
//! `_ . : @ -`; in a pattern a part may be `*` instead.

use weir_limiter::{LeaseId, Pattern, ScopedKey};

fn is_name(part: &str) -> bool {
    let letter = |c| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | ':' | '@' | '-');
    (1..=128).contains(&part.chars().count()) && part.chars().all(letter)
}

/// Looks at one.
///
/// # Panics
/// When it is not so.
pub fn check(text: &str) {
    let parts: Vec<&str> = text.split('/').collect();
    pattern(text, &parts);
    key(text, &parts);
    lease_id(text);
}

fn pattern(text: &str, parts: &[&str]) {
    let valid = parts.len() <= 3 && parts.iter().all(|part| *part == "*" || is_name(part));
    match text.parse::<Pattern>() {
        Ok(pattern) => {
            assert!(valid, "{pattern} is no pattern");
            assert_eq!(pattern.to_string(), text);
            assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
            assert_eq!(pattern.depth(), parts.len());
            // Whatever stands for a `*`, it governs that counter and none above or below it.
            let counter = parts.iter().map(|part| if *part == "*" { "x" } else { part }).collect::<Vec<_>>().join("/");
            assert!(pattern.matches_counter(&counter));
            assert!(!pattern.matches_counter(&format!("{counter}/x")));
            let weight: u8 =
                parts.iter().zip([4, 2, 1]).map(|(part, weight)| if *part == "*" { 0 } else { weight }).sum();
            assert_eq!(pattern.rank(), weight);
        }
        Err(error) => assert!(!valid, "{error}"),
    }
}

fn key(text: &str, parts: &[&str]) {
    let valid = parts.len() <= 3 && parts.iter().all(|part| is_name(part));
    let (scope, limit_key) = match text.split_once('/') {
        Some((scope, limit_key)) => (scope, Some(limit_key)),
        None => (text, None),
    };
    match text.parse::<ScopedKey>() {
        Ok(key) => {
            assert!(valid, "{key} is no key");
            assert_eq!(key.to_string(), text);
            assert_eq!((key.scope(), key.limit_key(), key.depth()), (scope, limit_key, parts.len()));
            for depth in 1..=parts.len() {
                assert_eq!(key.prefix(depth), parts[..depth].join("/"));
            }
            assert_eq!(ScopedKey::new(scope, limit_key), Ok(key.clone()));
            assert!(text.parse::<Pattern>().is_ok_and(|pattern| pattern.matches_counter(key.as_str())));
        }
        Err(error) => {
            assert!(!valid, "{error}");
            assert!(ScopedKey::new(scope, limit_key).is_err());
        }
    }
    // A scope is one part, also where the rest is a valid key.
    assert_eq!(ScopedKey::new(text, None).is_ok(), valid && parts.len() == 1);
}

fn lease_id(text: &str) {
    match text.parse::<LeaseId>() {
        Ok(id) => assert_eq!(id.to_string(), text.to_lowercase()),
        Err(error) => assert_eq!(error.to_string(), "not a lease id"),
    }
}
