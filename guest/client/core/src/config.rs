//! What the environment says.
//!
//! | Variable | Default | |
//! |---|---|---|
//! | `WEIR_URL` | required | the server: `http://host:port`, or `https`, and a path before its own if you like |
//! | `WEIR_TOKEN` | none | sent as `Authorization: Bearer` |
//! | `WEIR_SCOPE` | none | the scope of calls that name none |
//! | `WEIR_LEASE_TIME` | `30s` | the lease time of leases that the guest gives none: 100 ms to 1 h |
//! | `WEIR_ON_FAILURE` | `closed` | what happens while the server does not answer: `closed, payments=open, model=budget:3/1m` |

use crate::policy::{Policies, PolicyError};
use crate::span::{SECOND, Span};
use http::Uri;

const LEASE_TIMES: std::ops::RangeInclusive<u64> = SECOND / 10..=3600 * SECOND;
const LEASE_TIME: u64 = 30 * SECOND;

/// Where the server is, and what holds for all calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) https: bool,
    pub(crate) authority: String,
    /// Before the path of each call, without a slash at its end.
    pub(crate) base: String,
    pub(crate) token: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) lease_time: u64,
    pub(crate) policies: Policies,
}

/// A variable that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no server to ask.
    #[error("WEIR_URL is not set: give this component the address of a Weir server, such as http://127.0.0.1:8080")]
    NoUrl,
    /// The address is none.
    #[error("WEIR_URL is `{url}`, and must be http://HOST[:PORT][/PATH] or https://")]
    Url {
        /// What was given.
        url: String,
    },
    /// The token cannot be a header.
    #[error("WEIR_TOKEN holds what no header may hold")]
    Token,
    /// The lease time is none, or out of bounds.
    #[error("WEIR_LEASE_TIME is `{text}`, and must be 100ms to 1h")]
    LeaseTime {
        /// What was given.
        text: String,
    },
    /// A failure policy is none.
    #[error("WEIR_ON_FAILURE: {0}")]
    OnFailure(#[from] PolicyError),
}

impl Config {
    /// Reads it from variables. An empty one counts as not set.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that is missing or wrong.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let url = variable("WEIR_URL").ok_or(ConfigError::NoUrl)?;
        let (https, authority, base) = server(&url).ok_or(ConfigError::Url { url })?;
        let token = variable("WEIR_TOKEN");
        if token.as_ref().is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(ConfigError::Token);
        }
        let lease_time = match variable("WEIR_LEASE_TIME") {
            None => LEASE_TIME,
            Some(text) => Span::parse(&text)
                .map(|span| span.0)
                .filter(|time| LEASE_TIMES.contains(time))
                .ok_or(ConfigError::LeaseTime { text })?,
        };
        let policies = variable("WEIR_ON_FAILURE").unwrap_or_default().parse()?;
        Ok(Self { https, authority, base, token, scope: variable("WEIR_SCOPE"), lease_time, policies })
    }
}

fn server(url: &str) -> Option<(bool, String, String)> {
    let uri: Uri = url.parse().ok()?;
    let https = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    if uri.query().is_some() {
        return None;
    }
    Some((https, authority.to_string(), uri.path().trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::read(|name| pairs.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn an_address_is_enough() {
        let config = read(&[("WEIR_URL", "http://127.0.0.1:8080")]).unwrap();
        assert_eq!((config.https, config.authority.as_str(), config.base.as_str()), (false, "127.0.0.1:8080", ""));
        assert_eq!((config.token, config.scope, config.lease_time), (None, None, LEASE_TIME));
    }

    #[test]
    fn a_path_and_tls_are_kept() {
        let config = read(&[("WEIR_URL", "https://weir.example/team-7/"), ("WEIR_LEASE_TIME", "1m")]).unwrap();
        assert_eq!((config.https, config.authority.as_str(), config.base.as_str()), (true, "weir.example", "/team-7"));
        assert_eq!(config.lease_time, 60 * SECOND);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(read(&[]).unwrap_err(), ConfigError::NoUrl);
        assert_eq!(read(&[("WEIR_URL", "")]).unwrap_err(), ConfigError::NoUrl);
        for url in ["weir:8080", "ftp://weir", "/weir", "http://u:p@weir", "http://weir/?a=b", "http://"] {
            assert_eq!(read(&[("WEIR_URL", url)]).unwrap_err(), ConfigError::Url { url: url.into() });
        }
        let with = |name, value| read(&[("WEIR_URL", "http://weir"), (name, value)]).unwrap_err();
        assert_eq!(with("WEIR_TOKEN", "two words"), ConfigError::Token);
        for text in ["soon", "99ms", "2h"] {
            assert_eq!(with("WEIR_LEASE_TIME", text), ConfigError::LeaseTime { text: text.into() });
        }
        assert!(matches!(with("WEIR_ON_FAILURE", "ajar"), ConfigError::OnFailure(_)));
    }
}
