//! The admin API.

use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use ureq::http::StatusCode;
use weir_engine::{CounterName, Pattern};
use weir_http::api::{
    AcquireBody, AppliedView, BatchBody, BookView, ChangeBody, CounterView, CountersView, DurationText,
    ExplanationView, RuleView, VerbBody,
};

use super::{ClientError, Face, Http, TIMEOUT, TokenArgs};
use crate::error::Failure;

/// Where the server is.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// The admin API of the server
    #[arg(long, env = "WEIR_ADMIN", value_name = "URL", default_value = "http://127.0.0.1:9070")]
    admin: String,

    #[command(flatten)]
    token: TokenArgs,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A client of the admin API.
#[derive(Debug)]
pub(crate) struct Client {
    http: Http,
}

impl Client {
    pub(crate) fn new(args: &AdminArgs) -> Result<Self, Failure> {
        Ok(Self { http: Http::new(&args.admin, Face::Admin, &args.token)? })
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
        let url = self.http.url("/v1/rules");
        let request = self.http.agent.get(&url).query("after", version.to_string());
        let request = request.query("wait", DurationText(wait).to_string());
        let answered = request.config().timeout_global(Some(wait.saturating_add(TIMEOUT))).build().call();
        if answered.as_ref().is_ok_and(|response| response.status() == StatusCode::NOT_MODIFIED) {
            return Ok(None);
        }
        self.http.answer(&url, answered).map(Some)
    }

    /// Applies one change.
    pub(crate) fn apply(&self, change: ChangeBody) -> Result<AppliedView, ClientError> {
        self.put(&BatchBody { changes: vec![change], if_book_version: None }, false)
    }

    /// Applies a batch, or only asks what it would change.
    pub(crate) fn put(&self, batch: &BatchBody, dry_run: bool) -> Result<AppliedView, ClientError> {
        let url = self.http.url("/v1/rules");
        let sent = self.http.agent.put(&url).query("dry-run", dry_run.to_string()).send_json(batch);
        self.http.answer(&url, sent)
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
        let url = self.http.url(&counter_path(name));
        self.http.answer(&url, self.http.agent.post(&url).send_json(body))
    }

    /// Why a request would be granted or not, and when.
    pub(crate) fn explain(&self, body: &AcquireBody) -> Result<ExplanationView, ClientError> {
        let url = self.http.url("/v1/explain");
        self.http.answer(&url, self.http.agent.post(&url).send_json(body))
    }

    pub(crate) fn counters(&self, prefix: Option<&str>, limit: usize) -> Result<CountersView, ClientError> {
        let url = self.http.url("/v1/counters");
        let mut request = self.http.agent.get(&url).query("limit", limit.to_string());
        if let Some(prefix) = prefix {
            request = request.query("prefix", prefix);
        }
        self.http.answer(&url, request.call())
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let url = self.http.url(path);
        self.http.answer(&url, self.http.agent.get(&url).call())
    }
}

/// Of the bytes of a counter's name only the `#` of an inline key means something else in a URL.
fn counter_path(name: &CounterName) -> String {
    format!("/v1/counters/{}", name.as_str().replace('#', "%23"))
}
