//! Any bytes as a body of the admin API: a batch or a verb, or an error that says what is wrong; what is accepted round-trips.

#![no_main]

use std::fmt::{Debug, Display};

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_http::api::{BatchBody, RuleBody, VerbBody};

fuzz_target!(|bytes: &[u8]| {
    if let Some(batch) = read::<BatchBody>(bytes) {
        match said(batch.changes().map_err(|(index, error)| format!("changes[{index}]: {error}"))) {
            Some(changes) => weir_fuzz::batch(&changes),
            None => return,
        }
    }
    if let Some(rule) = read::<RuleBody>(bytes)
        && said(rule.spec()).is_some()
    {
        weir_fuzz::rules([rule]);
    }
    if let Some(verb) = read::<VerbBody>(bytes) {
        said(verb.verb());
    }
});

/// Reads a body; what is accepted is read the same from how it is written.
fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let body: T = said(serde_json::from_slice(bytes))?;
    let written = serde_json::to_string(&body).expect("a body has a form");
    let again: T = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again, body, "{written}");
    Some(body)
}

fn said<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}
