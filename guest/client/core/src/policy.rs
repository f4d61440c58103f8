//! What happens where no answer came: refuse, grant, or grant so many.
//!
//! `closed, payments=open, model=budget:3/1m` is one default and what differs from it, by scope. A request that names several
//! scopes is granted only where the policy of each allows it. A budget is a window over its grants in this instance: at most N in
//! any period, all scopes without a policy of their own sharing that of the default.

use crate::span::Span;
use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;

/// The most that a budget grants in its period: each grant is remembered for so long.
const MAX_BUDGET: usize = 10_000;

/// A text that is no failure policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` is no failure policy: write closed, open or budget:N/PERIOD, for one scope SCOPE=POLICY, with commas between"
)]
pub struct PolicyError {
    /// What was given.
    pub entry: String,
}

/// The policies of all scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policies {
    default: Policy,
    scopes: BTreeMap<String, Policy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Policy {
    Closed,
    Open,
    Budget(Budget),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Budget {
    limit: usize,
    period: u64,
    /// When what still counts was granted, oldest first.
    starts: VecDeque<u64>,
}

/// What a policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    /// Nothing.
    Closed,
    /// So many, without limit.
    Open(u32),
    /// So many, out of a budget.
    Budget(u32),
    /// Nothing until so many nanoseconds from now.
    Spent(Option<u64>),
}

impl Policies {
    /// Decides on `least` to `count` leases over all of `scopes`, and takes them from budgets.
    pub(crate) fn take<'a>(
        &mut self,
        scopes: impl Iterator<Item = &'a str> + Clone,
        now: u64,
        (least, count): (u32, u32),
    ) -> Local {
        let decision = self.decide(scopes.clone(), now, (least, count));
        if let Local::Budget(taken) = decision {
            for key in self.keys(scopes) {
                if let Policy::Budget(budget) = self.policy_mut(key.as_deref()) {
                    budget.starts.extend(std::iter::repeat_n(now, taken as usize));
                }
            }
        }
        decision
    }

    /// The same decision without an effect.
    pub(crate) fn decide<'a>(
        &mut self,
        scopes: impl Iterator<Item = &'a str>,
        now: u64,
        (least, count): (u32, u32),
    ) -> Local {
        let mut room = None;
        let mut spent = None;
        for key in self.keys(scopes) {
            match self.policy_mut(key.as_deref()) {
                Policy::Closed => return Local::Closed,
                Policy::Open => {}
                Policy::Budget(budget) => {
                    budget.forget(now);
                    let free = u32::try_from(budget.limit - budget.starts.len()).unwrap_or(u32::MAX);
                    if free < least {
                        let retry = budget.frees_in(now, least);
                        // The longest of all; one that never fits says so.
                        spent = match spent {
                            None => Some(retry),
                            Some(other) => Some(other.zip(retry).map(|(a, b): (u64, u64)| a.max(b))),
                        };
                    }
                    room = Some(room.unwrap_or(count).min(free));
                }
            }
        }
        match (spent, room) {
            (Some(retry), _) => Local::Spent(retry),
            (None, Some(room)) => Local::Budget(room),
            (None, None) => Local::Open(count),
        }
    }

    /// Each policy once: `None` is the default.
    fn keys<'a>(&self, scopes: impl Iterator<Item = &'a str>) -> Vec<Option<String>> {
        let mut keys: Vec<_> = scopes.map(|scope| self.scopes.contains_key(scope).then(|| scope.to_owned())).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn policy_mut(&mut self, scope: Option<&str>) -> &mut Policy {
        scope.and_then(|scope| self.scopes.get_mut(scope)).unwrap_or(&mut self.default)
    }
}

impl Budget {
    fn forget(&mut self, now: u64) {
        while self.starts.front().is_some_and(|start| now.saturating_sub(*start) >= self.period) {
            self.starts.pop_front();
        }
    }

    /// When `least` are free; none where they never are.
    fn frees_in(&self, now: u64, least: u32) -> Option<u64> {
        let must_leave = (self.starts.len() + least as usize).checked_sub(self.limit)?;
        let start = self.starts.get(must_leave.checked_sub(1)?)?;
        Some((start + self.period).saturating_sub(now))
    }
}

impl FromStr for Policies {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut policies = Self { default: Policy::Closed, scopes: BTreeMap::new() };
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let error = || PolicyError { entry: entry.to_owned() };
            match entry.split_once('=') {
                Some((scope, policy)) => {
                    let policy = Policy::parse(policy.trim()).ok_or_else(error)?;
                    policies.scopes.insert(scope.trim().to_owned(), policy);
                }
                None => policies.default = Policy::parse(entry).ok_or_else(error)?,
            }
        }
        Ok(policies)
    }
}

impl Policy {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "closed" => Some(Self::Closed),
            "open" => Some(Self::Open),
            _ => {
                let (limit, period) = text.strip_prefix("budget:")?.split_once('/')?;
                let limit = limit.parse().ok().filter(|limit| (1..=MAX_BUDGET).contains(limit))?;
                let period = Span::parse(period).filter(|period| period.0 > 0)?.0;
                Some(Self::Budget(Budget { limit, period, starts: VecDeque::new() }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::SECOND;

    fn take(policies: &mut Policies, scopes: &[&str], now: u64, bounds: (u32, u32)) -> Local {
        policies.take(scopes.iter().copied(), now, bounds)
    }

    #[test]
    fn closed_is_the_default_and_a_scope_may_differ() {
        let mut policies: Policies = "".parse().unwrap();
        assert_eq!(take(&mut policies, &["s"], 0, (1, 1)), Local::Closed);
        let mut policies: Policies = " open , payments = closed ".parse().unwrap();
        assert_eq!(take(&mut policies, &["s"], 0, (1, 4)), Local::Open(4));
        assert_eq!(take(&mut policies, &["payments"], 0, (1, 1)), Local::Closed);
        assert_eq!(take(&mut policies, &["s", "payments"], 0, (1, 1)), Local::Closed);
    }

    #[test]
    fn a_budget_holds_in_any_window() {
        let mut policies: Policies = "model=budget:3/1m".parse().unwrap();
        let at = |seconds: u64| seconds * SECOND;
        assert_eq!(take(&mut policies, &["model"], at(0), (1, 1)), Local::Budget(1));
        assert_eq!(take(&mut policies, &["model"], at(50), (1, 5)), Local::Budget(2));
        assert_eq!(take(&mut policies, &["model"], at(59), (1, 1)), Local::Spent(Some(at(1))));
        assert_eq!(take(&mut policies, &["model"], at(60) - 1, (1, 1)), Local::Spent(Some(1)));
        assert_eq!(take(&mut policies, &["model"], at(60), (1, 1)), Local::Budget(1));
        assert_eq!(take(&mut policies, &["model"], at(61), (2, 2)), Local::Spent(Some(at(49))));
        assert_eq!(take(&mut policies, &["model"], at(61), (4, 4)), Local::Spent(None), "never");
    }

    #[test]
    fn deciding_takes_nothing() {
        let mut policies: Policies = "budget:1/1m".parse().unwrap();
        for _ in 0..3 {
            assert_eq!(policies.decide(["a"].into_iter(), 0, (1, 1)), Local::Budget(1));
        }
        assert_eq!(take(&mut policies, &["a"], 0, (1, 1)), Local::Budget(1));
        assert_eq!(
            take(&mut policies, &["b"], 0, (1, 1)),
            Local::Spent(Some(60 * SECOND)),
            "one budget for all others"
        );
    }

    #[test]
    fn all_budgets_of_a_request_are_charged_or_none() {
        let mut policies: Policies = "open, a=budget:2/1m, b=budget:1/1m".parse().unwrap();
        assert_eq!(take(&mut policies, &["x", "a", "b"], 0, (1, 1)), Local::Budget(1));
        assert_eq!(take(&mut policies, &["a", "b"], 0, (1, 1)), Local::Spent(Some(60 * SECOND)));
        assert_eq!(take(&mut policies, &["a", "a"], 0, (1, 1)), Local::Budget(1), "once, however often it is named");
        assert_eq!(take(&mut policies, &["a"], 0, (1, 1)), Local::Spent(Some(60 * SECOND)));
    }

    #[test]
    fn what_is_no_policy_is_named() {
        for entry in ["ajar", "budget", "budget:0/1m", "budget:3/0s", "budget:3/", "budget:10001/1m", "s=ajar", "s="] {
            assert_eq!(format!("closed,{entry}").parse::<Policies>().unwrap_err(), PolicyError { entry: entry.into() });
        }
    }
}
