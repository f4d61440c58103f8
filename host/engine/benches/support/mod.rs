//! What the benches of the engine have in common.

use weir_engine::{Change, Concurrency, Engine, EngineConfig, Limits, Precondition, RuleSpec};

/// A change that puts these limits on a pattern.
pub(crate) fn put(pattern: &str, concurrency: Option<u32>, rates: &[&str]) -> Change {
    let limits = Limits {
        concurrency: concurrency.map(Concurrency::calls),
        rates: rates.iter().map(|rate| rate.parse().expect("a rate")).collect(),
        ..Limits::default()
    };
    Change::Put {
        pattern: pattern.parse().expect("a pattern"),
        spec: RuleSpec { limits, ..RuleSpec::default() },
        when: Precondition::None,
    }
}

/// An engine as it comes, under these rules.
pub(crate) fn engine(rules: &[Change]) -> Engine {
    let engine = Engine::new(EngineConfig::default());
    engine.apply(rules).expect("valid rules");
    engine
}
