//! The report as tables: one line for each key and each pool, one for each fairness key where there are several, and one
//! for the shadow limits.

use std::time::Duration;

use weir_http::api::DurationText;

use super::report::{FairnessReport, KeyReport, Report, ShadowReport};
use crate::output;

/// The report as text.
pub(crate) fn text(report: &Report) -> String {
    let mut keys = output::table(&[
        "KEY",
        "RULE",
        "ARRIVALS",
        "GRANTED",
        "REFUSED",
        "WAITING",
        "WAIT P50",
        "P95",
        "P99",
        "MAX",
        "IN USE",
        "RATES USED",
        "GRANTED/S",
        "JAIN",
    ]);
    for key in rows(report) {
        keys.add_row([
            key.key.clone(),
            key.pattern.as_ref().map_or_else(nothing, |pattern| pattern.0.to_string()),
            key.arrivals.to_string(),
            key.granted.to_string(),
            refused(key),
            key.waiting.to_string(),
            wait(&key.wait.p50),
            wait(&key.wait.p95),
            wait(&key.wait.p99),
            wait(&key.wait.max),
            in_use(key),
            rates(key),
            format!("{:.2}", key.granted_per_second),
            key.fairness_index.map_or_else(nothing, |index| format!("{index:.3}")),
        ]);
    }
    let mut text = output::plain(&keys);
    if rows(report).any(|key| key.fairness.len() > 1) {
        text.push_str("\n\n");
        text.push_str(&fairness(report));
    }
    if let Some(ShadowReport { patterns, would_refuse }) = &report.shadow {
        let patterns: Vec<String> = patterns.iter().map(|pattern| pattern.0.to_string()).collect();
        let mut shadow = output::table(&["SHADOW LIMITS OF", "WOULD REFUSE"]);
        shadow.add_row([patterns.join(", "), would_refuse.to_string()]);
        text.push_str("\n\n");
        text.push_str(&output::plain(&shadow));
    }
    text
}

/// The keys, and the pools below them.
fn rows(report: &Report) -> impl Iterator<Item = &KeyReport> {
    report.keys.iter().chain(&report.pools)
}

fn fairness(report: &Report) -> String {
    let mut table = output::table(&["KEY", "FAIRNESS", "WEIGHT", "ARRIVALS", "GRANTED", "COST", "SHARE"]);
    for key in rows(report).filter(|key| key.fairness.len() > 1) {
        for FairnessReport { key: name, weight, arrivals, granted, cost, share } in &key.fairness {
            table.add_row([
                key.key.clone(),
                name.clone().unwrap_or_else(nothing),
                weight.to_string(),
                arrivals.to_string(),
                granted.to_string(),
                cost.to_string(),
                percent(*share),
            ]);
        }
    }
    output::plain(&table)
}

fn nothing() -> String {
    output::NOTHING.to_owned()
}

/// `12 (10 timed-out, 2 overloaded)`
fn refused(key: &KeyReport) -> String {
    let reasons: Vec<String> = key.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if reasons.is_empty() { "0".to_owned() } else { reasons.join(", ") }
}

/// `4.50 of 5 (90.0%)`, or `4.50` where nothing limits it.
fn in_use(key: &KeyReport) -> String {
    let mean = key.in_use.mean;
    match (key.in_use.limit, key.in_use.share) {
        (Some(limit), Some(share)) => format!("{mean:.2} of {} ({})", limit.0, percent(share)),
        (Some(limit), None) => format!("{mean:.2} of {}", limit.0),
        (None, _) => format!("{mean:.2}"),
    }
}

fn rates(key: &KeyReport) -> String {
    let rates = key.rates.iter().map(|rate| format!("{} of {}", percent(rate.share), rate.rate.0));
    if key.rates.is_empty() { nothing() } else { rates.collect::<Vec<_>>().join(", ") }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Short, so that a column can be read: `12.3ms`.
pub(crate) fn wait(wait: &DurationText) -> String {
    if wait.0.is_zero() { "0s".to_owned() } else { short(wait.0) }
}

fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 0.001 => format!("{:.0}us", s * 1e6),
        s if s < 1.0 => format!("{:.1}ms", s * 1e3),
        s if s < 600.0 => format!("{s:.2}s"),
        s => format!("{:.1}m", s / 60.0),
    }
}
