//! A server that speaks the lease API, as small as can be: concurrency by scope, nobody waits, and faults on demand.
//!
//! It keeps what it was asked, word for word, and refuses what the API has not.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The connection ends before anything is done.
    Cut,
    /// It is done, and then the connection ends.
    CutAfter,
    /// Something before the server answers this.
    Status(u16),
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) what: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) seen: Vec<Seen>,
    pub(crate) faults: VecDeque<Fault>,
    limits: HashMap<String, usize>,
    leases: BTreeMap<String, Held>,
    answers: HashMap<String, Value>,
}

#[derive(Debug)]
struct Held {
    scope: String,
    ends: Instant,
}

#[derive(Debug, Clone)]
pub(crate) struct LeaseServer {
    pub(crate) at: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl LeaseServer {
    pub(crate) async fn start(limits: &[(&str, usize)]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let limits = limits.iter().map(|(scope, limit)| ((*scope).to_owned(), *limit)).collect();
        let state = Arc::new(Mutex::new(State { limits, ..State::default() }));
        let server = Self { at, state };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| server.serve(request));
                    // A cut connection ends as an error.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        server
    }

    /// Variables of a component that is to use it.
    pub(crate) fn env(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let url = format!("http://{}", self.at);
        let all = [("WEIR_URL", url.as_str())].into_iter().chain(more.iter().copied());
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Methods and paths, with `ID` for the id of a lease.
    pub(crate) fn calls(&self) -> Vec<String> {
        let state = self.state();
        state
            .seen
            .iter()
            .map(|seen| state.leases.keys().fold(seen.what.clone(), |what, id| what.replace(id, "ID")))
            .collect()
    }

    pub(crate) fn held(&self, scope: &str) -> usize {
        self.state().held(scope)
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        let path = head.uri.path_and_query().unwrap().as_str().to_owned();
        let mut state = self.state();
        let what = format!("{} {path}", head.method);
        state.seen.push(Seen { what, headers: head.headers, body: body.clone() });
        let fault = state.faults.pop_front();
        let (status, answer) = match fault {
            Some(Fault::Cut) => return Err(std::io::Error::other("cut")),
            Some(Fault::Status(status)) => (status, json!("not weir")),
            Some(Fault::CutAfter) => {
                state.answer(&head.method, &path, &body);
                return Err(std::io::Error::other("cut"));
            }
            None => state.answer(&head.method, &path, &body),
        };
        let body = Full::new(Bytes::from(answer.to_string()));
        Ok(Response::builder().status(status).body(body).unwrap())
    }
}

fn problem(status: u16, reason: &str, detail: &str) -> (u16, Value) {
    (status, json!({ "type": "about:blank", "status": status, "reason": reason, "detail": detail }))
}

fn duration(value: &Value) -> Option<Duration> {
    humantime::parse_duration(value.as_str()?).ok()
}

impl State {
    fn held(&self, scope: &str) -> usize {
        let now = Instant::now();
        self.leases.values().filter(|held| held.scope == scope && held.ends > now).count()
    }

    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let (path, _query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, &parts[..]) {
            (&Method::POST, ["weir", "v1", "leases"]) => self.acquire(body),
            (&Method::POST, ["weir", "v1", "check"]) => self.check(body),
            (&Method::POST, ["weir", "v1", "leases", id, verb]) => self.change(id, verb, body),
            (&Method::DELETE, ["weir", "v1", "leases", id]) => {
                let now = Instant::now();
                let held = self.leases.get_mut(*id).filter(|held| held.ends > now);
                let released = held.map(|held| held.ends = now).is_some();
                (200, json!({ "released": released }))
            }
            _ => (404, json!("no such path")),
        }
    }

    fn acquire(&mut self, body: &Value) -> (u16, Value) {
        let known = ["scope", "limit-key", "cost", "targets", "flow-controls", "priority", "fairness-key", "weight"];
        let terms = ["max-wait", "lease-time", "count", "least", "idempotency-key"];
        for name in body.as_object().unwrap().keys() {
            if !known.contains(&name.as_str()) && !terms.contains(&name.as_str()) {
                return problem(400, "invalid", &format!("unknown field `{name}`"));
            }
        }
        let key = body["idempotency-key"].as_str().unwrap().to_owned();
        if let Some(answer) = self.answers.get(&key) {
            return (201, answer.clone());
        }
        let (Some(scope), Some(time), Some(_)) =
            (body["scope"].as_str(), duration(&body["lease-time"]), duration(&body["max-wait"]))
        else {
            return problem(400, "invalid", "a field is missing");
        };
        let (count, least) = (body["count"].as_u64().unwrap() as usize, body["least"].as_u64().unwrap() as usize);
        let free = self.limits.get(scope).map_or(usize::MAX, |limit| limit.saturating_sub(self.held(scope)));
        if free < least {
            let limit = self.limits[scope];
            let (status, mut refusal) = problem(503, "limited", "not now");
            refusal["retry-after"] = json!("1s 250ms");
            refusal["constraints"] = json!([{ "kind": "concurrency", "counter": scope, "limit": limit, "used": self.held(scope), "estimated": true }]);
            return (status, refusal);
        }
        let ids: Vec<String> = (0..count.min(free)).map(|n| format!("lease-{}", self.leases.len() + n)).collect();
        let leases: Vec<Value> = ids
            .iter()
            .enumerate()
            .map(|(n, id)| json!({ "id": id, "fence": (self.leases.len() + n + 1).to_string(), "remaining": body["lease-time"] }))
            .collect();
        for id in ids {
            self.leases.insert(id, Held { scope: scope.to_owned(), ends: Instant::now() + time });
        }
        let answer = json!({ "leases": leases, "waited": "0s", "book-version": 1 });
        self.answers.insert(key, answer.clone());
        (201, answer)
    }

    fn check(&self, body: &Value) -> (u16, Value) {
        let scope = body["scope"].as_str().unwrap();
        let (limit, used) = (self.limits.get(scope).copied().unwrap_or(usize::MAX), self.held(scope));
        let constraints =
            json!([{ "kind": "concurrency", "counter": scope, "limit": limit, "used": used, "estimated": true }]);
        let mut answer = json!({ "granted": used < limit, "constraints": constraints });
        if used >= limit {
            answer["reason"] = json!("limited");
            answer["retry-after"] = json!("1s");
        }
        (200, answer)
    }

    fn change(&mut self, id: &str, verb: &str, body: &Value) -> (u16, Value) {
        let now = Instant::now();
        let Some(held) = self.leases.get_mut(id).filter(|held| held.ends > now) else {
            return problem(410, "lost", "it has ended, or never was");
        };
        if verb == "settle" {
            let cost = body["cost"].as_u64().unwrap();
            return (200, json!({ "refunded": 10_u64.saturating_sub(cost), "overrun": cost.saturating_sub(10) }));
        }
        held.ends = held.ends.max(now + duration(&body["lease-time"]).unwrap());
        (200, json!({ "remaining": humantime::format_duration(held.ends - now).to_string() }))
    }
}
