//! The resource `request-options`: what a guest says beyond scope, limit key and cost.
//!
//! It only collects. A guest's numbers and names are hostile until checked, and they are checked in one place, when the
//! options are used (see [`crate::acquire`]), because a setter has no way to answer.

use std::time::Duration;

/// The most further targets that are collected; one more makes the request invalid.
pub(crate) const MAX_MORE_TARGETS: usize = 15;

/// What a guest collected in a `request-options`.
#[derive(Debug, Default)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct OptionsEntry {
    pub(crate) max_wait: Option<Duration>,
    pub(crate) lease_time: Option<Duration>,
    pub(crate) targets: Vec<(String, Option<String>)>,
    pub(crate) too_many: bool,
}

impl OptionsEntry {
    pub(crate) fn add_target(&mut self, scope: String, limit_key: Option<String>) {
        if self.targets.len() < MAX_MORE_TARGETS {
            self.targets.push((scope, limit_key));
        } else {
            self.too_many = true;
        }
    }
}
