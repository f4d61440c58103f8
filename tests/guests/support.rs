// Shared by the WASI 0.3 guests with `include!`: each guest is a crate of its own, and this is too little for another.

use spin_sdk::wasip3;
use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};

spin_sdk::wit_bindgen::generate!({
    path: "../../../wit",
    world: "weir:flow/guest",
    runtime_path: "::spin_sdk::wit_bindgen::rt",
    generate_all,
});

#[allow(unused_imports)]
use weir::flow::{
    leases,
    types::{
        Concurrency, Constraint, Counts, FlowLimits, Lease, Outcome, Rate, RateMode, Reason, Refusal, RequestOptions,
    },
};

/// The path and the parameters of a request: `/path?name=value&...`, nothing encoded.
#[allow(dead_code)]
struct Asked {
    path: String,
    /// The query as it came.
    raw: String,
    query: Vec<(String, String)>,
}

#[allow(dead_code)]
impl Asked {
    fn new(request: &Request) -> Self {
        let text = request.get_path_with_query().unwrap_or_default();
        let (path, query) = text.split_once('?').unwrap_or((&text, ""));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { path: path.to_owned(), raw: query.to_owned(), query: pairs }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.query.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    fn options(&self) -> Option<RequestOptions> {
        let options = RequestOptions::new();
        let mut any = false;
        if let Some(wait) = self.number("wait_ms") {
            options.set_max_wait(wait * 1_000_000);
            any = true;
        }
        if let Some(time) = self.number("lease_ms") {
            options.set_lease_time(time * 1_000_000);
            any = true;
        }
        for (_, target) in self.query.iter().filter(|(name, _)| name == "also") {
            let (scope, key) = target.split_once('/').map_or((target.as_str(), None), |(scope, key)| (scope, Some(key)));
            options.add_target(scope, key);
            any = true;
        }
        if let Some(priority) = self.number("priority") {
            options.set_priority(priority as u8);
            any = true;
        }
        if let Some(key) = self.text("fairness") {
            options.set_fairness(&key, self.number("weight").unwrap_or(1) as u16);
            any = true;
        }
        for (_, text) in self.query.iter().filter(|(name, _)| name == "flow") {
            let (key, limits) = text.split_once(';').unwrap_or((text, ""));
            options.add_flow_control(key, &flow_limits(limits));
            any = true;
        }
        any.then_some(options)
    }

    async fn acquire(&self) -> Result<Lease, Refusal> {
        let cost = self.number("cost").map_or(1, |cost| cost as u32);
        leases::acquire(self.text("scope"), self.text("key"), cost, self.options()).await
    }
}

/// `;`-separated: `c:N` calls at once, `cost:N` units at once, `w:LIMIT/MS` and `s:LIMIT/MS/BURST` rates, of cost with `$`.
#[allow(dead_code)]
fn flow_limits(text: &str) -> FlowLimits {
    let mut limits = FlowLimits { concurrency: None, rates: Vec::new() };
    for (what, numbers) in text.split(';').filter_map(|part| part.split_once(':')) {
        let counts = if numbers.ends_with('$') || what == "cost" { Counts::Cost } else { Counts::Calls };
        let numbers: Vec<u64> = numbers.trim_end_matches('$').split('/').filter_map(|text| text.parse().ok()).collect();
        let limit = numbers[0] as u32;
        if matches!(what, "c" | "cost") {
            limits.concurrency = Some(Concurrency { limit, counts });
        } else {
            limits.rates.push(Rate {
                limit,
                period: numbers[1] * 1_000_000,
                mode: if what == "s" { RateMode::Smooth } else { RateMode::Window },
                burst: numbers.get(2).map(|burst| *burst as u32),
                counts,
            });
        }
    }
    limits
}

/// `counter used/limit` of each, and what frees it where that is said.
#[allow(dead_code)]
fn shown(constraints: &[Constraint]) -> String {
    let one = |constraint: &Constraint| format!("{} {}/{}", constraint.counter, constraint.used, constraint.limit);
    constraints.iter().map(one).collect::<Vec<_>>().join(",")
}

#[allow(dead_code)]
async fn sleep_ms(ms: u64) {
    monotonic_clock::wait_for(ms * 1_000_000).await;
}

#[allow(dead_code)]
fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Limited => "limited",
        Reason::Overloaded => "overloaded",
        Reason::TimedOut => "timed-out",
        Reason::TooLarge => "too-large",
        Reason::Denied => "denied",
        Reason::Conflict => "conflict",
        Reason::Ended => "ended",
        Reason::WouldBlock => "would-block",
        Reason::Invalid => "invalid",
        Reason::Paused => "paused",
        Reason::PushedBack => "pushed-back",
        Reason::Lost => "lost",
        Reason::Unavailable => "unavailable",
    }
}

#[allow(dead_code)]
fn refused(refusal: &Refusal) -> String {
    format!("{}|{}", reason(refusal.reason), refusal.message)
}

#[allow(dead_code)]
/// A response whose body is written by a task that outlives the handler.
fn respond(text: impl Into<Vec<u8>>) -> Response {
    let text = text.into();
    respond_with(async move |mut body| {
        body.write_all(text).await;
    })
}

fn respond_with<F>(write: F) -> Response
where
    F: AsyncFnOnce(spin_sdk::wit_bindgen::StreamWriter<u8>) + 'static,
{
    let (writer, reader) = wasip3::wit_stream::new();
    let (trailers, trailers_reader) = wasip3::wit_future::new(|| Ok(None));
    drop(trailers);
    let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers_reader);
    spin_sdk::wit_bindgen::spawn(async move { write(writer).await });
    response
}
