//! The lease API of ingress.

use std::thread;
use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_engine::{DEFAULT_MAX_WAIT, Outcome};
use weir_http::api::{
    AcquireBody, CheckBody, CheckView, DurationText, ExtendBody, ExtendedView, LeasesView, ReleasedView, SettleBody,
    SettledView,
};
use weir_limiter::MAX_WAIT;

use super::{ClientError, Face, Http, Silence, TokenArgs};
use crate::error::Failure;

/// How often a request is sent again whose connection was cut.
const RETRIES: usize = 3;
/// The pause before the first such time; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause of who waits for a server that restarts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long after the end of a wait its answer may take.
const GRACE: Duration = super::TIMEOUT;

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

    /// Waits for leases, and answers besides whether it was sent more than once. Without an idempotency key it gets one.
    ///
    /// It is sent again as long as it may wait: when its connection was cut, and then also while nobody listens, since the
    /// server restarts. One that never was there is not waited for.
    pub(crate) fn acquire(&self, mut body: AcquireBody) -> Result<(LeasesView, bool), ClientError> {
        body.idempotency_key.get_or_insert_with(|| format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
        let given = body.max_wait.map(|wait| wait.0.min(MAX_WAIT));
        let until = Instant::now() + given.unwrap_or(DEFAULT_MAX_WAIT);
        let left = || until.saturating_duration_since(Instant::now());
        let (mut tries, mut pause) = (0, PAUSE);
        loop {
            // Where it does not say how long it waits, a rule does, and nobody here knows which.
            let answer_within = given.map_or(MAX_WAIT, |_| left()).saturating_add(GRACE);
            let answered: Result<LeasesView, _> = self.post_once("/weir/v1/leases", &body, answer_within);
            let error = match answered {
                Err(error @ ClientError::Unreachable { how: Silence::Cut, .. }) => error,
                Err(error @ ClientError::Unreachable { how: Silence::Refused, .. }) if tries > 0 => error,
                answered => return answered.map(|granted| (granted, tries > 0)),
            };
            if tries >= RETRIES && left().is_zero() {
                return Err(error);
            }
            thread::sleep(pause);
            tries += 1;
            pause = (pause * 2).min(LONGEST_PAUSE);
            body.max_wait = given.map(|_| DurationText(left()));
        }
    }

    pub(crate) fn check(&self, body: &CheckBody) -> Result<CheckView, ClientError> {
        self.post("/weir/v1/check", body)
    }

    /// How long the lease lasts now.
    pub(crate) fn extend(&self, id: &str, lease_time: Duration) -> Result<Duration, ClientError> {
        let body = ExtendBody { lease_time: DurationText(lease_time) };
        let extended: ExtendedView = self.post(&format!("{}/extend", path(id)), &body)?;
        Ok(extended.remaining.0)
    }

    pub(crate) fn settle(&self, id: &str, cost: u32) -> Result<SettledView, ClientError> {
        self.post(&format!("{}/settle", path(id)), &SettleBody { cost })
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

    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        again(|| self.post_once(path, body, super::TIMEOUT))
    }

    fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let url = self.http.url(path);
        let request = self.http.agent.post(&url).config().timeout_global(Some(timeout));
        let sent = request.timeout_connect(Some(super::TIMEOUT)).build().send_json(body);
        self.http.answer(&url, sent)
    }
}

/// The path of a lease. An id has no byte that means something else in a URL; what has is no id, and names no lease.
fn path(id: &str) -> String {
    let known: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("/weir/v1/leases/{}", if known == id && !id.is_empty() { id } else { "-" })
}

/// Sends a request again as long as its connection is cut.
fn again<T>(send: impl FnMut() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let times = ExponentialBuilder::default().with_min_delay(PAUSE).with_max_times(RETRIES);
    send.retry(times).when(|error| matches!(error, ClientError::Unreachable { how: Silence::Cut, .. })).call()
}
