//! The lease API of ingress.

use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_engine::Outcome;
use weir_http::api::{
    AcquireBody, CheckBody, CheckView, DurationText, ExtendBody, ExtendedView, LeasesView, ReleasedView, SettleBody,
    SettledView,
};

use super::{ClientError, Face, Http, TokenArgs};
use crate::error::Failure;

/// How often a request is sent again whose connection was cut.
const RETRIES: usize = 3;

/// Where the server is.
#[derive(Debug, Clone, Args)]
pub(crate) struct IngressArgs {
    /// The ingress of the server
    #[arg(long, env = "WEIR_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,

    #[command(flatten)]
    token: TokenArgs,
}

/// A client of the lease API. Every request can be sent again without doing anything twice, and is where its connection
/// was cut.
#[derive(Debug)]
pub(crate) struct LeaseClient {
    http: Http,
}

impl LeaseClient {
    pub(crate) fn new(args: &IngressArgs) -> Result<Self, Failure> {
        Ok(Self { http: Http::new(&args.url, Face::Leases, &args.token)? })
    }

    /// Waits for leases. Without an idempotency key it gets one, so that it can be sent again.
    pub(crate) fn acquire(&self, mut body: AcquireBody) -> Result<LeasesView, ClientError> {
        body.idempotency_key.get_or_insert_with(|| format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
        // It waits as long as the server lets it; only a server that is not there is noticed sooner.
        self.post("/weir/v1/leases", &body, None)
    }

    pub(crate) fn check(&self, body: &CheckBody) -> Result<CheckView, ClientError> {
        self.post("/weir/v1/check", body, Some(super::TIMEOUT))
    }

    /// How long the lease lasts now.
    pub(crate) fn extend(&self, id: &str, lease_time: Duration) -> Result<Duration, ClientError> {
        let body = ExtendBody { lease_time: DurationText(lease_time) };
        let extended: ExtendedView = self.post(&format!("{}/extend", path(id)), &body, Some(super::TIMEOUT))?;
        Ok(extended.remaining.0)
    }

    pub(crate) fn settle(&self, id: &str, cost: u32) -> Result<SettledView, ClientError> {
        self.post(&format!("{}/settle", path(id)), &SettleBody { cost }, Some(super::TIMEOUT))
    }

    /// Whether it ended now; if not, it had ended before.
    pub(crate) fn release(&self, id: &str, outcome: Outcome) -> Result<bool, ClientError> {
        let url = self.http.url(&path(id));
        let query: Vec<(&str, String)> = match outcome {
            Outcome::Ok => Vec::new(),
            Outcome::Failed => vec![("outcome", "failed".to_owned())],
            Outcome::PushedBack(after) => {
                vec![("outcome", "pushed-back".to_owned()), ("retry-after", DurationText(after).to_string())]
            }
        };
        let send = || {
            let sent = self.http.agent.delete(&url).query_pairs(query.clone()).call();
            self.http.answer::<ReleasedView>(&url, sent)
        };
        Ok(again(send)?.released)
    }

    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Option<Duration>,
    ) -> Result<T, ClientError> {
        let url = self.http.url(path);
        again(|| {
            let request = self.http.agent.post(&url).config().timeout_global(timeout);
            let sent = request.timeout_connect(Some(super::TIMEOUT)).build().send_json(body);
            self.http.answer(&url, sent)
        })
    }
}

/// The path of a lease. An id has no byte that means something else in a URL; what has is no id, and names no lease.
fn path(id: &str) -> String {
    let known: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("/weir/v1/leases/{}", if known == id && !id.is_empty() { id } else { "-" })
}

/// Sends a request again as long as its connection is cut.
fn again<T>(send: impl FnMut() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let times = ExponentialBuilder::default().with_min_delay(Duration::from_millis(100)).with_max_times(RETRIES);
    send.retry(times).when(|error| matches!(error, ClientError::Unreachable { cut: true, .. })).call()
}
