//! What `/metrics` shows, in the Prometheus text form.
//!
//! The limiter and components keep their own figures; they are read when asked for. Only the requests of ingress are
//! counted here, by component and class of status, one atomic addition each, and what clients tell of their failures. A scope is never a label: scopes come from outside, and
//! every new label value is a new time series that is never forgotten.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use weir_engine::{Engine, Histogram, MetricsSnapshot};
use weir_wasm::OutboundCounts;

use crate::client_failures::ClientFailures;

/// Classes of status, from 1xx to 5xx.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Bounds of the waits, as powers of two of a microsecond, from 1 ms to 134 s: the limiter's own bounds, so that no wait
/// is put into a bucket it does not belong to.
const WAIT_BOUNDS: [u32; 9] = [10, 12, 14, 16, 18, 20, 22, 24, 27];

/// The requests answered by one component, by class of status.
#[derive(Clone)]
pub(crate) struct Answers([Counter; CLASSES.len()]);

impl Answers {
    pub(crate) fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.0[class].increment(1);
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answers")
    }
}

/// The server's figures.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    answers: HashMap<String, Answers>,
    /// Answers that reached no component: unknown names, bad input.
    nobody: Answers,
    client_failures: ClientFailures,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(crate) fn new<'a>(components: impl Iterator<Item = &'a str>) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let (answers, nobody, client_failures) = with_local_recorder(&recorder, || {
            describe();
            let answers = components.map(|name| (name.to_owned(), answers(name))).collect();
            (answers, answers_of_nobody(), ClientFailures::new())
        });
        Self { recorder, handle, answers, nobody, client_failures }
    }

    /// The counters of a component, to be fetched once and kept.
    pub(crate) fn answers(&self, component: &str) -> Answers {
        self.answers.get(component).unwrap_or(&self.nobody).clone()
    }

    pub(crate) fn nobody(&self) -> Answers {
        self.nobody.clone()
    }

    pub(crate) fn client_failures(&self) -> ClientFailures {
        self.client_failures.clone()
    }

    /// Reads the figures of the limiter, and of components by their names, and writes everything down.
    pub(crate) fn render<'a>(
        &self,
        engine: &Engine,
        connections: usize,
        outbound: impl Iterator<Item = (&'a str, OutboundCounts)>,
    ) -> String {
        let figures = engine.metrics();
        with_local_recorder(&self.recorder, || {
            publish(&figures);
            outbound.for_each(|(component, counts)| publish_outbound(component, counts));
            gauge!("weir_http_connections").set(connections as f64);
        });
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        write_waits(&mut text, &figures.waits, figures.granted);
        text
    }
}

fn answers(component: &str) -> Answers {
    Answers(
        CLASSES.map(|class| counter!("weir_http_answers_total", "component" => component.to_owned(), "class" => class)),
    )
}

fn answers_of_nobody() -> Answers {
    Answers(CLASSES.map(|class| counter!("weir_http_answers_total", "component" => "", "class" => class)))
}

fn describe() {
    describe_counter!("weir_http_answers_total", "Requests answered by ingress, by component and class of status.");
    describe_counter!("weir_outbound_total", "Calls of components to others, by component and what became of them.");
    describe_counter!(
        "weir_client_failures_total",
        "Calls of clients on other hosts that got no answer, as they told it, by the policy that decided them."
    );
    describe_gauge!("weir_http_connections", "Connections of ingress that are open.");
    describe_counter!("weir_granted_total", "Leases granted; each of a batch counts.");
    describe_counter!("weir_refused_total", "Requests refused, by reason; a batch is one.");
    describe_counter!("weir_waited_total", "Requests that had to wait, whatever became of them; a batch is one.");
    describe_counter!("weir_expired_total", "Leases that ended by themselves.");
    describe_counter!(
        "weir_shadow_refused_total",
        "Leases granted that a shadow limit would have refused, once for each counter where it would."
    );
    describe_gauge!("weir_waiting", "Requests that wait now; a batch is one.");
    describe_gauge!("weir_leases", "Leases that are held now; one over several shards counts in each.");
    describe_gauge!("weir_counters", "Counters in memory.");
    describe_gauge!("weir_log_entries", "Starts that window rates remember.");
    describe_gauge!("weir_book_version", "The version of the rule book.");
}

fn publish_outbound(component: &str, counts: OutboundCounts) {
    let OutboundCounts { answered, failed, refused, denied, .. } = counts;
    for (result, count) in [("answered", answered), ("failed", failed), ("refused", refused), ("denied", denied)] {
        counter!("weir_outbound_total", "component" => component.to_owned(), "result" => result).absolute(count);
    }
}

fn publish(figures: &MetricsSnapshot) {
    counter!("weir_granted_total").absolute(figures.granted);
    for (reason, count) in &figures.refused {
        counter!("weir_refused_total", "reason" => reason.as_str()).absolute(*count);
    }
    counter!("weir_waited_total").absolute(figures.waited);
    counter!("weir_expired_total").absolute(figures.expired);
    counter!("weir_shadow_refused_total").absolute(figures.shadow_refused);
    gauge!("weir_waiting").set(figures.waiting as f64);
    gauge!("weir_leases").set(figures.leases as f64);
    gauge!("weir_counters").set(figures.counters as f64);
    gauge!("weir_log_entries").set(figures.log_entries as f64);
    gauge!("weir_book_version").set(figures.book_version as f64);
}

/// Writes how long each lease was waited for. By hand, because the recorder takes single values only, and the limiter
/// has counted them already.
fn write_waits(text: &mut String, waits: &Histogram, granted: u64) {
    // Those who did not wait are not in the histogram, and below every bound.
    let at_once = granted.saturating_sub(waits.count());
    text.push_str(
        "# HELP weir_wait_seconds How long each granted lease was waited for; each of a batch counts.\n\
         # TYPE weir_wait_seconds histogram\n",
    );
    for bound in WAIT_BOUNDS.map(|doubling| Duration::from_micros(1 << doubling)) {
        let count = at_once + waits.up_to(bound);
        let _ = writeln!(text, "weir_wait_seconds_bucket{{le=\"{}\"}} {count}", bound.as_secs_f64());
    }
    let all = at_once + waits.count();
    let sum = Duration::from_nanos(waits.total()).as_secs_f64();
    let _ = writeln!(text, "weir_wait_seconds_bucket{{le=\"+Inf\"}} {all}");
    let _ = writeln!(text, "weir_wait_seconds_sum {sum}\nweir_wait_seconds_count {all}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::EngineConfig;

    #[test]
    fn figures_come_as_prometheus_text() {
        let metrics = Metrics::new(["hello"].into_iter());
        metrics.answers("hello").count(StatusCode::OK);
        metrics.answers("hello").count(StatusCode::TOO_MANY_REQUESTS);
        metrics.nobody().count(StatusCode::NOT_FOUND);
        let outbound = [("hello", OutboundCounts::default())].into_iter();
        let text = metrics.render(&Engine::new(EngineConfig::default()), 7, outbound);
        for line in [
            "weir_http_answers_total{component=\"hello\",class=\"2xx\"} 1",
            "weir_http_answers_total{component=\"hello\",class=\"4xx\"} 1",
            "weir_http_answers_total{component=\"\",class=\"4xx\"} 1",
            "weir_outbound_total{component=\"hello\",result=\"denied\"} 0",
            "weir_http_connections 7",
            "weir_granted_total 0",
            "weir_shadow_refused_total 0",
            "# TYPE weir_wait_seconds histogram",
            "weir_wait_seconds_bucket{le=\"+Inf\"} 0",
            "weir_wait_seconds_count 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
    }

    #[test]
    fn waits_are_a_cumulative_histogram_that_counts_those_who_did_not_wait() {
        let mut waits = Histogram::default();
        waits.record(2_000_000);
        waits.record(300_000_000_000);
        let mut text = String::new();
        write_waits(&mut text, &waits, 5);
        for line in [
            "weir_wait_seconds_bucket{le=\"0.001024\"} 3",
            "weir_wait_seconds_bucket{le=\"0.004096\"} 4",
            "weir_wait_seconds_bucket{le=\"134.217728\"} 4",
            "weir_wait_seconds_bucket{le=\"+Inf\"} 5",
            "weir_wait_seconds_sum 300.002",
            "weir_wait_seconds_count 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
    }
}
