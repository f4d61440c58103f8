//! Which component a path reaches, and under which scope.
//!
//! Four forms, in this order:
//!
//! | path | reaches | flow control |
//! |---|---|---|
//! | `/weir/scope/{scope}/call/{service}/{handler...}` | component `service`, path `/{handler...}` | waits under `scope` |
//! | `/weir/call/{service}/{handler...}` | component `service`, path `/{handler...}` | free |
//! | `/weir/v1/{...}`, `/weir/openapi.json` | the lease API | each request says its own |
//! | anything else | the component with the longest matching route, path unchanged | free, or its `ingress-scope` |
//!
//! A route is an exact path (`/healthz`) or ends in `/...` and takes everything below (`/api/...` takes `/api`, `/api/`
//! and `/api/x`). Exact beats wildcard, longer beats shorter. Paths are compared as they were sent: nothing is decoded.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// The prefix that belongs to the server itself.
const RESERVED: &str = "/weir";

/// The longest route: longer than any path that a request line can carry is of no use.
const MAX_ROUTE_BYTES: usize = 2_048;

/// Where plain requests reach a component: `/exact` or `/below/...`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// Without the `/...` of a wildcard, so that of `/...` nothing is left.
    base: String,
    wildcard: bool,
}

/// Why a text is no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a route: {problem} (write an exact path such as \"/hello\", or \"/hello/...\" for everything below)"
)]
pub struct RouteError {
    text: String,
    problem: &'static str,
}

impl Route {
    /// Takes every path: the route of a component that is served alone.
    #[must_use]
    pub fn all() -> Self {
        Self { base: String::new(), wildcard: true }
    }
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let refuse = |problem| Err(RouteError { text: text.chars().take(64).collect(), problem });
        if !text.starts_with('/') {
            return refuse("it does not begin with `/`");
        }
        if text.len() > MAX_ROUTE_BYTES {
            return refuse("it is longer than 2048 bytes");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte)) {
            return refuse("it has a byte that no path can have");
        }
        let (base, wildcard) = text.strip_suffix("/...").map_or((text, false), |base| (base, true));
        if base.contains("...") {
            return refuse("`...` stands at its end only, behind a `/`");
        }
        if base == RESERVED || base.starts_with("/weir/") {
            return refuse("what is below /weir belongs to the server");
        }
        Ok(Self { base: base.to_owned(), wildcard })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.base, if self.wildcard { "/..." } else { "" })
    }
}

/// All routes of a server; a lookup costs one probe for each `/` of the path, however many routes there are.
#[derive(Debug, Default, Clone)]
pub(crate) struct RouteTable {
    exact: HashMap<String, usize>,
    below: HashMap<String, usize>,
}

impl RouteTable {
    /// Adds a route to the component at `index`; answers the component that has it already.
    pub(crate) fn insert(&mut self, route: &Route, index: usize) -> Result<(), usize> {
        let map = if route.wildcard { &mut self.below } else { &mut self.exact };
        match map.insert(route.base.clone(), index) {
            None => Ok(()),
            Some(other) => Err(other),
        }
    }

    pub(crate) fn find(&self, path: &str) -> Option<usize> {
        if let Some(index) = self.exact.get(path) {
            return Some(*index);
        }
        let mut base = path;
        loop {
            if let Some(index) = self.below.get(base) {
                return Some(*index);
            }
            base = &base[..base.rfind('/')?];
        }
    }
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// A call, under a scope or free.
    Call { scope: Option<&'a str>, service: &'a str, handler: &'a str },
    /// The lease API: what is behind `/weir`.
    Leases(&'a str),
    /// A plain request, to be looked up in the routes.
    Plain,
    /// Below `/weir`, but none of its forms.
    Unknown,
}

/// Splits a path; `handler` keeps its leading `/` and is `/` when there is none.
pub(crate) fn target(path: &str) -> Target<'_> {
    let Some(rest) = path.strip_prefix(RESERVED) else { return Target::Plain };
    if !rest.is_empty() && !rest.starts_with('/') {
        return Target::Plain;
    }
    if rest.starts_with("/v1/") || rest == "/openapi.json" {
        return Target::Leases(rest);
    }
    if let Some(rest) = rest.strip_prefix("/call/") {
        return call(None, rest);
    }
    let scoped = rest.strip_prefix("/scope/").and_then(|rest| rest.split_once('/'));
    match scoped.and_then(|(scope, rest)| Some((scope, rest.strip_prefix("call/")?))) {
        Some((scope, rest)) => call(Some(scope), rest),
        None => Target::Unknown,
    }
}

fn call<'a>(scope: Option<&'a str>, rest: &'a str) -> Target<'a> {
    let end = rest.find('/').unwrap_or(rest.len());
    let (service, handler) = rest.split_at(end);
    if service.is_empty() {
        return Target::Unknown;
    }
    Target::Call { scope, service, handler: if handler.is_empty() { "/" } else { handler } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[&str]) -> RouteTable {
        let mut table = RouteTable::default();
        for (index, route) in routes.iter().enumerate() {
            table.insert(&route.parse().unwrap(), index).unwrap();
        }
        table
    }

    #[test]
    fn the_longest_route_wins_and_exact_beats_wildcard() {
        let table = table(&["/...", "/api/...", "/api/v1/...", "/api/v1", "/exact"]);
        for (path, index) in [
            ("/", 0),
            ("/x", 0),
            ("/apix", 0),
            ("/api", 1),
            ("/api/", 1),
            ("/api/x", 1),
            ("/api/v1", 3),
            ("/api/v1/", 2),
            ("/api/v1/y/z", 2),
            ("/exact", 4),
            ("/exact/", 0),
        ] {
            assert_eq!(table.find(path), Some(index), "{path}");
        }
    }

    #[test]
    fn without_a_match_there_is_none() {
        let table = table(&["/api/...", "/exact"]);
        for path in ["/", "/apix", "/other", "*", ""] {
            assert_eq!(table.find(path), None, "{path}");
        }
    }

    #[test]
    fn routes_round_trip_and_bad_ones_say_why() {
        for text in ["/...", "/a", "/a/...", "/a/b.c/...", "/"] {
            assert_eq!(text.parse::<Route>().unwrap().to_string(), text);
        }
        for (text, part) in [
            ("a", "begin with"),
            ("", "begin with"),
            ("/a...", "at its end only"),
            ("/.../b", "at its end only"),
            ("/a b", "byte"),
            ("/a?b", "byte"),
            ("/weir", "belongs to the server"),
            ("/weir/x/...", "belongs to the server"),
        ] {
            let shown = text.parse::<Route>().unwrap_err().to_string();
            assert!(shown.contains(part), "{text}: {shown}");
        }
        assert!("/weirdo/...".parse::<Route>().is_ok());
    }

    #[test]
    fn calls_are_taken_apart() {
        let call = |scope, service, handler| Target::Call { scope, service, handler };
        for (path, expected) in [
            ("/weir/scope/a/call/svc/h/x", call(Some("a"), "svc", "/h/x")),
            ("/weir/scope/a/call/svc", call(Some("a"), "svc", "/")),
            ("/weir/scope/a/call/svc/", call(Some("a"), "svc", "/")),
            ("/weir/scope//call/svc/h", call(Some(""), "svc", "/h")),
            ("/weir/scope/a%2F/call/svc//h", call(Some("a%2F"), "svc", "//h")),
            ("/weir/call/svc/h", call(None, "svc", "/h")),
            ("/weir/call/svc", call(None, "svc", "/")),
            ("/weir/v1/leases", Target::Leases("/v1/leases")),
            ("/weir/v1/", Target::Leases("/v1/")),
            ("/weir/openapi.json", Target::Leases("/openapi.json")),
            ("/weir/v1", Target::Unknown),
            ("/weir/v12/leases", Target::Unknown),
            ("/weir/openapi.json/", Target::Unknown),
            ("/weir/call/", Target::Unknown),
            ("/weir/scope/a", Target::Unknown),
            ("/weir/scope/a/send/svc/h", Target::Unknown),
            ("/weir", Target::Unknown),
            ("/weir/", Target::Unknown),
            ("/weirdo", Target::Plain),
            ("/", Target::Plain),
            ("*", Target::Plain),
        ] {
            assert_eq!(target(path), expected, "{path}");
        }
    }
}
