//! A host for tests: a clock that jumps, and answers in order.

use crate::client::Client;
use crate::host::{Exchange, Host, Reply};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

pub(crate) const GRANTED: &str = r#"{"leases":[{"id":"a","fence":"7","remaining":"30s"}],"waited":"1s"}"#;

pub(crate) fn refusal(reason: &str) -> &'static str {
    match reason {
        "lost" => r#"{"reason":"lost"}"#,
        _ => r#"{"reason":"unavailable"}"#,
    }
}

pub(crate) fn client(variables: &[(&str, &str)]) -> Client<Fake> {
    Client::new(Fake::default(), |name| {
        let url = (name == "WEIR_URL").then(|| "http://weir".to_owned());
        variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned()).or(url)
    })
}

type Scripted = (u64, Result<(u16, &'static str), &'static str>);

/// Grants, until it is told otherwise.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    now: Cell<u64>,
    random: Cell<u64>,
    answers: RefCell<VecDeque<Scripted>>,
    down: Cell<bool>,
    hangs: Cell<bool>,
    seen: RefCell<Vec<Exchange>>,
}

impl Fake {
    /// The next answer, after so many nanoseconds.
    pub(crate) fn answers(&self, after: u64, answer: Result<(u16, &'static str), &'static str>) {
        self.answers.borrow_mut().push_back((after, answer));
    }

    pub(crate) fn is_down(&self) {
        self.down.set(true);
    }

    pub(crate) fn is_up(&self) {
        self.down.set(false);
    }

    /// Nothing is ever answered: each request takes all the time it is given.
    pub(crate) fn hangs(&self) {
        self.hangs.set(true);
    }

    pub(crate) fn bodies(&self) -> Vec<serde_json::Value> {
        self.seen.borrow().iter().map(|exchange| serde_json::from_slice(&exchange.body).unwrap_or_default()).collect()
    }

    pub(crate) fn headers(&self, nth: usize) -> Vec<(&'static str, String)> {
        self.seen.borrow()[nth].headers.clone()
    }
}

impl Host for Fake {
    fn now(&self) -> u64 {
        self.now.get()
    }

    fn random(&self) -> u64 {
        self.random
            .set(self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        self.random.get()
    }

    async fn sleep(&self, nanoseconds: u64) {
        self.now.set(self.now.get() + nanoseconds);
    }

    async fn send(&self, exchange: Exchange) -> Result<Reply, String> {
        let timeout = exchange.timeout;
        self.seen.borrow_mut().push(exchange);
        if self.hangs.get() {
            self.sleep(timeout).await;
            return Err("no answer in time".into());
        }
        if self.down.get() {
            return Err("refused".into());
        }
        let (after, answer) = self.answers.borrow_mut().pop_front().unwrap_or((0, Ok((201, GRANTED))));
        self.sleep(after).await;
        answer.map(|(status, body)| Reply { status, body: body.as_bytes().to_vec() }).map_err(str::to_owned)
    }
}
