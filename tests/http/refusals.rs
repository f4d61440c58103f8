//! Refusals: 429 and 503, their headers, and the problem that names what is in the way.

use weir_engine::{Change, Precondition};
use weir_http::api::RuleBody;

use crate::Served;
use crate::client::get;

const PATH: &str = "/weir/scope/s/call/app/plain";

impl Served {
    /// Sets a rule, as JSON.
    fn rule(&self, json: &str) {
        let rule: RuleBody = serde_json::from_str(json).expect("a rule");
        let change = Change::Put {
            pattern: rule.pattern.0.clone(),
            spec: rule.spec().expect("limits"),
            when: Precondition::None,
        };
        self.host.flow.apply(&[change]).expect("a good rule");
    }
}

#[tokio::test]
async fn a_rate_in_the_way_is_429() {
    let served = Served::new(&[]);
    served.rule(r#"{"pattern":"s","rates":["1/1h"]}"#);
    assert_eq!(get(served.ingress, PATH).once().await.status, 200);
    let answer = get(served.ingress, PATH).header("weir-max-wait", "0s").once().await;
    assert_eq!(answer.status, 429);
    let seconds: u64 = answer.header("retry-after").parse().expect("whole seconds");
    assert!((1..=3600).contains(&seconds), "{seconds}");
    assert_eq!(answer.header("ratelimit-policy"), "\"s 1/1h\";q=1;w=3600");
    assert!(answer.header("ratelimit").starts_with("\"s 1/1h\";r=0;t="), "{}", answer.header("ratelimit"));
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["status"], 429);
    assert_eq!(problem["violated-policies"][0], "s 1/1h");
    let constraint = &problem["constraints"][0];
    assert_eq!(
        (&constraint["kind"], &constraint["counter"], &constraint["pattern"]),
        (&"rate".into(), &"s".into(), &"s".into())
    );
    assert_eq!(
        (&constraint["limit"], &constraint["used"], &constraint["estimated"]),
        (&1.into(), &1.into(), &false.into())
    );
    served.host.settles().await;
}

#[tokio::test]
async fn concurrency_in_the_way_is_503() {
    let served = Served::new(&[("s", "1")]);
    let lease = served.host.take("s");
    let answer = get(served.ingress, PATH).header("weir-max-wait", "0s").once().await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").parse::<u64>().expect("whole seconds") >= 1);
    assert_eq!(answer.header("ratelimit-policy"), "\"s concurrency 1\";q=1;qu=\"concurrent-requests\"");
    assert_eq!(answer.json()["constraints"][0]["kind"], "concurrency");
    drop(lease);
    served.host.settles().await;
}

#[tokio::test]
async fn a_closed_counter_names_no_time() {
    let served = Served::new(&[("s", "0")]);
    let answer = get(served.ingress, PATH).header("weir-max-wait", "0s").once().await;
    assert_eq!((answer.status.as_u16(), answer.headers.get("retry-after")), (503, None));
    let problem = answer.json();
    assert_eq!((&problem["constraints"][0]["kind"], problem.get("retry-after")), (&"closed".into(), None));
    served.host.settles().await;
}

#[tokio::test]
async fn a_wait_that_ends_first_says_so() {
    let served = Served::new(&[("s", "1")]);
    let lease = served.host.take("s");
    let answer = get(served.ingress, PATH).header("weir-max-wait", "20ms").once().await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["reason"], "timed-out");
    assert_eq!(served.host.usage("s"), (1, 0));
    drop(lease);
    served.host.settles().await;
}

#[tokio::test]
async fn a_closed_scope_is_503() {
    let served = Served::new(&[("s", "0")]);
    let answer = get(served.ingress, PATH).header("weir-max-wait", "0s").once().await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["constraints"][0]["kind"], "closed");
}

#[tokio::test]
async fn a_full_waitlist_is_503() {
    let served = Served::new(&[]);
    served.rule(r#"{"pattern":"s","concurrency":1,"max-waiters":1}"#);
    let lease = served.host.take("s");
    let waiting = tokio::spawn(get(served.ingress, PATH).once());
    served.host.shows("s", 1, 1).await;
    let answer = get(served.ingress, PATH).once().await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["reason"], "overloaded");
    drop(lease);
    assert_eq!(waiting.await.unwrap().status, 200);
    served.host.settles().await;
}
