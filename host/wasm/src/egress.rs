//! What a guest may call over HTTP: nobody, unless its configuration names the host.
//!
//! Rules are `host` (any port), `host:port` and `*.host` (any name below it, not itself). Names compare without case.
//! A call that no rule allows ends as `HTTP-request-denied`. Sockets and name look-ups are closed to guests altogether.

use http::Uri;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// A text that is no outbound rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{rule}` is no host: write `host`, `host:port` or `*.host`, without scheme or path")]
pub struct OutboundRuleError {
    /// What was given.
    pub rule: String,
}

/// Checks one entry of [`ComponentConfig::allow_outbound`](crate::ComponentConfig::allow_outbound).
///
/// # Errors
/// It is no host.
pub fn check_outbound(rule: &str) -> Result<(), OutboundRuleError> {
    Rule::parse(rule).map(|_| ()).ok_or_else(|| OutboundRuleError { rule: rule.to_owned() })
}

/// The hosts that a component may call.
#[derive(Debug, Default)]
pub(crate) struct Outbound(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    host: String,
    below: bool,
    port: Option<u16>,
}

impl Outbound {
    /// # Errors
    /// [`OutboundRuleError`] names the first rule that is none.
    pub(crate) fn new(rules: &[String]) -> Result<Self, OutboundRuleError> {
        rules
            .iter()
            .map(|rule| Rule::parse(rule).ok_or_else(|| OutboundRuleError { rule: rule.clone() }))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn allows(&self, uri: &Uri) -> bool {
        let Some(host) = uri.host() else { return false };
        let host = host.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        self.0.iter().any(|rule| rule.matches(&host, port))
    }
}

impl Rule {
    fn parse(rule: &str) -> Option<Self> {
        let (below, rest) = match rule.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rule),
        };
        // An address in brackets has colons of its own.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !rest.ends_with(']') => (host, Some(port.parse().ok().filter(|port| *port != 0)?)),
            _ => (rest, None),
        };
        let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let address = host.starts_with('[')
            && host.ends_with(']')
            && host.len() > 2
            && host[1..host.len() - 1].bytes().all(|b| b.is_ascii_hexdigit() || b":.".contains(&b));
        (plain || (address && !below)).then(|| Self { host: host.to_ascii_lowercase(), below, port })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        let named = if self.below {
            host.strip_suffix(self.host.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        named && self.port.is_none_or(|own| own == port)
    }
}

/// The outbound side of one instance.
pub(crate) struct Hooks {
    pub(crate) component: Arc<str>,
    pub(crate) outbound: Arc<Outbound>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("component", &self.component).finish_non_exhaustive()
    }
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        response_result: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        // What the guest finds wrong with the response concerns nobody here.
        drop(response_result);
        if !self.outbound.allows(request.uri()) {
            let authority = request.uri().authority().map_or("", |authority| authority.as_str());
            tracing::debug!(target: "weir_wasm", component = %self.component, %authority, "outbound call denied: not in allow-outbound");
            return Box::new(std::future::ready(Err(Error::HttpRequestDenied)));
        }
        Box::new(async move {
            use http_body_util::BodyExt as _;
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            Ok((
                response.map(|body| body.boxed_unsync()),
                Box::new(io) as Box<dyn Future<Output = Result<(), Error>> + Send>,
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, uri: &str) -> bool {
        Outbound::new(&[rule.to_owned()]).unwrap().allows(&uri.parse().unwrap())
    }

    #[test]
    fn nobody_is_allowed_by_default() {
        assert!(!Outbound::default().allows(&"https://example.com/".parse().unwrap()));
    }

    #[test]
    fn a_rule_allows_what_it_names_and_no_more() {
        assert!(allows("example.com", "https://example.com/x"));
        assert!(allows("Example.COM", "http://example.com:8080/x"));
        assert!(!allows("example.com", "https://a.example.com/"));
        assert!(!allows("example.com", "https://example.com.evil.org/"));
        assert!(!allows("example.com", "https://example.com@evil.org/"));
        assert!(allows("example.com:8080", "http://example.com:8080/"));
        assert!(!allows("example.com:8080", "http://example.com/"));
        assert!(allows("example.com:443", "https://example.com/"));
        assert!(allows("example.com:80", "http://example.com/"));
        assert!(allows("*.example.com", "https://a.b.example.com/"));
        assert!(!allows("*.example.com", "https://example.com/"));
        assert!(!allows("*.example.com", "https://evilexample.com/"));
        assert!(allows("[::1]:80", "http://[::1]/"));
    }

    #[test]
    fn what_is_no_host_is_named() {
        for rule in ["", "https://example.com", "example.com/x", "*", "*.", "a:b", "a:0", "a:70000", "*.[::1]", "a b"] {
            assert_eq!(
                Outbound::new(&["ok".to_owned(), rule.to_owned()]).unwrap_err(),
                OutboundRuleError { rule: rule.to_owned() },
                "{rule}"
            );
        }
    }
}
