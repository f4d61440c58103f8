//! Ingress: a request becomes a call of a component, after its wait.
//!
//! The order is the point. Names are checked first, and cost nothing when they are wrong. Then the call waits for its
//! lease, holding a connection and nothing else: no instance, no memory of a guest. Then it takes an instance. The lease
//! goes with the call and ends with the body of its answer.
//!
//! What the server reads from a scoped call it takes away: the prefix of the path and the headers below, whose names all
//! begin with `weir-`. Nobody vouches for them: where clients are not to choose their own key or priority, the proxy in
//! front of the server strips what they send. Everything else reaches the component unchanged. A plain request that is free reaches it whole.

use std::convert::Infallible;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderName};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use weir_engine::{Engine, Lease, MAX_WEIGHT, Reason, Refusal, ScopedKey};
use weir_wasm::{BodyError, Call, Component, Runner, WasiBody};

use crate::access::Door;
use crate::leases::Leases;
use crate::metrics::{Answers, Metrics};
use crate::problem::{Problem, shorten};
use crate::route::{RouteTable, Target, target};
use crate::serve::{Phase, Phases};

/// The limit key of a scoped call: `l1` or `l1/l2`.
const LIMIT_KEY: HeaderName = HeaderName::from_static("weir-limit-key");
/// How long a scoped call may wait, such as `250ms`; never longer than the rule allows.
const MAX_WAIT: HeaderName = HeaderName::from_static("weir-max-wait");
/// Who is served first of those who wait: 255 before 0.
const PRIORITY: HeaderName = HeaderName::from_static("weir-priority");
/// Between whom waiting is shared fairly; the limit key where it is absent.
const FAIRNESS_KEY: HeaderName = HeaderName::from_static("weir-fairness-key");
/// The share of the fairness key beside others: 1 to 1,000.
const WEIGHT: HeaderName = HeaderName::from_static("weir-weight");

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) routes: RouteTable,
    pub(crate) served: Vec<Served>,
    pub(crate) known: Vec<String>,
    /// The listener's own address, for requests that name no host.
    pub(crate) authority: Authority,
    /// Who may use the lease API.
    pub(crate) door: Door,
    /// Whether there is a lease API.
    pub(crate) lease_api: bool,
}

/// A component, and the scope that its plain requests are under.
pub(crate) struct Served {
    pub(crate) component: Arc<Component>,
    pub(crate) ingress_scope: Option<String>,
}

/// One worker's ingress.
pub(crate) struct Ingress {
    shared: Arc<Shared>,
    runners: Vec<(Runner, Answers)>,
    leases: Leases,
    nobody: Answers,
    phases: Phases,
}

/// Where a request goes, before it has waited.
struct Destination {
    index: usize,
    /// What is asked of the limiter before it is called; absent: it is free.
    wanted: Option<weir_engine::Request>,
    /// The path as the component sees it, where it differs.
    path: Option<String>,
}

impl Ingress {
    /// Makes the runners; must be called on the worker's runtime.
    pub(crate) fn new(shared: Arc<Shared>, phases: Phases) -> Self {
        let runners = shared
            .served
            .iter()
            .map(|served| (served.component.runner(), shared.metrics.answers(served.component.name())))
            .collect();
        let nobody = shared.metrics.nobody();
        let (door, failures) = (shared.door.clone(), shared.metrics.client_failures());
        let leases = Leases::new(shared.engine.clone(), door, shared.lease_api, failures, phases.clone());
        Self { shared, runners, leases, nobody, phases }
    }

    /// Answers one request; every error becomes an answer.
    ///
    /// # Cancel safety
    /// Dropping it leaves the waitlist, or ends the call and gives its lease back.
    pub(crate) async fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> Response<WasiBody> {
        // Borrowed parts of the path must not hold the request: the headers are taken out of it.
        let uri = request.uri().clone();
        let target = target(uri.path());
        if let Target::Leases(path) = target {
            let response = self.leases.answer(request, path).await.unwrap_or_else(|problem| problem.into_response());
            self.nobody.count(response.status());
            return response.map(full);
        }
        let (answers, result) = match self.destination(&uri, target, request.headers_mut()) {
            Ok(destination) => {
                let (runner, answers) = &self.runners[destination.index];
                // Boxed: most of what answering a request may need, and the lease API does not.
                (answers, Box::pin(self.call(runner, destination, request)).await)
            }
            Err(problem) => (&self.nobody, Err(problem)),
        };
        let response = result.unwrap_or_else(|problem| problem.into_response().map(full));
        answers.count(response.status());
        response
    }

    async fn call(
        &self,
        runner: &Runner,
        destination: Destination,
        request: Request<Incoming>,
    ) -> Result<Response<WasiBody>, Box<Problem>> {
        let Destination { wanted, path, .. } = destination;
        let request = self.for_guest(request, path)?;
        let key = wanted.as_ref().and_then(|wanted| wanted.targets.first().cloned());
        let lease = match wanted {
            Some(wanted) => {
                let wanted = wanted.caller(runner.component().caller());
                Some(self.lease(wanted).await.map_err(|refusal| Box::new(Problem::refused(&refusal)))?)
            }
            None => None,
        };
        runner.handle(Call { key, lease }, request).await.map_err(|error| {
            tracing::debug!(%error, "the component did not answer");
            Box::new(Problem::unhandled(&error))
        })
    }

    /// Waits for the call's turn. When the server drains, what still waits is sent away.
    async fn lease(&self, wanted: weir_engine::Request) -> Result<Lease, Refusal> {
        let mut phases = self.phases.clone();
        tokio::select! {
            biased;
            granted = self.shared.engine.acquire(wanted) => granted,
            () = phases.reached(Phase::Draining) => Err(Refusal::new(Reason::Unavailable)),
        }
    }

    fn destination(&self, uri: &Uri, target: Target<'_>, headers: &mut HeaderMap) -> Result<Destination, Box<Problem>> {
        let shared = &self.shared;
        let free = |index, path| Destination { index, wanted: None, path };
        match target {
            Target::Call { scope, service, handler } => {
                let index = shared
                    .known
                    .iter()
                    .position(|name| name == service)
                    .ok_or_else(|| Problem::unknown_component(service, &shared.known))?;
                let path = Some(handler.to_owned());
                match scope {
                    Some(scope) => scoped(index, scope, "path", path, headers),
                    None if headers.contains_key(LIMIT_KEY) => {
                        let detail = "a limit key needs a scope: call /weir/scope/{scope}/call/{service}/{handler}, or leave the header out";
                        Err(Problem::bad_request(LIMIT_KEY.as_str(), detail).into())
                    }
                    None => Ok(free(index, path)),
                }
            }
            Target::Plain => {
                let index = shared.routes.find(uri.path()).ok_or_else(|| self.no_route(uri.path()))?;
                match &shared.served[index].ingress_scope {
                    Some(scope) => scoped(index, scope, "ingress-scope", None, headers),
                    None => Ok(free(index, None)),
                }
            }
            Target::Leases(_) | Target::Unknown => {
                let forms = "/weir/scope/{scope}/call/{service}/{handler} or /weir/call/{service}/{handler}";
                let detail = format!("`{}` is no call: write {forms}", shorten(uri.path()));
                Err(Problem::new(StatusCode::NOT_FOUND, detail).because("unknown-call").into())
            }
        }
    }

    fn no_route(&self, path: &str) -> Problem {
        let mut problem = Problem::new(
            StatusCode::NOT_FOUND,
            format!(
                "no component has a route for `{}`: name one, as in /weir/call/{{service}}/{{handler}}",
                shorten(path)
            ),
        );
        problem.known.clone_from(&self.shared.known);
        problem.because("unknown-route")
    }

    /// The request as the component sees it: an absolute URI, its own path, a body of its own kind.
    fn for_guest(&self, request: Request<Incoming>, path: Option<String>) -> Result<Request<WasiBody>, Box<Problem>> {
        let (mut parts, body) = request.into_parts();
        let mut uri = parts.uri.into_parts();
        if let Some(path) = path {
            let query = uri.path_and_query.as_ref().and_then(PathAndQuery::query);
            let path = match query {
                Some(query) => format!("{path}?{query}"),
                None => path,
            };
            uri.path_and_query = Some(PathAndQuery::try_from(path).map_err(|error| {
                Problem::bad_request("path", format!("the path of the handler is not one: {error}"))
            })?);
        }
        uri.scheme.get_or_insert(Scheme::HTTP);
        if uri.authority.is_none() {
            uri.authority = Some(match parts.headers.get(HOST) {
                Some(host) => Authority::try_from(host.as_bytes())
                    .map_err(|error| Problem::bad_request("host", format!("the host is not one: {error}")))?,
                None => self.shared.authority.clone(),
            });
        }
        parts.uri = Uri::from_parts(uri).map_err(|error| {
            Problem::bad_request("path", format!("the target of the request is not a URI: {error}"))
        })?;
        Ok(Request::from_parts(parts, body.map_err(BodyError::from).boxed_unsync()))
    }
}

/// A destination under `scope`, with what the caller said in headers. `field` is where the scope stands.
fn scoped(
    index: usize,
    scope: &str,
    field: &str,
    path: Option<String>,
    headers: &mut HeaderMap,
) -> Result<Destination, Box<Problem>> {
    let mut key = ScopedKey::new(scope, None).map_err(|error| Problem::bad_request(field, error.to_string()))?;
    let under = |text: &str| ScopedKey::new(scope, Some(text)).map_err(|error| error.to_string());
    if let Some(under_scope) = read(headers, &LIMIT_KEY, under)? {
        key = under_scope;
    }
    let mut wanted = weir_engine::Request::new(key);
    wanted.max_wait = read(headers, &MAX_WAIT, |text| {
        weir_engine::parse_duration(text)
            .map_err(|error| format!("`{}` is not a duration: {error}; write it like 250ms or 30s", shorten(text)))
    })?;
    if let Some(priority) = read(headers, &PRIORITY, |text| number(text, "a priority", 0, u8::MAX.into()))? {
        // The bounds are those of the type.
        wanted.priority = u8::try_from(priority).unwrap_or(u8::MAX);
    }
    if let Some(weight) = read(headers, &WEIGHT, |text| number(text, "a weight", 1, MAX_WEIGHT))? {
        wanted.weight = NonZeroU16::new(weight).unwrap_or(NonZeroU16::MIN);
    }
    if let Some(text) = take(headers, &FAIRNESS_KEY).map_err(|detail| bad(&FAIRNESS_KEY, detail))? {
        let weight = wanted.weight;
        wanted = wanted.fairness(&text, weight).map_err(|error| bad(&FAIRNESS_KEY, error.to_string()))?;
    }
    Ok(Destination { index, wanted: Some(wanted), path })
}

fn bad(header: &HeaderName, detail: String) -> Box<Problem> {
    Box::new(Problem::bad_request(header.as_str(), detail))
}

/// Takes a header and reads its text, if it is there.
fn read<T>(
    headers: &mut HeaderMap,
    name: &HeaderName,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Box<Problem>> {
    let text = take(headers, name).map_err(|detail| bad(name, detail))?;
    text.map(|text| parse(&text)).transpose().map_err(|detail| bad(name, detail))
}

fn number(text: &str, what: &str, least: u16, most: u16) -> Result<u16, String> {
    // Digits only: what a number is in one place, such as `+5`, need not be one in another.
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("`{}` is not {what}: write a number from {least} to {most}", shorten(text)))
}

/// Takes a header that may be given once, as text; an illegal byte is named with its place.
fn take(headers: &mut HeaderMap, name: &HeaderName) -> Result<Option<String>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(format!("{name} is given more than once"));
    }
    let text = match value.to_str() {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let (at, byte) =
                value.as_bytes().iter().enumerate().find(|(_, byte)| !byte.is_ascii_graphic()).unwrap_or((0, &0));
            return Err(format!(
                "{name} has the byte 0x{byte:02x} at position {at}: allowed are A-Z a-z 0-9 _ . : @ - and / between two parts"
            ));
        }
    };
    headers.remove(name);
    Ok(Some(text))
}

fn full(bytes: Bytes) -> WasiBody {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// The address of a listener, for requests that name no host.
pub(crate) fn authority(address: std::net::SocketAddr) -> Authority {
    // An address and a port always are an authority.
    Authority::from_str(&address.to_string()).unwrap_or_else(|_| Authority::from_static("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::time::Duration;

    fn headers(values: &[(&HeaderName, &[u8])]) -> HeaderMap {
        values.iter().map(|(name, value)| ((*name).clone(), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    #[test]
    fn what_the_server_reads_it_takes_away() {
        let mut headers = headers(&[
            (&LIMIT_KEY, b"eu/visa"),
            (&MAX_WAIT, b"250ms"),
            (&PRIORITY, b"255"),
            (&FAIRNESS_KEY, b"ada@example.com"),
            (&WEIGHT, b"1000"),
            (&HOST, b"x"),
        ]);
        let wanted = scoped(0, "pay", "path", None, &mut headers).unwrap().wanted.unwrap();
        assert_eq!(wanted.targets[0].as_str(), "pay/eu/visa");
        assert_eq!(wanted.max_wait, Some(Duration::from_millis(250)));
        assert_eq!((wanted.priority, wanted.weight.get()), (255, 1000));
        assert_eq!(wanted.fairness_key.as_deref(), Some("ada@example.com"));
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn a_weight_alone_is_that_of_the_limit_key() {
        let mut headers = headers(&[(&WEIGHT, b"3")]);
        let wanted = scoped(0, "pay", "path", None, &mut headers).unwrap().wanted.unwrap();
        assert_eq!((wanted.weight.get(), wanted.fairness_key), (3, None));
    }

    #[test]
    fn bad_names_and_waits_say_which_byte_and_where() {
        for (scope, header, value, field, part) in [
            ("a%2Fb", None, &b""[..], "path", "`%` (0x25) at position 1"),
            ("", None, b"", "path", "empty"),
            ("a", Some(&LIMIT_KEY), b"b\xffc", "weir-limit-key", "0xff at position 1"),
            ("a", Some(&LIMIT_KEY), b"b c", "weir-limit-key", "0x20 at position 1"),
            ("a", Some(&LIMIT_KEY), b"b/c/d", "weir-limit-key", "parts"),
            ("a", Some(&LIMIT_KEY), b"", "weir-limit-key", "empty"),
            ("a", Some(&MAX_WAIT), b"18446744073709551615s1000ms", "weir-max-wait", "too long"),
            ("a", Some(&MAX_WAIT), b"soon", "weir-max-wait", "`soon` is not a duration"),
            ("a", Some(&PRIORITY), b"256", "weir-priority", "`256` is not a priority: write a number from 0 to 255"),
            ("a", Some(&PRIORITY), b"", "weir-priority", "`` is not a priority"),
            ("a", Some(&PRIORITY), b"+5", "weir-priority", "`+5` is not a priority"),
            ("a", Some(&PRIORITY), b"high", "weir-priority", "`high` is not a priority"),
            ("a", Some(&WEIGHT), b"0", "weir-weight", "`0` is not a weight: write a number from 1 to 1000"),
            ("a", Some(&WEIGHT), b"1001", "weir-weight", "`1001` is not a weight"),
            ("a", Some(&WEIGHT), b"99999999999999999999", "weir-weight", "is not a weight"),
            ("a", Some(&FAIRNESS_KEY), b"", "weir-fairness-key", "the fairness key is empty"),
            ("a", Some(&FAIRNESS_KEY), b"b/c", "weir-fairness-key", "`/` (0x2f) at position 1"),
            ("a", Some(&FAIRNESS_KEY), b"b\xffc", "weir-fairness-key", "0xff at position 1"),
        ] {
            let mut headers = header.map(|name| headers(&[(name, value)])).unwrap_or_default();
            let Err(problem) = scoped(0, scope, "path", None, &mut headers) else { panic!("{scope} {value:?}") };
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some(field)));
            assert!(problem.detail.contains(part), "{}", problem.detail);
        }
    }

    #[test]
    fn a_header_given_twice_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append(LIMIT_KEY, HeaderValue::from_static("a"));
        headers.append(LIMIT_KEY, HeaderValue::from_static("b"));
        assert!(take(&mut headers, &LIMIT_KEY).unwrap_err().contains("more than once"));
    }
}
