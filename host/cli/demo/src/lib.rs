//! The component inside `weir demo`: it works for some milliseconds, and asks a model provider that can take only so much.
//!
//! - `/work?ms=40` works that long. It takes no lease of its own: whoever calls it under a scope has waited for one already.
//! - `/ask/{model}?ms=40` first acquires under the scope `provider`, with the model as limit key, then works that long. So
//!   the provider's limits hold over all callers, whatever their own scopes allow.

use spin_sdk::http::{IntoResponse, Request, StatusCode};
use spin_sdk::http_service;
use spin_sdk::wasip3::clocks::monotonic_clock;

mod bindings {
    spin_sdk::wit_bindgen::generate!({
        path: "../../../wit",
        world: "guest",
        runtime_path: "spin_sdk::wit_bindgen::rt",
        generate_all,
    });
}
use bindings::weir::flow::leases;

/// How long a call works where it does not say.
const WORK_MILLISECONDS: u64 = 40;
/// The longest work, so that nobody parks an instance of the demo for long.
const MOST_MILLISECONDS: u64 = 10_000;

#[http_service]
async fn serve(request: Request) -> impl IntoResponse {
    let work = milliseconds(request.uri().query().unwrap_or_default());
    let path = request.uri().path();
    if let Some(model) = path.strip_prefix("/ask/") {
        match leases::acquire(Some("provider".to_owned()), Some(model.to_owned()), 1, None).await {
            Ok(_lease) => {
                monotonic_clock::wait_for(work * 1_000_000).await;
                (StatusCode::OK, format!("{model} answered after {work} ms\n"))
            }
            Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", refusal.message)),
        }
    } else if path == "/" || path == "/work" {
        monotonic_clock::wait_for(work * 1_000_000).await;
        (StatusCode::OK, format!("worked {work} ms\n"))
    } else {
        (StatusCode::NOT_FOUND, "try /work?ms=40 or /ask/small?ms=40\n".to_owned())
    }
}

fn milliseconds(query: &str) -> u64 {
    let given = query.split('&').find_map(|pair| pair.strip_prefix("ms=")?.parse().ok());
    given.unwrap_or(WORK_MILLISECONDS).min(MOST_MILLISECONDS)
}
