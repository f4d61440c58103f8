//! Egress rules: which counter a call to outside waits at. The guest knows nothing of it.
//!
//! A rule says for which hosts it holds, under which scope and limit key a call to them comes, what it costs and how long it
//! may wait. How much may run is said where all limits are: in the rule book, for the same scope. Of several rules that
//! match the most exact binds: a host before the names below one, the longer before the shorter, one with a port before one
//! without. Calls that no rule matches are free.
//!
//! # A worked example
//! `host = "*.example.com"`, `scope = "example"`, `limit-key = "{component}/{header:x-model}"`. Component `chat` sends
//! `POST https://api.example.com/` with `x-model: small`: the call waits at `example`, `example/chat` and
//! `example/chat/small`. Without the field, or with one that is no name, it is refused as `invalid`. With
//! `{header:x-model|none}` a call without the field, or with an empty one, waits at `example/chat/none`.

use super::address::Host;
use super::allow::{Destination, HostPattern};
use http::{HeaderMap, HeaderName, Method};
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use weir_engine::{NameError, Pattern, ScopedKey};

/// Why something is no egress rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The host is none.
    #[error("`{host}` is no host: write `host`, `host:port` or `*.host`, without scheme or path")]
    Host {
        /// What was given.
        host: String,
    },
    /// The host cannot be the name of a scope.
    #[error("`{host}` is no name of a scope: name one with `scope`")]
    NoScope {
        /// What was given.
        host: String,
    },
    /// A scope or a part of a limit key is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A limit key that cannot be filled in.
    #[error(
        "`{template}` is no limit key: one or two parts of names, {{component}}, {{host}}, {{method}}, {{header:NAME}} and \
         {{header:NAME|DEFAULT}}"
    )]
    LimitKey {
        /// What was given.
        template: String,
    },
    /// A cost that is none.
    #[error("`{cost}` is no cost: write a number from 1, {{header:NAME}} or {{header:NAME|NUMBER}}")]
    Cost {
        /// What was given.
        cost: String,
    },
    /// Two rules for the same hosts.
    #[error("there is another egress rule for `{host}`")]
    Twice {
        /// Which hosts.
        host: String,
    },
}

/// What calls to some hosts wait for.
#[derive(Debug, Clone)]
pub struct EgressRule {
    text: String,
    host: HostPattern,
    scope: String,
    limit_key: Vec<Vec<Piece>>,
    cost: Cost,
    max_wait: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Component,
    Host,
    Method,
    /// What stands in where a call has none is a name.
    Header(HeaderName, Option<String>),
}

#[derive(Debug, Clone)]
enum Cost {
    Fixed(NonZeroU32),
    /// What stands in where a call has none is a number from 1.
    Header(HeaderName, Option<String>),
}

/// What a rule reads of a call.
pub(super) struct Sent<'a> {
    pub(super) component: &'a str,
    pub(super) to: &'a Destination,
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
}

/// What in a call is missing or no name, in words.
pub(super) type Unfit = String;

impl EgressRule {
    /// A rule for `host`, `host:port`, or `*.host` (the names below it). The scope is the host, unless another is named.
    ///
    /// # Errors
    /// The host is none, or the scope no name.
    pub fn new(host: &str, scope: Option<&str>) -> Result<Self, EgressError> {
        let pattern = HostPattern::parse(host).ok_or_else(|| EgressError::Host { host: host.to_owned() })?;
        let scope = match (scope, &pattern) {
            (Some(scope), _) => scope.to_owned(),
            (None, HostPattern { host: Host::Name(name), below: false, .. }) => name.clone(),
            (None, HostPattern { host: Host::Address(address), .. }) => address.to_string(),
            (None, _) => return Err(EgressError::NoScope { host: host.to_owned() }),
        };
        ScopedKey::new(&scope, None)?;
        let (limit_key, cost) = (Vec::new(), Cost::Fixed(NonZeroU32::MIN));
        Ok(Self { text: host.to_owned(), host: pattern, scope, limit_key, cost, max_wait: None })
    }

    /// Sets the limit key: one or two parts joined by `/`, in which `{component}`, `{host}`, `{method}` and `{header:NAME}`
    /// stand for what the call says. `{header:NAME|DEFAULT}` is the default where it has no such field, or an empty one.
    ///
    /// # Errors
    /// It is no such text.
    pub fn limit_key(mut self, template: &str) -> Result<Self, EgressError> {
        let wrong = || EgressError::LimitKey { template: template.to_owned() };
        self.limit_key = template.split('/').map(|part| pieces(part).ok_or_else(wrong)).collect::<Result<_, _>>()?;
        if self.limit_key.len() > 2 { Err(wrong()) } else { Ok(self) }
    }

    /// Sets the cost: a number from 1, `{header:NAME}`, or `{header:NAME|NUMBER}` for calls without the field. Default: 1.
    ///
    /// # Errors
    /// It is none of them.
    pub fn cost(mut self, cost: &str) -> Result<Self, EgressError> {
        let wrong = || EgressError::Cost { cost: cost.to_owned() };
        self.cost = match pieces(cost).as_deref() {
            Some([Piece::Header(name, default)]) => {
                if default.as_ref().is_some_and(|default| default.parse::<NonZeroU32>().is_err()) {
                    return Err(wrong());
                }
                Cost::Header(name.clone(), default.clone())
            }
            _ => Cost::Fixed(cost.parse().map_err(|_| wrong())?),
        };
        Ok(self)
    }

    /// Sets how long a call may wait; zero: not at all. A rule of the book with a shorter `max-wait` holds besides.
    #[must_use]
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// The pattern in the rule book that governs all counters at which its calls wait last: the scope, and `*` for each part
    /// of the limit key.
    ///
    /// # Errors
    /// Never for a scope that is a name, and it is.
    pub fn pattern(&self) -> Result<Pattern, weir_engine::PatternError> {
        format!("{}{}", self.scope, "/*".repeat(self.limit_key.len())).parse()
    }

    pub(super) fn longest_wait(&self) -> Option<Duration> {
        self.max_wait
    }

    /// The key under which a call comes, and its cost.
    pub(super) fn ask(&self, sent: &Sent<'_>) -> Result<(ScopedKey, NonZeroU32), Unfit> {
        let mut limit_key = String::new();
        for (at, part) in self.limit_key.iter().enumerate() {
            if at > 0 {
                limit_key.push('/');
            }
            for piece in part {
                piece.fill(&mut limit_key, sent)?;
            }
        }
        let key = ScopedKey::new(&self.scope, Some(limit_key.as_str()).filter(|key| !key.is_empty()))
            .map_err(|error| error.to_string())?;
        // A text from outside must not add parts of its own.
        if key.depth() != 1 + self.limit_key.len() {
            return Err(format!("`{limit_key}` has another number of parts than the limit key of the rule"));
        }
        let cost = match &self.cost {
            Cost::Fixed(cost) => *cost,
            Cost::Header(name, default) => {
                let value = header(sent.headers, name, default.as_deref())?;
                value.parse().map_err(|_| format!("the field `{name}` is no cost: a number from 1 to 4294967295"))?
            }
        };
        Ok((key, cost))
    }
}

impl Piece {
    fn fill(&self, out: &mut String, sent: &Sent<'_>) -> Result<(), Unfit> {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Component => out.push_str(sent.component),
            Self::Method => out.push_str(sent.method.as_str()),
            Self::Header(name, default) => out.push_str(header(sent.headers, name, default.as_deref())?),
            // Writing to a string does not fail. Brackets are no part of a name.
            Self::Host => match &sent.to.host {
                Host::Name(name) => out.push_str(name),
                Host::Address(address) => _ = write!(out, "{address}"),
            },
        }
        Ok(())
    }
}

/// The value of a field, or what stands in where it is missing or empty.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName, default: Option<&'a str>) -> Result<&'a str, Unfit> {
    let value = headers.get(name).map(|value| value.to_str().map(str::trim)).transpose();
    match (value.map_err(|_| format!("the field `{name}` is no text"))?, default) {
        (None | Some(""), Some(default)) => Ok(default),
        (Some(value), _) => Ok(value),
        (None, None) => Err(format!("the field `{name}` is missing")),
    }
}

/// The pieces of one part. None where a brace has no partner or holds nothing that is known, and where no call makes a name of
/// it.
fn pieces(mut part: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    while !part.is_empty() {
        let (text, rest) = part.split_at(part.find(['{', '}']).unwrap_or(part.len()));
        if !text.is_empty() {
            ScopedKey::new(text, None).ok()?;
            pieces.push(Piece::Text(text.to_owned()));
        }
        part = rest;
        if let Some(inner) = rest.strip_prefix('{') {
            let (name, after) = inner.split_once('}')?;
            part = after;
            pieces.push(match name {
                "component" => Piece::Component,
                "host" => Piece::Host,
                "method" => Piece::Method,
                _ => {
                    // A `|` may be in the name of a field, but in no name that anybody uses.
                    let field = name.strip_prefix("header:")?;
                    let (field, default) = match field.split_once('|') {
                        Some((field, default)) => (field, Some(default.to_owned())),
                        None => (field, None),
                    };
                    if let Some(default) = &default {
                        ScopedKey::new(default, None).ok()?;
                    }
                    Piece::Header(field.parse().ok()?, default)
                }
            });
        } else if !rest.is_empty() {
            return None;
        }
    }
    // The least that a call makes of it.
    let least: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) | Piece::Header(_, Some(text)) => text.as_str(),
            Piece::Component | Piece::Host | Piece::Method | Piece::Header(_, None) => "x",
        })
        .collect();
    ScopedKey::new(&least, None).ok()?;
    Some(pieces)
}

/// The egress rules of a host. Cloning is a reference count.
#[derive(Debug, Clone, Default)]
pub struct Egress(Arc<[EgressRule]>);

impl Egress {
    /// Puts rules together.
    ///
    /// # Errors
    /// [`EgressError::Twice`] when two hold for the same hosts.
    pub fn new(mut rules: Vec<EgressRule>) -> Result<Self, EgressError> {
        for (at, rule) in rules.iter().enumerate() {
            if rules[..at].iter().any(|other| other.host == rule.host) {
                return Err(EgressError::Twice { host: rule.text.clone() });
            }
        }
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.host.exactness()));
        Ok(Self(rules.into()))
    }

    pub(super) fn rule_for(&self, to: &Destination) -> Option<&EgressRule> {
        self.0.iter().find(|rule| rule.host.matches(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(uri: &str) -> Destination {
        Destination::of(&uri.parse().unwrap()).unwrap()
    }

    fn rule(host: &str) -> EgressRule {
        EgressRule::new(host, Some("s")).unwrap()
    }

    fn asks(rule: &EgressRule, headers: &[(&'static str, &str)]) -> Result<(String, u32), Unfit> {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let sent =
            Sent { component: "chat", to: &to("https://api.example.com/"), method: &Method::POST, headers: &headers };
        rule.ask(&sent).map(|(key, cost)| (key.as_str().to_owned(), cost.get()))
    }

    #[test]
    fn the_most_exact_host_binds() {
        let hosts =
            ["*.com", "*.example.com", "*.example.com:8443", "api.example.com", "api.example.com:8443", "1.2.3.4"];
        let egress = Egress::new(hosts.map(rule).to_vec()).unwrap();
        for (uri, host) in [
            ("https://api.example.com:8443/", Some("api.example.com:8443")),
            ("https://API.example.com./", Some("api.example.com")),
            ("https://b.example.com:8443/", Some("*.example.com:8443")),
            ("https://b.example.com/", Some("*.example.com")),
            ("https://example.com/", Some("*.com")),
            ("https://[::ffff:1.2.3.4]/", Some("1.2.3.4")),
            ("https://example.org/", None),
            ("https://com/", None),
        ] {
            assert_eq!(egress.rule_for(&to(uri)).map(|rule| rule.text.as_str()), host, "{uri}");
        }
        let twice = Egress::new(vec![rule("a.b"), rule("A.b.")]);
        assert_eq!(twice.unwrap_err(), EgressError::Twice { host: "A.b.".to_owned() });
    }

    #[test]
    fn a_scope_is_the_host_unless_it_is_said() {
        let scope = |host: &str| EgressRule::new(host, None).map(|rule| rule.scope);
        assert_eq!(scope("API.example.com:8443").unwrap(), "api.example.com");
        assert_eq!(scope("127.0.0.1:80").unwrap(), "127.0.0.1");
        assert_eq!(scope("[::1]:80").unwrap(), "::1");
        assert_eq!(scope("*.example.com"), Err(EgressError::NoScope { host: "*.example.com".to_owned() }));
        assert_eq!(scope("a/b"), Err(EgressError::Host { host: "a/b".to_owned() }));
        assert!(matches!(EgressRule::new("a", Some("b/c")), Err(EgressError::Name(_))));
    }

    #[test]
    fn a_call_fills_the_key_in() {
        assert_eq!(asks(&rule("h"), &[]), Ok(("s".to_owned(), 1)));
        let keyed =
            rule("h").limit_key("{component}/m-{header:x-model}.{method}").unwrap().cost("{header:x-cost}").unwrap();
        let headers = [("x-model", "small"), ("x-cost", "12")];
        assert_eq!(asks(&keyed, &headers), Ok(("s/chat/m-small.POST".to_owned(), 12)));
        assert_eq!(keyed.pattern().unwrap().as_str(), "s/*/*");
        assert_eq!(asks(&rule("h").limit_key("{host}").unwrap(), &[]), Ok(("s/api.example.com".to_owned(), 1)));
        for (headers, wrong) in [
            (&[("x-cost", "1")][..], "`x-model` is missing"),
            (&[("x-model", "a/b"), ("x-cost", "1")], "parts"),
            (&[("x-model", "a b"), ("x-cost", "1")], "byte 0x20"),
            (&[("x-model", "a")], "`x-cost` is missing"),
            (&[("x-model", "a"), ("x-cost", "0")], "is no cost"),
            (&[("x-model", "a"), ("x-cost", "4294967296")], "is no cost"),
        ] {
            let unfit = asks(&keyed, headers).unwrap_err();
            assert!(unfit.contains(wrong), "{unfit}");
        }
        let one = rule("h").limit_key("{header:x-key}").unwrap();
        assert!(asks(&one, &[("x-key", "")]).is_err() && asks(&one, &[("x-key", "a/b")]).is_err());
    }

    #[test]
    fn a_default_stands_in_for_a_field_that_is_missing_or_empty() {
        let keyed =
            rule("h").limit_key("{component}/m-{header:x-model|none}").unwrap().cost("{header:x-cost|7}").unwrap();
        for (headers, key, cost) in [
            (&[][..], "s/chat/m-none", 7),
            (&[("x-model", ""), ("x-cost", " ")], "s/chat/m-none", 7),
            (&[("x-model", "small"), ("x-cost", "12")], "s/chat/m-small", 12),
        ] {
            assert_eq!(asks(&keyed, headers), Ok((key.to_owned(), cost)), "{headers:?}");
        }
        // What is there and no name is no name yet.
        for headers in [[("x-model", "a b")], [("x-model", "a/b")], [("x-cost", "0")]] {
            assert!(asks(&keyed, &headers).is_err(), "{headers:?}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_refused() {
        let long = "x".repeat(120);
        let too_long = [format!("{long}{{header:a|{long}}}"), format!("{long}{{host}}{long}")];
        let wrong = [
            "",
            "a//b",
            "a/b/c",
            "{",
            "}",
            "{}",
            "{scope}",
            "{header:}",
            "{header:a b}",
            "{component",
            "a b",
            "é",
            "{header:a|}",
            "{header:|a}",
            "{header:a|b c}",
            "{header:a|b|c}",
            "{header:a|b/c}",
            "{component|a}",
            "{host|a}",
        ];
        for template in wrong.into_iter().chain(too_long.iter().map(String::as_str)) {
            assert!(rule("h").limit_key(template).is_err(), "{template}");
        }
        for cost in [
            "",
            "0",
            "-1",
            "1.5",
            "many",
            "{component}",
            "{header:a}{header:b}",
            "4294967296",
            "{header:a|}",
            "{header:a|0}",
            "{header:a|many}",
            "{header:a|4294967296}",
        ] {
            assert_eq!(rule("h").cost(cost).unwrap_err(), EgressError::Cost { cost: cost.to_owned() });
        }
    }
}
