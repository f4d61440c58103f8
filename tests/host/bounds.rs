//! Every number and every text that a guest can send, at and past its bounds: a typed answer, and nothing is changed.
//!
//! | Call | Numbers | Texts |
//! |---|---|---|
//! | `acquire`, `try-acquire`, `check`, `acquire-batch` | `cost` | `scope`, `limit-key` (two parts) |
//! | `acquire-batch` | `count`, `least`, and `cost` times `count` | |
//! | `extend` | `lease-time` | |
//! | `settle` | `cost` | |
//! | `release` | the pause of `pushed-back` | |
//! | `set-max-wait`, `set-lease-time`, `set-priority` | each | |
//! | `set-fairness` | `weight` | `key` |
//! | `add-target` | how many | `scope`, `limit-key` (two parts) |
//! | `add-flow-control` | `concurrency`; of each rate `limit`, `period`, `burst`; how many rates; how many keys | `key` |
//!
//! How many targets and keys there may be is in [`crate::options`], and what a guest writes for its client (`Retry-After`) in
//! `host/wasm/src/outcome.rs`. Numbers are nanoseconds where they are times. Text that is no UTF-8 cannot be sent: the guest that
//! tries traps. Both flavours of the interface go through each table.

use std::fmt::Write as _;
use weir_engine::{CounterQuery, Lease};
use weir_tests::texts::{control_bytes, names, not_names};
use weir_tests::{Host, get, guests};
use weir_wasm::Runner;

/// A number: how it is asked for, with `{}` in its place; what is granted; what is not, and what is said of that.
struct Number {
    query: &'static str,
    granted: &'static [u64],
    refused: &'static [u64],
    says: &'static str,
}

const MILLISECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600_000 * MILLISECOND;
const YEAR: u64 = 366 * 24 * HOUR;
const MAX_32: u64 = u32::MAX as u64;

/// What may be said in every call that asks for something.
const NUMBERS: &[Number] = &[
    Number { query: "cost={}", granted: &[1, MAX_32], refused: &[0], says: "the cost is 0; it must be at least 1" },
    Number { query: "max-wait={}", granted: &[0, 1, HOUR, HOUR + 1, u64::MAX], refused: &[], says: "" },
    Number {
        query: "lease-time={}",
        granted: &[100 * MILLISECOND, HOUR],
        refused: &[0, 1, 100 * MILLISECOND - 1, HOUR + 1, u64::MAX],
        says: "is out of bounds: 100ms to 1h",
    },
    Number { query: "priority={}", granted: &[0, 1, 255], refused: &[], says: "" },
    Number {
        query: "fairness=f&weight={}",
        granted: &[1, 1000],
        refused: &[0, 1001, 65535],
        says: "a weight of {} is out of bounds: 1 to 1000",
    },
    Number { query: "inline=c&concurrency={}", granted: &[1, MAX_32], refused: &[], says: "" },
    Number { query: "inline=u&concurrency-cost={}", granted: &[1, MAX_32], refused: &[], says: "" },
    Number {
        query: "inline=r&rate={}/60000000000",
        granted: &[MAX_32],
        refused: &[0],
        says: "the limit of a rate is 0; it must be at least 1",
    },
    Number {
        query: "inline=p&rate=99/{}",
        granted: &[MILLISECOND, YEAR],
        refused: &[0, 1, MILLISECOND - 1, YEAR + 1, u64::MAX],
        says: "is out of bounds: 1ms to 366days",
    },
    Number {
        query: "inline=b&rate=1000/1000000000/{}",
        granted: &[MAX_32],
        refused: &[0],
        says: "the burst of a rate is 0",
    },
    // A burst that takes a hundred years to refill, and a unit more.
    Number {
        query: "inline=l&rate=1/1000000000/{}",
        granted: &[3_162_240_000],
        refused: &[3_162_240_001, MAX_32],
        says: "a burst of {} at this rate takes over 100 years",
    },
    // One a nanosecond, 0.1 % more, and a unit more than that.
    Number {
        query: "inline=e&rate={}/1000000/9",
        granted: &[1_000_000, 1_001_000],
        refused: &[1_001_001, MAX_32],
        says: "{} in 1ms cannot be spread evenly",
    },
];

/// What may be said of a batch.
const OF_BATCHES: &[Number] = &[
    Number {
        query: "count={}",
        granted: &[1, 1000],
        refused: &[0, 1001, MAX_32],
        says: "a batch of {}, at least 1: from 1 to 1000",
    },
    Number {
        query: "count=1000&least={}",
        granted: &[1, 1000],
        refused: &[0, 1001, MAX_32],
        says: "a batch of 1000, at least {}: from 1 to 1000, and the minimum not above the count",
    },
    Number {
        query: "count=2&cost={}",
        granted: &[1, MAX_32 / 2],
        refused: &[MAX_32 / 2 + 1, MAX_32],
        says: "2 times a cost of {} is more than 4294967295",
    },
];

/// A text that is to be a name: how it is asked for, and what it is called.
const TEXTS: &[(&str, &str)] = &[
    ("scope={}", "the scope"),
    ("key={}", "the first limit-key part"),
    ("key=a/{}", "the second limit-key part"),
    ("target={}", "the scope"),
    ("target=t/{}", "the first limit-key part"),
    ("target=t/a/{}", "the second limit-key part"),
    ("fairness={}", "the fairness key"),
    ("inline={}", "the inline key"),
];

/// What is wrong in the number of its parts.
const PARTS: &[(&str, &str)] = &[
    ("scope=a/b", "the scope has the byte `/` (0x2f) at position 1"),
    ("scope=*", "the scope has the byte `*` (0x2a) at position 0"),
    ("key=a/b/c", "3 parts: a limit key has at most 2"),
    ("key=*", "the first limit-key part has the byte `*`"),
    ("key=/", "the first limit-key part is empty"),
    ("target=t/a/b/c", "3 parts: a limit key has at most 2"),
    ("fairness=a/b", "the fairness key has the byte `/`"),
    ("inline=a/b", "the inline key has the byte `/`"),
    ("inline=a%23b", "the inline key has the byte `#`"),
    (
        "inline=k&rate=1/1000000&rate=1/2000000&rate=1/3000000&rate=1/4000000&rate=1/5000000",
        "5 rates: a rule has at most 4",
    ),
    ("inline=k&rate=1/1000000&rate=2/1000000", "two rates with the same mode, period and counting"),
];

const CALLS: [&str; 4] = ["acquire", "try-acquire", "acquire-batch", "check"];

/// A host whose state is not that of a new one: something is held, and something has started.
struct Used {
    host: Host,
    app: Runner,
    held: Lease,
}

impl Used {
    fn new(guest: &str) -> Self {
        let host = Host::new(&[]);
        host.rule("used", Some("2"), &["9/1h"]);
        let app = host.run(guest, |config| config.allow_scopes = vec!["*".into()]);
        let held = host.take("used");
        Self { host, app, held }
    }

    async fn ask(&self, call: &str, query: &str) -> String {
        get(&self.app, &format!("/exact?call={call}&{query}")).await.unwrap()
    }

    async fn is_granted(&self, call: &str, query: &str) {
        let answer = self.ask(call, query).await;
        assert!(answer.starts_with("granted"), "{call} {query}: {answer}");
    }

    async fn is_invalid(&self, call: &str, query: &str, says: &str) {
        let before = self.host.state();
        let answer = self.ask(call, query).await;
        assert!(answer.starts_with("Reason::Invalid|invalid: ") && answer.contains(says), "{call} {query}: {answer}");
        assert_eq!(self.host.state(), before, "{call} {query}");
    }
}

const FLAVOURS: [&str; 2] = [guests::FLOW, guests::SYNC];

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        write!(all, "%{byte:02x}").expect("a string takes all");
        all
    })
}

fn filled(template: &str, value: &impl ToString) -> String {
    template.replace("{}", &value.to_string())
}

#[tokio::test]
async fn numbers_are_granted_up_to_their_bounds_and_refused_past_them() {
    for guest in FLAVOURS {
        let used = Used::new(guest);
        let of_all = NUMBERS.iter().flat_map(|number| CALLS.map(|call| (call, number)));
        for (call, number) in of_all.chain(OF_BATCHES.iter().map(|number| ("acquire-batch", number))) {
            for value in number.granted {
                used.is_granted(call, &filled(number.query, value)).await;
            }
            for value in number.refused {
                used.is_invalid(call, &filled(number.query, value), &filled(number.says, value)).await;
            }
        }
        drop(used.held);
        used.host.settles().await;
    }
}

#[tokio::test]
async fn names_are_granted_and_what_is_none_is_refused_with_its_byte() {
    for guest in FLAVOURS {
        let used = Used::new(guest);
        for (template, what) in TEXTS {
            for name in names() {
                used.is_granted("acquire", &filled(template, &encoded(&name))).await;
            }
            for (text, says) in not_names().into_iter().chain(control_bytes()) {
                let query = filled(template, &encoded(&text));
                used.is_invalid("try-acquire", &query, &format!("{what} {says}")).await;
            }
        }
        for call in CALLS {
            for (query, says) in PARTS {
                used.is_invalid(call, query, says).await;
            }
        }
        drop(used.held);
        used.host.settles().await;
    }
}

#[tokio::test]
async fn a_concurrency_of_0_closes() {
    for guest in FLAVOURS {
        let used = Used::new(guest);
        for query in ["inline=k&concurrency=0", "inline=k&concurrency-cost=0"] {
            let answer = used.ask("try-acquire", query).await;
            assert!(answer.starts_with("Reason::Limited|") && answer.contains("closed"), "{query}: {answer}");
        }
        let counters =
            used.host.flow.counters(&CounterQuery { prefix: Some("app".to_owned()), ..CounterQuery::default() });
        assert!(counters.iter().all(|counter| (counter.calls, counter.granted) == (0, 0)), "{counters:?}");
    }
}

#[tokio::test]
async fn a_lease_is_extended_within_bounds_and_settled_to_any_cost() {
    for guest in FLAVOURS {
        let used = Used::new(guest);
        for nanoseconds in [100 * MILLISECOND, HOUR] {
            let answer = used.ask("extend", &format!("lease-time=100000000&to={nanoseconds}")).await;
            assert!(answer.starts_with("lasts Some("), "{answer}");
        }
        for nanoseconds in [0, 1, 100 * MILLISECOND - 1, HOUR + 1, u64::MAX] {
            let answer = used.ask("extend", &format!("lease-time=3600000000000&to={nanoseconds}")).await;
            assert!(
                answer.starts_with("Reason::Invalid|invalid: a lease time of ")
                    && answer.ends_with("out of bounds: 100ms to 1h"),
                "{answer}"
            );
        }
        for (cost, to, settled) in [
            (1, 0, "-1 +0"),
            (1, 1, "-0 +0"),
            (1, MAX_32, "-0 +4294967294"),
            (MAX_32, 0, "-4294967295 +0"),
            (MAX_32, MAX_32, "-0 +0"),
        ] {
            assert_eq!(used.ask("settle", &format!("cost={cost}&to={to}")).await, settled, "{cost} to {to}");
        }
        drop(used.held);
        used.host.settles().await;
    }
}

#[tokio::test]
async fn a_pause_of_any_length_closes_no_longer_than_the_rule_allows() {
    for guest in FLAVOURS {
        let used = Used::new(guest);
        let minute = 60_000 * MILLISECOND;
        for (pause, least) in [(0, 0), (1, 0), (minute, 30), (minute + 1, 30), (u64::MAX, 30)] {
            let scope = format!("p{pause}");
            assert_eq!(used.ask("release", &format!("scope={scope}&pause={pause}")).await, "released");
            let closed = used.host.counter(&scope).and_then(|counter| counter.pushed_back_for).unwrap_or_default();
            assert!((least..=60).contains(&closed.as_secs()), "{pause}: {closed:?}");
        }
    }
}
