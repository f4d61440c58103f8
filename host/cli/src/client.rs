//! A server, seen from the command line: its admin API, and the lease API of its ingress.

mod admin;
mod leases;
mod token;

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};
use weir_http::Problem;

pub(crate) use admin::{AdminArgs, Client};
pub(crate) use leases::{IngressArgs, LeaseClient};
pub(crate) use token::TokenArgs;

use crate::error::Failure;

/// How long an answer may take that nobody waits for in turn: milliseconds, on any machine that is not in trouble.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer: a book of 100,000 rules.
const MAX_ANSWER_BYTES: u64 = 128 * 1024 * 1024;

/// Which of a server's two listeners is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    Admin,
    Leases,
}

impl Face {
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "the admin API",
            Self::Leases => "the lease API",
        }
    }

    /// The option that names the server, and an address as it is usually.
    fn option(self) -> (&'static str, &'static str) {
        match self {
            Self::Admin => ("--admin URL (WEIR_ADMIN)", "http://127.0.0.1:9070"),
            Self::Leases => ("--url URL (WEIR_URL)", "http://127.0.0.1:8080"),
        }
    }
}

/// One listener of a server.
#[derive(Debug)]
struct Http {
    agent: Agent,
    base: String,
    face: Face,
}

/// Why a request did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// It was answered with a problem.
    #[error("{}{}", .0.detail, place(.0))]
    Problem(Box<Problem>),
    /// Nobody listens there, or the connection was cut.
    #[error("no server answers at {url}: {reason}")]
    Unreachable { url: String, reason: String, hint: String, how: Silence },
    /// Somebody answers, who is not what was looked for.
    #[error("{url} does not answer like {} of weir: {reason}", .face.name())]
    Stranger { url: String, reason: String, face: Face },
}

/// How a server is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The connection was cut: it is of use to try again at once.
    Cut,
    /// Nobody listens there.
    Refused,
    /// It cannot be found, or does not answer in time.
    Mute,
}

fn place(problem: &Problem) -> String {
    match (&problem.field, &problem.place) {
        (Some(field), Some(place)) => format!(" ({field}, {place})"),
        (Some(field), None) => format!(" ({field})"),
        (None, _) => String::new(),
    }
}

impl ClientError {
    /// Refused for now: the same request may be granted later.
    fn is_not_now(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.status == 429 || problem.status == 503)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let hint = match &error {
            ClientError::Problem(problem) => match problem.reason.as_deref() {
                Some("not-found") if problem.field.as_deref() == Some("counter") => {
                    Some("`weir counters` shows the counters there are, `weir rules list` the pools".to_owned())
                }
                Some("not-found") => Some("`weir rules list` shows the rules there are".to_owned()),
                Some("version-mismatch") if problem.field.as_deref() == Some("if-book-version") => {
                    Some("nothing was changed; look at the difference again without --yes".to_owned())
                }
                Some("version-mismatch") => {
                    Some("somebody else changed it; look at `weir rules list --extra` and try again".to_owned())
                }
                Some("unauthenticated") => Some(
                    "show a token that is good there: --token-file FILE (or the variable WEIR_TOKEN); `weir token create` makes \
                     one, on the server's machine"
                        .to_owned(),
                ),
                Some("denied") => Some(
                    "show a token with that right and scope: `weir token list` on the server's machine shows what each has"
                        .to_owned(),
                ),
                _ => None,
            },
            ClientError::Unreachable { hint, .. } => Some(hint.clone()),
            ClientError::Stranger { face, .. } => Some(format!(
                "ingress and admin API have different ports: name {} with {}",
                face.name(),
                face.option().0
            )),
        };
        let usage = matches!(&error, ClientError::Problem(problem) if problem.status == 400);
        let failure = if usage {
            Self::usage(error)
        } else if error.is_not_now() {
            Self::not_now(error)
        } else {
            Self::failed(error)
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Http {
    fn new(base: &str, face: Face, token: &TokenArgs) -> Result<Self, Failure> {
        let base = base.trim_end_matches('/').to_owned();
        let uri =
            base.parse::<ureq::http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        let Some(uri) = uri else {
            let (option, usual) = face.option();
            return Err(Failure::usage(anyhow::anyhow!("{option}: `{base}` is not an http URL"))
                .hint(format!("write it like {usual}")));
        };
        // The server is on this machine or a trusted network: a proxy for the web has no part in it.
        let mut config = Agent::config_builder().proxy(None).http_status_as_error(false).timeout_global(Some(TIMEOUT));
        if let Some(header) = token.header(&uri)? {
            config = config.middleware(token::show(header));
        }
        Ok(Self { agent: config.build().new_agent(), base, face })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn unreachable(&self, error: &ureq::Error) -> ClientError {
        let (how, reason) = match error {
            ureq::Error::Io(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => {
                (Silence::Refused, error.to_string())
            }
            ureq::Error::Io(_) => (Silence::Cut, error.to_string()),
            ureq::Error::Timeout(ureq::Timeout::Global) => (Silence::Mute, "nothing came in time".to_owned()),
            _ => (Silence::Mute, error.to_string()),
        };
        let hint = format!("start a server with `weir serve`, or name another with {}", self.face.option().0);
        ClientError::Unreachable { url: self.base.clone(), reason, hint, how }
    }

    fn answer<T: DeserializeOwned>(
        &self,
        url: &str,
        answered: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let stranger = |reason: String| ClientError::Stranger { url: url.to_owned(), reason, face: self.face };
        let mut response = answered.map_err(|error| match error {
            ureq::Error::Io(_)
            | ureq::Error::ConnectionFailed
            | ureq::Error::HostNotFound
            | ureq::Error::Timeout(_) => self.unreachable(&error),
            other => stranger(other.to_string()),
        })?;
        let status = response.status();
        let body =
            response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec().map_err(|error| match error {
                ureq::Error::Io(_) | ureq::Error::Timeout(_) => self.unreachable(&error),
                other => stranger(other.to_string()),
            })?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| stranger(error.to_string()));
        }
        match serde_json::from_slice::<Problem>(&body) {
            // Only the admin API names what it does not find by a pattern; ingress names paths.
            Ok(problem) if !(status == StatusCode::NOT_FOUND && problem.reason.as_deref() != Some("not-found")) => {
                Err(ClientError::Problem(Box::new(problem)))
            }
            Ok(problem) => Err(stranger(format!("it says {status}: {}", problem.detail))),
            Err(_) => Err(stranger(format!("it says {status}"))),
        }
    }
}
