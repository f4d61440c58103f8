//! Who asks, and what they may do: by a token, or by being on this machine.
//!
//! A request that shows a token is judged by that alone, wherever it comes from. Without one, only a request from this machine
//! is answered: the listener is on the loopback interface, the request names it as such, and says nothing of elsewhere. So
//! neither the clients of a proxy in front nor a page in a browser, under a name that leads here, may do what somebody at
//! this machine may.
//!
//! | It shows | From this machine | From elsewhere |
//! |---|---|---|
//! | no `Authorization` | everything | 401 |
//! | a good token | its rights in its scopes, else 403 | the same |
//! | anything else | 401 | 401 |

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, FORWARDED, HOST, HeaderName, ORIGIN, VIA};
use http::{HeaderMap, Uri};

use crate::problem::Problem;
use crate::tokens::{Holder, Right, Timestamp, Token, Tokens};

/// As many bytes of `Authorization` as are looked at: a token has 86.
const MAX_AUTHORIZATION: usize = 256;

/// What proxies and browsers add to a request that comes from elsewhere.
static FROM_ELSEWHERE: [HeaderName; 4] = [ORIGIN, FORWARDED, HeaderName::from_static("x-forwarded-for"), VIA];

/// What one listener knows of who may ask.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) tokens: Arc<Tokens>,
    /// Whether it can be reached from this machine only.
    pub(crate) loopback: bool,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Somebody on this machine, who may do everything.
    Local,
    /// Whoever has this token.
    Token(Arc<Holder>),
}

impl Door {
    /// Who sends this request, at `now`.
    ///
    /// # Errors
    /// 401, as a problem that says what to show.
    pub(crate) fn admit(&self, uri: &Uri, headers: &HeaderMap, now: Timestamp) -> Result<Access, Box<Problem>> {
        let mut shown = headers.get_all(AUTHORIZATION).iter();
        match (shown.next(), shown.next()) {
            (None, _) if self.loopback && is_local(uri, headers) => Ok(Access::Local),
            (None, _) => Err(Problem::unauthenticated(
                "this needs a token: send `Authorization: Bearer TOKEN` with one that `weir token create` has made; without one \
                 this machine alone is answered, by 127.0.0.1 or localhost, and not through a proxy",
            )),
            (Some(value), None) if value.len() <= MAX_AUTHORIZATION => {
                let token = bearer(value.as_bytes());
                let holder = token.and_then(|token| self.tokens.holder(&token, now));
                holder.map(Access::Token).ok_or_else(|| {
                    Problem::unauthenticated("this is no token that is good here: it is unknown, revoked or expired")
                })
            }
            (Some(_), _) => {
                Err(Problem::unauthenticated("`Authorization` is too long, or there twice: send one `Bearer TOKEN`"))
            }
        }
        .map_err(Box::new)
    }
}

impl Access {
    /// Whether it has a right.
    ///
    /// # Errors
    /// 403, as a problem that names the right.
    pub(crate) fn needs(&self, right: Right) -> Result<(), Box<Problem>> {
        match self {
            Self::Token(holder) if !holder.has(right) => {
                let has = holder.rights().map(|right| format!("`{right}`")).collect::<Vec<_>>().join(", ");
                let name = holder.name();
                Err(Problem::denied(format!("the token `{name}` has not the right `{right}`, but {has}")).into())
            }
            _ => Ok(()),
        }
    }

    /// Whether it may do something to `scope`; `*`: to all of them.
    ///
    /// # Errors
    /// 403, as a problem that names the scope.
    pub(crate) fn within(&self, scope: &str) -> Result<(), Box<Problem>> {
        match self {
            Self::Token(holder) if !holder.may_use(scope) => {
                let name = holder.name();
                let detail = if scope == "*" {
                    format!("the token `{name}` is not for all scopes, as this needs")
                } else {
                    format!("the token `{name}` is not for the scope `{scope}`")
                };
                let mut problem = Problem::denied(detail);
                problem.field = Some("scope".to_owned());
                Err(problem.into())
            }
            _ => Ok(()),
        }
    }

    /// Whether it sees everything.
    pub(crate) fn sees_all(&self) -> bool {
        self.within("*").is_ok()
    }

    /// The caller that the engine knows it as. No component can have this name.
    pub(crate) fn caller(&self) -> String {
        match self {
            Self::Local => "(local)".to_owned(),
            Self::Token(holder) => format!("(token) {}", holder.name()),
        }
    }
}

/// The token of a header.
fn bearer(value: &[u8]) -> Option<Token> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' ').parse().ok()).flatten()
}

/// Whether a request calls this machine by its own name, and says nothing of elsewhere.
fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    if headers.keys().any(|name| FROM_ELSEWHERE.contains(name)) {
        return false;
    }
    match uri.authority() {
        Some(named) => is_this_machine(named.host()),
        None => headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .is_some_and(|named| is_this_machine(without_port(named))),
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Whether a host is the one that asks: `localhost`, or an address of the loopback interface.
#[must_use]
pub fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_few_names() {
        for (host, own) in [
            ("localhost", true),
            ("LOCALHOST", true),
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("[::1]", true),
            ("", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example", false),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(is_this_machine(host), own, "{host}");
        }
    }

    #[test]
    fn a_host_is_told_from_its_port() {
        for (authority, own) in [
            ("localhost", true),
            ("localhost:8080", true),
            ("127.0.0.1:1", true),
            ("[::1]", true),
            ("[::1]:80", true),
            ("localhost:", true),
            ("localhost:x", false),
            ("localhost:80:80", false),
            ("you@localhost", false),
            ("::1", false),
            ("", false),
            (":80", false),
            ("localhost.evil.example:80", false),
        ] {
            assert_eq!(is_this_machine(without_port(authority)), own, "{authority}");
        }
    }

    #[test]
    fn a_bearer_is_read_whatever_the_case_of_its_scheme() {
        let text = format!("weir_{}_{}", "1".repeat(16), "a".repeat(64));
        for (value, good) in [
            (format!("Bearer {text}"), true),
            (format!("bearer {text}"), true),
            (format!("BEARER  {text}"), true),
            (format!("Basic {text}"), false),
            (format!("Bearer{text}"), false),
            (format!("Bearer {text} x"), false),
            (format!("Bearer {text}, Bearer {text}"), false),
            ("Bearer".to_owned(), false),
            ("Bearer ".to_owned(), false),
            (text, false),
            (String::new(), false),
        ] {
            assert_eq!(bearer(value.as_bytes()).is_some(), good, "{value}");
        }
        assert!(bearer(b"Bearer \xff").is_none());
    }
}
