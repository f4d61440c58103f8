//! The tenants: callers over HTTP, each with the next call as soon as the last one is answered.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::scene::{AFTER_REFUSAL, TENANTS, Tenant};

/// How the calls ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answered(Arc<Ends>);

#[derive(Debug, Default)]
struct Ends {
    granted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Answered {
    /// Calls that got their turn.
    pub(crate) fn granted(&self) -> u64 {
        self.0.granted.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (refused, failed) = (self.0.refused.load(Ordering::Relaxed), self.0.failed.load(Ordering::Relaxed));
        write!(f, "{} calls granted, {refused} refused, {failed} failed", self.granted())
    }
}

type Caller = Client<HttpConnector, Empty<Bytes>>;

/// Lets everybody call, on the current runtime, until it ends.
pub(crate) fn start(ingress: SocketAddr) -> Answered {
    let answered = Answered::default();
    let client: Caller = Client::builder(TokioExecutor::new()).build_http();
    for tenant in TENANTS {
        for _ in 0..tenant.callers {
            tokio::spawn(call_on_and_on(client.clone(), ingress, tenant, answered.clone()));
        }
    }
    answered
}

async fn call_on_and_on(client: Caller, ingress: SocketAddr, tenant: &'static Tenant, answered: Answered) {
    loop {
        let outcome = call(&client, ingress, tenant).await;
        let ends = &answered.0;
        match outcome {
            Ok(StatusCode::OK) => {
                ends.granted.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) => {
                ends.refused.fetch_add(1, Ordering::Relaxed)
            }
            Ok(status) => {
                tracing::debug!(%status, scope = tenant.scope, "an odd answer");
                ends.failed.fetch_add(1, Ordering::Relaxed)
            }
            Err(error) => {
                tracing::debug!(error, scope = tenant.scope, "no answer");
                ends.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
        tokio::time::sleep(AFTER_REFUSAL).await;
    }
}

async fn call(
    client: &Caller,
    ingress: SocketAddr,
    tenant: &Tenant,
) -> Result<StatusCode, Box<dyn std::error::Error + Send + Sync>> {
    let mut request = Request::get(format!("http://{ingress}/weir/scope/{}/call/demo{}", tenant.scope, tenant.path));
    if let Some(limit_key) = tenant.limit_key {
        request = request.header("weir-limit-key", limit_key);
    }
    let body: Empty<Bytes> = Empty::new();
    let response = client.request(request.body(body)?).await?;
    let status = response.status();
    // To the end: the lease is held until then.
    response.into_body().collect().await?;
    Ok(status)
}
