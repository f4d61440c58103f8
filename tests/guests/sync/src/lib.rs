//! A WASI 0.2 guest: plain functions, one request at a time.

use std::io::Write as _;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, IncomingResponse, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

spin_sdk::wit_bindgen::generate!({
    path: "../../../wit",
    world: "weir:flow/guest-sync",
    runtime_path: "::spin_sdk::wit_bindgen::rt",
    generate_all,
});

use weir::flow::leases_sync;
use weir::flow::types::{Concurrency, Counts, FlowLimits, Outcome, Rate, RateMode, Refusal, RequestOptions};

include!("../../exact.rs");

wasip2::http::proxy::export!(Guest);

struct Guest;

impl wasip2::exports::http::incoming_handler::Guest for Guest {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let text = match path.as_str() {
            "/acquire" | "/trap" | "/loop" | "/keep" => match leases_sync::acquire(None, None, 1, None) {
                Ok(lease) => match path.as_str() {
                    "/trap" => panic!("as asked"),
                    "/loop" => {
                        let mut n = 0u64;
                        loop {
                            n = std::hint::black_box(n.wrapping_add(1));
                        }
                    }
                    "/keep" => {
                        leases_sync::keep(lease);
                        "kept".to_owned()
                    }
                    _ => format!("granted|{}", lease.fence()),
                },
                Err(refusal) => format!("{:?}|{}", refusal.reason, refusal.message),
            },
            // One lease after the other; their fencing numbers.
            "/again" => {
                let fence = || leases_sync::acquire(None, None, 1, None).map_or(u64::MAX, |lease| lease.fence());
                format!("{}|{}", fence(), fence())
            }
            // Reserves 10, settles 4, then 12, and says that it was pushed back.
            "/settle" => match leases_sync::acquire(None, None, 10, None) {
                Ok(lease) => {
                    let settled = [4, 12].map(|cost| leases_sync::settle(&lease, cost));
                    leases_sync::release(lease, Outcome::PushedBack(None));
                    settled
                        .map(|settled| {
                            settled
                                .map_or_else(|refusal| refusal.message, |s| format!("-{} +{}", s.refunded, s.overrun))
                        })
                        .join("|")
                }
                Err(refusal) => format!("{:?}|{}", refusal.reason, refusal.message),
            },
            "/batch" => match leases_sync::acquire_batch(None, None, 1, 5, 2, None) {
                Ok(batch) => batch.len().to_string(),
                Err(refusal) => format!("{:?}|{}", refusal.reason, refusal.message),
            },
            "/options" => {
                let options = RequestOptions::new();
                options.set_priority(0);
                options.set_fairness("f", 1000);
                options.add_flow_control("k", &FlowLimits { concurrency: None, rates: Vec::new() });
                match leases_sync::check(None, None, 1, Some(options)) {
                    Ok(binding) => format!("{} bind", binding.len()),
                    Err(refusal) => format!("{:?}|{}", refusal.reason, refusal.message),
                }
            }
            exact if exact.starts_with("/exact?") => {
                exactly!(leases_sync, &Exact::new(&exact["/exact?".len()..]), [.as_deref()], [])
            }
            call if call.starts_with("/call?url=") => answered(&call["/call?url=".len()..]),
            // A lease, and so many calls while it is held.
            under if under.starts_with("/under?") => {
                let value = |name: &str| {
                    let pairs = under["/under?".len()..].split('&');
                    pairs
                        .filter_map(|pair| pair.split_once('='))
                        .find(|(known, _)| *known == name)
                        .map(|(_, value)| value)
                };
                match leases_sync::acquire(value("scope"), value("key"), 1, None) {
                    Ok(_lease) => {
                        let times = value("times").map_or(1, |times| times.parse().expect("a number"));
                        let answers: Vec<_> = (0..times).map(|_| answered(value("url").unwrap_or_default())).collect();
                        answers.join(",")
                    }
                    Err(refusal) => format!("{:?}|{}", refusal.reason, refusal.message),
                }
            }
            "/error" => return ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("as asked".into())))),
            "/silent" => return drop(out),
            _ => "plain".to_owned(),
        };
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the first body");
        ResponseOutparam::set(out, Ok(response));
        let mut stream = body.write().expect("the first stream");
        stream.write_all(text.as_bytes()).expect("a reader");
        stream.flush().expect("a reader");
        drop(stream);
        OutgoingBody::finish(body, None).expect("a whole body");
    }
}

/// What comes back from `authority/path`.
fn answered(url: &str) -> String {
    called(url).map_or_else(|error| format!("error|{error:?}"), shown)
}

/// Sends a request to `authority/path`.
fn called(url: &str) -> Result<IncomingResponse, ErrorCode> {
    let (authority, path) = url.split_once('/').unwrap_or((url, ""));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    let response = outgoing_handler::handle(request, None)?;
    response.subscribe().block();
    response.get().expect("it is there").expect("it is taken once")
}

/// `status|weir-refused|retry-after|body`.
fn shown(response: IncomingResponse) -> String {
    let fields = response.headers();
    let field = |name: &str| {
        fields.get(name).first().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    let (refused, retry_after) = (field("weir-refused"), field("retry-after"));
    drop(fields);
    let body = response.consume().expect("the first body");
    let stream = body.stream().expect("the first stream");
    let mut text = Vec::new();
    loop {
        match stream.blocking_read(4096) {
            Ok(bytes) => text.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(error) => return format!("error|{error:?}"),
        }
    }
    format!("{}|{refused}|{retry_after}|{}", response.status(), String::from_utf8_lossy(&text))
}
