//! Rules, limits and their differences in words.

use weir_http::api::{LimitsBody, RuleBody};

use crate::output::NOTHING;

/// What stands for a concurrency that is absent.
const UNLIMITED: &str = "unlimited";

/// A rule in one line: `concurrency 5, rates 3/1m, max-wait 30s`.
pub(crate) fn rule(rule: &RuleBody) -> String {
    let mut parts: Vec<String> = limits(&rule.limits, true);
    if let Some(shadow) = &rule.shadow_limits {
        parts.push(self::shadow(shadow));
    }
    if rule.total {
        parts.push("total".to_owned());
    }
    if rule.disabled {
        parts.push("disabled".to_owned());
    }
    parts.join(", ")
}

/// Shadow limits in one line: `shadow (concurrency 5)`.
fn shadow(limits: &LimitsBody) -> String {
    format!("shadow ({})", bare(limits))
}

/// Limits in one line, without what is not limited.
pub(crate) fn bare(limits: &LimitsBody) -> String {
    let parts = self::limits(limits, false);
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

fn limits(limits: &LimitsBody, unlimited: bool) -> Vec<String> {
    let mut parts = Vec::new();
    match limits.concurrency {
        Some(limit) => parts.push(format!("concurrency {}", limit.0)),
        None if unlimited => parts.push(format!("concurrency {UNLIMITED}")),
        None => {}
    }
    if !limits.rates.is_empty() {
        parts.push(format!("rates {}", rates(limits)));
    }
    if let Some(max_waiters) = limits.max_waiters {
        parts.push(format!("max-waiters {max_waiters}"));
    }
    if let Some(max_wait) = limits.max_wait {
        parts.push(format!("max-wait {max_wait}"));
    }
    if let Some(max_pushback) = limits.max_pushback {
        parts.push(format!("max-pushback {max_pushback}"));
    }
    parts
}

/// Rates as they are written, with blanks between them.
pub(crate) fn rates(limits: &LimitsBody) -> String {
    limits.rates.iter().map(|rate| rate.0.to_string()).collect::<Vec<_>>().join(" ")
}

/// What differs between two states of a rule: `concurrency 5 -> 6, max-wait 30s -> -`.
pub(crate) fn changes(before: &RuleBody, after: &RuleBody) -> String {
    let differing = fields(before).into_iter().zip(fields(after)).filter(|(before, after)| before != after);
    differing.map(|((name, before), (_, after))| format!("{name} {before} -> {after}")).collect::<Vec<_>>().join(", ")
}

fn fields(rule: &RuleBody) -> [(&'static str, String); 9] {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let limits = &rule.limits;
    [
        ("concurrency", limits.concurrency.map_or_else(|| UNLIMITED.to_owned(), |limit| limit.0.to_string())),
        ("rates", or_nothing(Some(rates(limits)).filter(|rates| !rates.is_empty()))),
        ("max-waiters", or_nothing(limits.max_waiters.map(|waiters| waiters.to_string()))),
        ("max-wait", or_nothing(limits.max_wait.map(|wait| wait.to_string()))),
        ("max-pushback", or_nothing(limits.max_pushback.map(|pushback| pushback.to_string()))),
        ("shadow", or_nothing(rule.shadow_limits.as_ref().map(|limits| format!("({})", bare(limits))))),
        ("total", if rule.total { "yes" } else { "no" }.to_owned()),
        ("state", if rule.disabled { "disabled" } else { "enabled" }.to_owned()),
        ("description", format!("{:?}", rule.description)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(json: &str) -> RuleBody {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_rule_is_one_line_and_so_is_what_became_of_it() {
        let before = body(r#"{"pattern":"a/*","concurrency":5,"max-wait":"30s"}"#);
        let after = body(
            r#"{"pattern":"a/*","rates":["3/1m","9/1h"],"shadow-limits":{"concurrency":2},"total":true,"description":"a \"b\""}"#,
        );
        assert_eq!(rule(&before), "concurrency 5, max-wait 30s");
        assert_eq!(rule(&after), "concurrency unlimited, rates 3/1m 9/1h, shadow (concurrency 2), total");
        assert_eq!(
            changes(&before, &after),
            r#"concurrency 5 -> unlimited, rates - -> 3/1m 9/1h, max-wait 30s -> -, shadow - -> (concurrency 2), total no -> yes, description "" -> "a \"b\"""#
        );
    }
}
