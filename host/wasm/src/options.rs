//! The resource `request-options`: what a guest says beyond scope, limit key and cost.
//!
//! A guest's numbers and names are hostile until checked. Each is checked as it comes in, so that what is kept is small.
//! A setter has no way to answer: the first thing that is wrong is kept, and is the answer to the request that uses the
//! options (see [`crate::acquire`]). Whether the guest may use a scope is asked there too, because it depends on the
//! request.

use crate::bindings::weir::flow::types as wit;
use crate::convert::flow_limits;
use std::error::Error;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use weir_engine::{CounterName, Limits, MAX_TARGETS, Request, RequestError, ScopedKey};

/// The most further scopes, limit keys and inline keys that are collected; one more makes the request invalid.
const MAX_MORE: usize = MAX_TARGETS - 1;

/// What a guest collected in a `request-options`.
#[derive(Debug, Default)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct OptionsEntry {
    pub(crate) max_wait: Option<Duration>,
    pub(crate) lease_time: Option<Duration>,
    pub(crate) priority: Option<u8>,
    pub(crate) fairness: Option<(Arc<str>, NonZeroU16)>,
    pub(crate) targets: Vec<ScopedKey>,
    /// Their keys; the scope is that of the request.
    pub(crate) flow_controls: Vec<(String, Limits)>,
    /// The first thing that is wrong.
    pub(crate) wrong: Option<String>,
}

impl OptionsEntry {
    pub(crate) fn set_fairness(&mut self, key: &str, weight: u16) {
        let checked = NonZeroU16::new(weight)
            .ok_or(RequestError::Weight { given: weight })
            .and_then(|weight| Request::unscoped().fairness(key, weight));
        match checked {
            Ok(request) => self.fairness = request.fairness_key.map(|key| (key, request.weight)),
            Err(error) => self.is_wrong(&error),
        }
    }

    pub(crate) fn add_target(&mut self, scope: &str, limit_key: Option<&str>) {
        match ScopedKey::new(scope, limit_key) {
            Ok(key) if self.has_room() => self.targets.push(key),
            Ok(_) => {}
            Err(error) => self.is_wrong(&error),
        }
    }

    pub(crate) fn add_flow_control(&mut self, key: String, limits: &wit::FlowLimits) {
        // The scope is not known yet, and any will do to check the key.
        if let Err(error) = CounterName::inline("scope", &key) {
            return self.is_wrong(&error);
        }
        let limits = match flow_limits(limits) {
            Ok(limits) => limits,
            Err(error) => return self.is_wrong(&error),
        };
        match limits.validate() {
            Ok(()) if self.has_room() => self.flow_controls.push((key, limits)),
            Ok(()) => {}
            Err(error) => self.is_wrong(&error),
        }
    }

    /// Whether one more of either kind may be collected.
    fn has_room(&mut self) -> bool {
        let room = self.targets.len() + self.flow_controls.len() < MAX_MORE;
        if !room && self.wrong.is_none() {
            self.wrong = Some(format!("more than {MAX_MORE} further scopes, limit keys and inline keys"));
        }
        room
    }

    fn is_wrong(&mut self, error: &dyn Error) {
        self.wrong.get_or_insert_with(|| error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let mut options = OptionsEntry::default();
        for n in 0..1_000 {
            options.add_target(&format!("s{n}"), None);
            options.add_flow_control(format!("k{n}"), &wit::FlowLimits { concurrency: None, rates: Vec::new() });
            options.set_fairness(&"x".repeat(1_000), 1);
        }
        assert_eq!(options.targets.len() + options.flow_controls.len(), MAX_MORE);
        assert!(options.fairness.is_none());
        assert_eq!(options.wrong.as_deref(), Some("the fairness key is 1000 bytes long: the most is 128"));
    }
}
