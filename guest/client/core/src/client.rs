//! The calls of the contract as calls of the lease API.

use crate::answer::{Answer, Checked, Extended, Granted, Released, Settled, read};
use crate::attempts::Attempts;
use crate::config::{Config, ConfigError};
use crate::failures::{self, Failures};
use crate::host::{Exchange, Host};
use crate::lease::{LONGEST, Lease, Outcome};
use crate::policy::{Local, Policies};
use crate::refused::{Constraint, Reason, Refused};
use crate::request::{Ask, Terms};
use crate::span::{SECOND, Span};
use http::Method;
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};

/// How much longer than what it may wait a call takes at most, in nanoseconds: connecting and sending again are in it.
pub const GRACE: u64 = 5 * SECOND;

/// The wait of an acquire that says none, and of all where it is longer: the server's own default and bound.
const MAX_WAIT: u64 = 60 * SECOND;
const LONGEST_WAIT: u64 = 3600 * SECOND;

const LEASES: &str = "/weir/v1/leases";

/// One component's line to its server.
#[derive(Debug)]
pub struct Client<H> {
    host: H,
    config: Result<Config, ConfigError>,
    policies: RefCell<Option<Policies>>,
    /// What was decided here, and the server has not heard of.
    failures: Failures,
}

impl<H: Host> Client<H> {
    /// A client by its variables. What is wrong with them is what every call is then refused with.
    pub fn new(host: H, variable: impl Fn(&str) -> Option<String>) -> Self {
        let config = Config::read(variable);
        let policies = RefCell::new(config.as_ref().ok().map(|config| config.policies.clone()));
        Self { host, config, policies, failures: Failures::default() }
    }

    /// What it was made with.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Takes `least` to `count` leases, waiting for them or not.
    ///
    /// # Errors
    /// The server's refusal; where no answer came, what the policy says.
    ///
    /// # Cancel safety
    /// The server takes back what was not granted yet. What was granted and not received ends by its lease time.
    pub async fn acquire(&self, ask: &Ask, waits: bool, count: u32, least: u32) -> Result<Vec<Lease>, Refused> {
        let config = self.config()?;
        let scope = scope(config, ask)?;
        let key = format!("{:016x}{:016x}", self.host.random(), self.host.random());
        let max_wait = if waits { ask.options.max_wait.unwrap_or(MAX_WAIT).min(LONGEST_WAIT) } else { 0 };
        let lease_time = ask.options.lease_time.unwrap_or(config.lease_time);
        let began = self.host.now();
        let answer = self
            .call(config, &Method::POST, LEASES, began.saturating_add(max_wait).saturating_add(GRACE), |elapsed| {
                let max_wait = max_wait.saturating_sub(elapsed);
                ask.body(scope, Some(&Terms { max_wait, lease_time, count, least, key: &key }))
            })
            .await;
        let endless = ask.options.lease_time.is_none();
        match answer {
            (Answer::Yes(Granted { leases, waited }), sent) => {
                // It was granted no earlier than so long after it was sent.
                let granted = sent.saturating_add(waited.0).min(self.host.now());
                let lease = |lease: crate::answer::GrantedLease| Lease {
                    id: lease.id,
                    fence: lease.fence,
                    local: false,
                    ends: Cell::new(granted.saturating_add(lease.remaining.0)),
                    lease_time,
                    endless,
                    until: granted.saturating_add(LONGEST),
                };
                Ok(leases.into_iter().map(lease).collect())
            }
            (Answer::No(refused), _) => Err(refused),
            (Answer::Failed(why), _) => {
                let now = self.host.now();
                let local = self.policies.borrow_mut().as_mut().map_or(Local::Closed, |policies| {
                    policies.take(ask.scopes(scope).collect::<Vec<_>>().into_iter(), now, (least, count))
                });
                self.failures.count(local);
                let (granted, by) = allowed(local, scope, &why)?;
                let lease = |n| Lease {
                    id: format!("local-{by}-{key}-{n}"),
                    fence: 0,
                    local: true,
                    ends: Cell::new(now.saturating_add(lease_time)),
                    lease_time,
                    endless,
                    until: now.saturating_add(LONGEST),
                };
                Ok((0..granted).map(lease).collect())
            }
        }
    }

    /// What an acquire that does not wait would come to.
    ///
    /// # Errors
    /// The refusal that it would get.
    pub async fn check(&self, ask: &Ask) -> Result<Vec<Constraint>, Refused> {
        let config = self.config()?;
        let scope = scope(config, ask)?;
        let answer = self.call(config, &Method::POST, "/weir/v1/check", self.soon(), |_| ask.body(scope, None)).await.0;
        match answer {
            Answer::Yes(checked) => Checked::decision(checked),
            Answer::No(refused) => Err(refused),
            Answer::Failed(why) => {
                let now = self.host.now();
                let local = self
                    .policies
                    .borrow_mut()
                    .as_mut()
                    .map_or(Local::Closed, |policies| policies.decide(ask.scopes(scope), now, (1, 1)));
                self.failures.count(local);
                allowed(local, scope, &why).map(|_| Vec::new())
            }
        }
    }

    /// Moves the end of a lease and answers how long it lasts, in nanoseconds.
    ///
    /// # Errors
    /// [`Reason::Lost`] when it has ended, [`Reason::Unavailable`] when no answer came: then it lasts as long as before.
    pub async fn extend(&self, lease: &Lease, lease_time: u64) -> Result<u64, Refused> {
        let config = self.config()?;
        let began = self.host.now();
        if lease.remaining(began) == 0 {
            return Err(lost());
        }
        if lease.local {
            lease.ends.set(lease.ends.get().max(began.saturating_add(lease_time)));
            return Ok(lease.remaining(began));
        }
        let path = format!("{LEASES}/{}/extend", lease.id);
        let body = format!(r#"{{"lease-time":"{}"}}"#, Span(lease_time)).into_bytes();
        match self.call::<Extended>(config, &Method::POST, &path, self.soon(), |_| body.clone()).await {
            (Answer::Yes(extended), sent) => {
                let ends = sent.saturating_add(extended.remaining.0);
                lease.ends.set(lease.ends.get().max(ends));
                Ok(lease.remaining(self.host.now()))
            }
            (Answer::No(refused), _) => Err(self.gone(lease, refused)),
            (Answer::Failed(why), _) => Err(unanswered(&why)),
        }
    }

    /// Says what the work has really cost.
    ///
    /// # Errors
    /// As [`extend`](Self::extend).
    pub async fn settle(&self, lease: &Lease, cost: u32) -> Result<Settled, Refused> {
        let config = self.config()?;
        if lease.remaining(self.host.now()) == 0 {
            return Err(lost());
        }
        if lease.local {
            return Ok(Settled::default());
        }
        let path = format!("{LEASES}/{}/settle", lease.id);
        let body = format!(r#"{{"cost":{cost}}}"#).into_bytes();
        match self.call(config, &Method::POST, &path, self.soon(), |_| body.clone()).await.0 {
            Answer::Yes(settled) => Ok(settled),
            Answer::No(refused) => Err(self.gone(lease, refused)),
            Answer::Failed(why) => Err(unanswered(&why)),
        }
    }

    /// Gives a lease back. Where no answer comes it ends by its lease time.
    pub async fn release(&self, lease: &Lease, outcome: Outcome) {
        let Ok(config) = self.config() else { return };
        if lease.local {
            return;
        }
        let id = &lease.id;
        let path = match outcome {
            Outcome::Ok => format!("{LEASES}/{id}"),
            Outcome::Failed => format!("{LEASES}/{id}?outcome=failed"),
            Outcome::PushedBack(None) => format!("{LEASES}/{id}?outcome=pushed-back"),
            Outcome::PushedBack(Some(pause)) => {
                format!("{LEASES}/{id}?outcome=pushed-back&retry-after={}", Span(pause).to_string().replace(' ', ""))
            }
        };
        let _ = self.call::<Released>(config, &Method::DELETE, &path, self.soon(), |_| Vec::new()).await;
    }

    /// Sends until there is an answer or no attempt is left, and says when the last one was sent. The body is made of the time since
    /// the first.
    async fn call<T: DeserializeOwned>(
        &self,
        config: &Config,
        method: &Method,
        path: &str,
        until: u64,
        body: impl Fn(u64) -> Vec<u8>,
    ) -> (Answer<T>, u64) {
        let mut attempts = Attempts::until(until);
        let first = self.host.now();
        let mut sent = first;
        loop {
            let told = self.failures.tell();
            let mut exchange = exchange(config, method, path, body(sent - first), attempts.timeout(sent));
            exchange.headers.extend(told.value().map(|value| (failures::HEADER, value)));
            let answer = match self.host.send(exchange).await {
                Ok(reply) => read(reply.status, &reply.body),
                Err(why) => Answer::Failed(why),
            };
            if !matches!(answer, Answer::Failed(_)) {
                told.heard();
                return (answer, sent);
            }
            drop(told);
            let Some(pause) = attempts.pause(self.host.now(), self.host.random()) else {
                return (answer, sent);
            };
            self.host.sleep(pause).await;
            sent = self.host.now();
        }
    }

    fn config(&self) -> Result<&Config, Refused> {
        self.config.as_ref().map_err(|error| Refused::new(Reason::Invalid, error.to_string()))
    }

    /// When a call that waits for nothing has to be over.
    fn soon(&self) -> u64 {
        self.host.now().saturating_add(GRACE)
    }

    fn gone(&self, lease: &Lease, refused: Refused) -> Refused {
        if refused.reason == Reason::Lost {
            lease.lose();
        }
        refused
    }
}

fn exchange(config: &Config, method: &Method, path: &str, body: Vec<u8>, timeout: u64) -> Exchange {
    let mut headers = Vec::new();
    if !body.is_empty() {
        headers.push(("content-type", "application/json".to_owned()));
        headers.push(("content-length", body.len().to_string()));
    }
    if let Some(token) = &config.token {
        headers.push(("authorization", format!("Bearer {token}")));
    }
    let path = format!("{}{path}", config.base);
    let (https, authority) = (config.https, config.authority.clone());
    Exchange { https, authority, method: method.clone(), path, headers, body, timeout }
}

fn scope<'a>(config: &'a Config, ask: &'a Ask) -> Result<&'a str, Refused> {
    ask.scope.as_deref().or(config.scope.as_deref()).ok_or_else(|| {
        Refused::new(Reason::Invalid, "no scope: name one, or set WEIR_SCOPE for the calls that name none")
    })
}

/// How many leases a policy grants, and in which name.
fn allowed(local: Local, scope: &str, why: &str) -> Result<(u32, &'static str), Refused> {
    match local {
        Local::Open(count) => Ok((count, "open")),
        Local::Budget(count) => Ok((count, "budget")),
        Local::Closed => Err(unanswered(why)),
        Local::Spent(retry_after) => Err(Refused {
            retry_after,
            ..Refused::new(
                Reason::Limited,
                format!("the Weir server did not answer: {why}; and the budget of `{scope}` for that is spent"),
            )
        }),
    }
}

fn unanswered(why: &str) -> Refused {
    Refused::new(Reason::Unavailable, format!("the Weir server did not answer: {why}"))
}

fn lost() -> Refused {
    Refused::new(Reason::Lost, "the lease has ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, GRANTED, client, refusal};
    use crate::host::at_once;
    use crate::request::Options;

    fn ask(scope: Option<&str>) -> Ask {
        Ask { scope: scope.map(str::to_owned), limit_key: None, cost: 1, options: Options::default() }
    }

    fn acquire(client: &Client<Fake>, ask: &Ask) -> Result<Vec<Lease>, Refused> {
        at_once(client.acquire(ask, true, 1, 1)).unwrap()
    }

    #[test]
    fn a_grant_ends_when_the_server_says_and_not_later() {
        let client = client(&[]);
        // On the way for 3 s, of which it waited for 1 s.
        client.host().answers(3 * SECOND, Ok((201, GRANTED)));
        let lease = acquire(&client, &ask(Some("s"))).unwrap().remove(0);
        assert_eq!((lease.id(), lease.fence()), ("a", 7));
        assert_eq!(lease.remaining(client.host().now()), 28 * SECOND);
        assert_eq!(lease.extend_in(client.host().now()), Some(14 * SECOND));
    }

    #[test]
    fn a_lease_that_is_forgotten_is_extended_for_an_hour_and_no_longer() {
        let client = client(&[]);
        let lease = acquire(&client, &ask(Some("s"))).unwrap().remove(0);
        let began = client.host().now();
        // As the task does that keeps it.
        let mut extended = 0;
        while let Some(pause) = lease.extend_in(client.host().now()) {
            assert!(pause <= 15 * SECOND && extended < 1_000, "{pause}, {extended} times");
            at_once(client.host().sleep(pause)).unwrap();
            client.host().answers(0, Ok((200, r#"{"remaining":"30s"}"#)));
            at_once(client.extend(&lease, lease.lease_time())).unwrap().unwrap();
            extended += 1;
        }
        let now = client.host().now();
        assert_eq!((extended, (now - began) / SECOND, lease.remaining(now)), (240, 3600, 30 * SECOND));
    }

    #[test]
    fn a_retry_has_the_same_key_and_what_is_left_of_the_wait() {
        let client = client(&[("WEIR_TOKEN", "t0ken")]);
        client.host().answers(2 * SECOND, Err("cut"));
        client.host().answers(0, Ok((502, "")));
        client.host().answers(0, Ok((201, GRANTED)));
        acquire(&client, &ask(Some("s"))).unwrap();
        let bodies = client.host().bodies();
        let keys: Vec<_> = bodies.iter().map(|body| body["idempotency-key"].as_str().unwrap().to_owned()).collect();
        assert_eq!((keys.len(), keys[0].len()), (3, 32));
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        assert_eq!(bodies[0]["max-wait"], "1m");
        assert!(bodies[1]["max-wait"].as_str().unwrap().starts_with("57s"), "{}", bodies[1]);
        assert!(client.host().headers(2).contains(&("authorization", "Bearer t0ken".to_owned())));
        acquire(&client, &ask(Some("s"))).unwrap();
        assert_ne!(client.host().bodies()[3]["idempotency-key"], keys[0].as_str(), "another acquire, another key");
    }

    #[test]
    fn a_refusal_is_neither_retried_nor_left_to_a_policy() {
        let client = client(&[("WEIR_ON_FAILURE", "open")]);
        client.host().answers(0, Ok((503, refusal("unavailable"))));
        assert_eq!(acquire(&client, &ask(Some("s"))).unwrap_err().reason, Reason::Unavailable);
        assert_eq!(client.host().bodies().len(), 1);
    }

    #[test]
    fn an_outage_ends_in_time_whatever_the_policy() {
        for policy in ["closed", "open", "budget:9/1m"] {
            let client = client(&[("WEIR_ON_FAILURE", policy)]);
            client.host().hangs();
            let mut ask = ask(Some("s"));
            ask.options.set_max_wait(2 * SECOND);
            let began = client.host().now();
            assert_eq!(acquire(&client, &ask).is_ok(), policy != "closed");
            assert!(client.host().now() - began <= 2 * SECOND + GRACE);
        }
    }

    #[test]
    fn each_policy_is_visible() {
        let client = client(&[("WEIR_ON_FAILURE", "closed, o=open, b=budget:1/1m")]);
        client.host().is_down();
        let closed = acquire(&client, &ask(Some("s"))).unwrap_err();
        assert_eq!((closed.reason, closed.retry_after), (Reason::Unavailable, None));
        assert_eq!(closed.message, "the Weir server did not answer: refused");
        let open = acquire(&client, &ask(Some("o"))).unwrap().remove(0);
        assert!(open.id().starts_with("local-open-"), "{}", open.id());
        assert_eq!((open.fence(), open.extend_in(client.host().now())), (0, None));
        assert!(at_once(client.check(&ask(Some("b")))).unwrap().is_ok());
        assert!(acquire(&client, &ask(Some("b"))).unwrap()[0].id().starts_with("local-budget-"));
        let spent = acquire(&client, &ask(Some("b"))).unwrap_err();
        assert_eq!(spent.reason, Reason::Limited);
        assert!(spent.retry_after.is_some_and(|retry| retry > 50 * SECOND));
        // The server is back, and learns of the five calls once: what got no answer told nothing.
        client.host().is_up();
        client.host().answers(0, Ok((502, "")));
        let told = || {
            let last = client.host().headers(client.host().bodies().len() - 1);
            last.into_iter().find(|(name, _)| *name == failures::HEADER).map(|(_, value)| value)
        };
        acquire(&client, &ask(Some("s"))).unwrap();
        assert_eq!(told().as_deref(), Some("closed=1, open=1, budget=3"));
        acquire(&client, &ask(Some("s"))).unwrap();
        assert_eq!(told(), None, "it has heard of them");
        // A refusal is an answer too, and a lease that could not be given back is decided by no policy.
        let lease = acquire(&client, &ask(Some("s"))).unwrap().remove(0);
        client.host().is_down();
        at_once(client.release(&lease, Outcome::Ok)).unwrap();
        acquire(&client, &ask(Some("o"))).unwrap();
        client.host().is_up();
        client.host().answers(0, Ok((503, refusal("unavailable"))));
        acquire(&client, &ask(Some("s"))).unwrap_err();
        assert_eq!(told().as_deref(), Some("open=1"));
        acquire(&client, &ask(Some("s"))).unwrap();
        assert_eq!(told(), None);
    }

    #[test]
    fn a_local_lease_is_extended_settled_and_released_without_the_server() {
        let client = client(&[("WEIR_ON_FAILURE", "open")]);
        client.host().is_down();
        let lease = acquire(&client, &ask(Some("s"))).unwrap().remove(0);
        let sent = client.host().bodies().len();
        at_once(async {
            assert_eq!(client.extend(&lease, 90 * SECOND).await.unwrap(), 90 * SECOND);
            assert_eq!(client.settle(&lease, 9).await.unwrap(), Settled::default());
            client.release(&lease, Outcome::Failed).await;
        })
        .unwrap();
        assert_eq!(client.host().bodies().len(), sent);
    }

    #[test]
    fn a_lost_lease_is_lost_for_good() {
        let client = client(&[]);
        client.host().answers(0, Ok((201, GRANTED)));
        let lease = acquire(&client, &ask(Some("s"))).unwrap().remove(0);
        client.host().answers(0, Ok((410, refusal("lost"))));
        at_once(async {
            assert_eq!(client.extend(&lease, SECOND).await.unwrap_err().reason, Reason::Lost);
            assert_eq!(lease.remaining(client.host().now()), 0);
            assert_eq!(client.settle(&lease, 1).await.unwrap_err().reason, Reason::Lost, "without asking again");
        })
        .unwrap();
        assert_eq!(client.host().bodies().len(), 2);
    }

    #[test]
    fn what_is_not_configured_is_said() {
        let none = Client::new(Fake::default(), |_| None);
        assert!(acquire(&none, &ask(Some("s"))).unwrap_err().message.starts_with("WEIR_URL is not set"));
        let refused = acquire(&client(&[]), &ask(None)).unwrap_err();
        assert_eq!(refused.reason, Reason::Invalid);
        assert!(refused.message.contains("WEIR_SCOPE"));
        let scoped = client(&[("WEIR_SCOPE", "mine")]);
        acquire(&scoped, &ask(None)).unwrap();
        assert_eq!(scoped.host().bodies()[0]["scope"], "mine");
    }
}
