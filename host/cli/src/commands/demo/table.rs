//! The rows of the table: what each counter holds, and what became of those who came.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_engine::{CounterSnapshot, Counts};
use weir_http::api::CounterView;

use crate::output;

/// The columns, but for the bar.
pub(crate) const COLUMNS: [&str; 8] =
    ["SCOPE", "USED", "RATE", "WAITING", "GRANTED", "REFUSED", "WAIT P50", "WAIT P99"];
/// How many characters a full bar has.
const BAR: usize = 16;

/// Counters by name. One that falls idle is forgotten by the limiter, but not by the table.
#[derive(Debug, Default)]
pub(crate) struct Rows(BTreeMap<String, CounterView>);

impl Rows {
    /// Takes over what the limiter shows now.
    pub(crate) fn update(&mut self, snapshots: Vec<CounterSnapshot>) {
        for row in self.0.values_mut() {
            (row.calls, row.cost, row.waiting) = (0, 0, 0);
        }
        for snapshot in snapshots {
            self.0.insert(snapshot.counter.clone(), snapshot.into());
        }
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = &CounterView> {
        self.0.values()
    }

    /// All of it as text.
    pub(crate) fn text(&self) -> String {
        let mut table = output::table(&COLUMNS);
        for counter in self.counters() {
            table.add_row(columns(counter));
        }
        output::plain(&table)
    }
}

/// The cells of a row.
pub(crate) fn columns(counter: &CounterView) -> [String; COLUMNS.len()] {
    let used = counter
        .concurrency
        .map_or_else(|| counter.calls.to_string(), |limit| format!("{}/{}", held(counter), limit.0.limit));
    let rate = counter
        .rates
        .first()
        .map_or_else(|| output::NOTHING.to_owned(), |rate| format!("{}/{}", rate.used, rate.rate.0.largest_cost()));
    [
        counter.counter.clone(),
        used,
        rate,
        counter.waiting.to_string(),
        counter.granted.to_string(),
        counter.refused.to_string(),
        milliseconds(counter.wait_p50.0),
        milliseconds(counter.wait_p99.0),
    ]
}

fn held(counter: &CounterView) -> u64 {
    match counter.concurrency.map(|limit| limit.0.counts) {
        Some(Counts::Cost) => counter.cost,
        _ => counter.calls,
    }
}

fn milliseconds(wait: Duration) -> String {
    format!("{} ms", wait.as_millis())
}

/// How full a counter is: its fullest limit, from 0 to 1.
pub(crate) fn fullness(counter: &CounterView) -> f64 {
    let share = |used: u64, limit: u32| if limit == 0 { 1.0 } else { (used as f64 / f64::from(limit)).min(1.0) };
    let concurrency = counter.concurrency.map_or(0.0, |limit| share(held(counter), limit.0.limit));
    counter.rates.iter().map(|rate| share(rate.used, rate.rate.0.largest_cost())).fold(concurrency, f64::max)
}

/// A bar that is as full.
pub(crate) fn bar(fullness: f64) -> String {
    let full = (fullness.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    format!("{}{}", "\u{2588}".repeat(full), "\u{2591}".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_full_as_the_counter() {
        assert_eq!(bar(0.0).chars().filter(|c| *c == '\u{2588}').count(), 0);
        assert_eq!(bar(0.5).chars().filter(|c| *c == '\u{2588}').count(), BAR / 2);
        assert_eq!(bar(7.0).chars().count(), BAR);
    }
}
