//! The scene: a component, tenants, and the rules between them.

use std::time::Duration;

use weir_engine::Change;
use weir_http::api::BatchBody;
use weir_wasm::ComponentConfig;

use crate::config::{ComponentEntry, Source};
use crate::error::Failure;

/// The component, compiled by the build script.
const WASM: &[u8] = include_bytes!(env!("WEIR_DEMO_WASM"));

/// The rules, as one would send them to the admin API.
const RULES: &str = r#"{"changes": [
    {"put": {"pattern": "acme", "concurrency": 4, "description": "four calls at a time: the others wait"}},
    {"put": {"pattern": "globex", "rates": ["20/1s:smooth:burst=4"], "description": "twenty a second, evenly"}},
    {"put": {"pattern": "initech", "concurrency": 2, "max-waiters": 3, "description": "a short waitlist: the rest is refused"}},
    {"put": {"pattern": "umbrella/*", "concurrency": 1, "description": "each of its users one at a time"}},
    {"put": {"pattern": "provider/*", "concurrency": 2, "rates": ["15/1s"], "description": "what a model provider allows, whoever asks"}}
]}"#;

/// One kind of caller.
pub(crate) struct Tenant {
    pub(crate) scope: &'static str,
    pub(crate) limit_key: Option<&'static str>,
    pub(crate) path: &'static str,
    /// How many of them call at once.
    pub(crate) callers: usize,
}

/// Who calls. Each has more callers than it may have calls.
pub(crate) const TENANTS: &[Tenant] = &[
    Tenant { scope: "acme", limit_key: None, path: "/work?ms=40", callers: 9 },
    Tenant { scope: "globex", limit_key: None, path: "/work?ms=15", callers: 5 },
    Tenant { scope: "initech", limit_key: None, path: "/work?ms=60", callers: 8 },
    Tenant { scope: "umbrella", limit_key: Some("ann"), path: "/work?ms=30", callers: 3 },
    Tenant { scope: "umbrella", limit_key: Some("bob"), path: "/work?ms=80", callers: 2 },
    Tenant { scope: "stark", limit_key: None, path: "/ask/large?ms=50", callers: 3 },
    Tenant { scope: "wayne", limit_key: None, path: "/ask/large?ms=50", callers: 3 },
];

/// How long a caller stays away after a refusal, instead of the whole seconds of `Retry-After`: it is a demo.
pub(crate) const AFTER_REFUSAL: Duration = Duration::from_millis(150);

/// The rule book.
pub(crate) fn rules() -> Result<Vec<Change>, Failure> {
    let batch: BatchBody = serde_json::from_str(RULES).map_err(Failure::failed)?;
    batch.changes().map_err(|(_, error)| Failure::failed(error))
}

/// The component.
pub(crate) fn component() -> ComponentEntry {
    let config = ComponentConfig { allow_scopes: vec!["provider".to_owned()], ..ComponentConfig::new("demo") };
    ComponentEntry { source: Source::Embedded(WASM), config, route: weir_http::Route::all(), ingress_scope: None }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rules_are_rules() {
        assert_eq!(super::rules().unwrap().len(), 5);
    }
}
