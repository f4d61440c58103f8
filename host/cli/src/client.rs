//! The admin API, seen from the command line.

use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};
use weir_engine::{CounterName, Pattern};
use weir_http::Problem;
use weir_http::api::{
    AppliedView, BatchBody, BookView, ChangeBody, CounterView, CountersView, DurationText, ExplanationView, RuleView,
    VerbBody,
};

use crate::error::Failure;

/// How long the admin API may take. It has a thread of its own, so it answers within milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer: a book of 100,000 rules.
const MAX_ANSWER_BYTES: u64 = 128 * 1024 * 1024;

/// Where the server is.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// The admin API of the server
    #[arg(long, env = "WEIR_ADMIN", value_name = "URL", default_value = "http://127.0.0.1:9070")]
    admin: String,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A client of the admin API.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
}

/// Why a request to the admin API did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// It answered with a problem.
    #[error("{}{}", .0.detail, place(.0))]
    Problem(Box<Problem>),
    /// Nobody listens there.
    #[error("no server answers at {url}: {reason}")]
    Unreachable { url: String, reason: String },
    /// Somebody answers, who is not an admin API.
    #[error("{url} does not answer like the admin API of weir: {reason}")]
    Stranger { url: String, reason: String },
}

fn place(problem: &Problem) -> String {
    match (&problem.field, &problem.place) {
        (Some(field), Some(place)) => format!(" ({field}, {place})"),
        (Some(field), None) => format!(" ({field})"),
        (None, _) => String::new(),
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let hint = match &error {
            ClientError::Problem(problem) => match problem.reason.as_deref() {
                Some("not-found") if problem.field.as_deref() == Some("counter") => {
                    Some("`weir counters` shows the counters there are, `weir rules list` the pools")
                }
                Some("not-found") => Some("`weir rules list` shows the rules there are"),
                Some("version-mismatch") if problem.field.as_deref() == Some("if-book-version") => {
                    Some("nothing was changed; look at the difference again without --yes")
                }
                Some("version-mismatch") => {
                    Some("somebody else changed it; look at `weir rules list --extra` and try again")
                }
                _ => None,
            },
            ClientError::Unreachable { .. } => {
                Some("start a server with `weir serve`, or name another with --admin URL (WEIR_ADMIN)")
            }
            ClientError::Stranger { .. } => {
                Some("ingress and admin API have different ports: name the admin API with --admin URL (WEIR_ADMIN)")
            }
        };
        let usage = matches!(&error, ClientError::Problem(problem) if problem.status == 400);
        let failure = if usage { Self::usage(error) } else { Self::failed(error) };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Client {
    pub(crate) fn new(args: &AdminArgs) -> Result<Self, Failure> {
        let base = args.admin.trim_end_matches('/').to_owned();
        let uri =
            base.parse::<ureq::http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        if uri.is_none() {
            return Err(Failure::usage(anyhow::anyhow!("--admin: `{base}` is not an http URL"))
                .hint("write it like http://127.0.0.1:9070"));
        }
        // The admin API is on this machine or a trusted network: a proxy for the web has no part in it.
        let agent = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .build()
            .new_agent();
        Ok(Self { agent, base })
    }

    pub(crate) fn rules(&self) -> Result<BookView, ClientError> {
        self.get("/v1/rules")
    }

    /// One rule; `None` when there is none.
    pub(crate) fn rule(&self, pattern: &Pattern) -> Result<Option<RuleView>, ClientError> {
        match self.get(&format!("/v1/rules/{pattern}")) {
            Ok(rule) => Ok(Some(rule)),
            Err(ClientError::Problem(problem)) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The book once it has another version than `version`; `None` when it has not for so long.
    pub(crate) fn rules_after(&self, version: u64, wait: Duration) -> Result<Option<BookView>, ClientError> {
        let url = self.url("/v1/rules");
        let request = self.agent.get(&url).query("after", version.to_string());
        let request = request.query("wait", DurationText(wait).to_string());
        let answered = request.config().timeout_global(Some(wait.saturating_add(TIMEOUT))).build().call();
        if answered.as_ref().is_ok_and(|response| response.status() == StatusCode::NOT_MODIFIED) {
            return Ok(None);
        }
        self.answer(&url, answered).map(Some)
    }

    /// Applies one change.
    pub(crate) fn apply(&self, change: ChangeBody) -> Result<AppliedView, ClientError> {
        self.put(&BatchBody { changes: vec![change], if_book_version: None }, false)
    }

    /// Applies a batch, or only asks what it would change.
    pub(crate) fn put(&self, batch: &BatchBody, dry_run: bool) -> Result<AppliedView, ClientError> {
        let url = self.url("/v1/rules");
        let sent = self.agent.put(&url).query("dry-run", dry_run.to_string()).send_json(batch);
        self.answer(&url, sent)
    }

    /// One counter; `None` when there is none.
    pub(crate) fn counter(&self, name: &CounterName) -> Result<Option<CounterView>, ClientError> {
        match self.get(&counter_path(name)) {
            Ok(counter) => Ok(Some(counter)),
            Err(ClientError::Problem(problem)) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Does something to a counter.
    pub(crate) fn operate(&self, name: &CounterName, body: &VerbBody) -> Result<CounterView, ClientError> {
        let url = self.url(&counter_path(name));
        self.answer(&url, self.agent.post(&url).send_json(body))
    }

    /// Why a request of these fields would be granted or not.
    pub(crate) fn explain(&self, fields: Vec<(&str, String)>) -> Result<ExplanationView, ClientError> {
        let url = self.url("/v1/explain");
        self.answer(&url, self.agent.get(&url).query_pairs(fields).call())
    }

    pub(crate) fn counters(&self, prefix: Option<&str>, limit: usize) -> Result<CountersView, ClientError> {
        let url = self.url("/v1/counters");
        let mut request = self.agent.get(&url).query("limit", limit.to_string());
        if let Some(prefix) = prefix {
            request = request.query("prefix", prefix);
        }
        self.answer(&url, request.call())
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let url = self.url(path);
        self.answer(&url, self.agent.get(&url).call())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn answer<T: DeserializeOwned>(
        &self,
        url: &str,
        answered: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let stranger = |reason: String| ClientError::Stranger { url: url.to_owned(), reason };
        let mut response = answered.map_err(|error| match error {
            ureq::Error::Io(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::HostNotFound
            | ureq::Error::Timeout(_) => ClientError::Unreachable { url: self.base.clone(), reason: error.to_string() },
            other => stranger(other.to_string()),
        })?;
        let status = response.status();
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_vec()
            .map_err(|error| stranger(error.to_string()))?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| stranger(error.to_string()));
        }
        match serde_json::from_slice::<Problem>(&body) {
            // Only the admin API names what it does not find by a pattern; ingress names paths.
            Ok(problem) if !(status == StatusCode::NOT_FOUND && problem.reason.as_deref() != Some("not-found")) => {
                Err(ClientError::Problem(Box::new(problem)))
            }
            _ => Err(stranger(format!("it says {status}"))),
        }
    }
}

/// Of the bytes of a counter's name only the `#` of an inline key means something else in a URL.
fn counter_path(name: &CounterName) -> String {
    format!("/v1/counters/{}", name.as_str().replace('#', "%23"))
}
