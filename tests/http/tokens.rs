//! Tokens: who may do what from elsewhere, and whose a lease is.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_engine::Clock;
use weir_http::tokens::{Right, Timestamp, Token, TokenEntry, TokenFile, TokenFileError, TokenId};
use weir_http::{ServeError, Server, ServerConfig};
use weir_tests::{HANG, Host};

use crate::client::{Answer, Asked, get, http1, http2, raw};
use crate::{Served, free_ports};

const LEASES: &str = "/weir/v1/leases";
const ALL: &[Right] = &Right::ALL;
/// A lease that nobody has: well formed, and made up.
const FORGED: &str = "0000ffffffffffffffffffffffffffffffff";

/// A file of tokens in a folder of its own.
struct File {
    _folder: TempDir,
    path: PathBuf,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.json");
        Self { _folder: folder, path }
    }

    /// Makes a token, and answers its text.
    fn make(&self, name: &str, rights: &[Right], scopes: &[&str]) -> String {
        self.make_as(name, rights, scopes, |_, _| {})
    }

    /// The same, changed before it is written.
    fn make_as(
        &self,
        name: &str,
        rights: &[Right],
        scopes: &[&str],
        change: impl FnOnce(&mut TokenEntry, Timestamp),
    ) -> String {
        let token = Token::new(TokenId::random().expect("random")).expect("random");
        let now = Timestamp::of_unix_millis(Clock::system().unix_millis());
        let mut entry = TokenEntry {
            name: name.parse().expect("a name"),
            id: token.id(),
            sha256: token.digest(),
            rights: rights.iter().copied().collect(),
            scopes: scopes.iter().map(|scope| scope.parse().expect("a scope")).collect(),
            created: now,
            expires: None,
            previous: None,
        };
        change(&mut entry, now);
        self.change(|file| file.tokens.push(entry));
        token.text()
    }

    fn change(&self, change: impl FnOnce(&mut TokenFile)) {
        let done = TokenFile::change(&self.path, |file| {
            change(file);
            Ok::<_, TokenFileError>(())
        });
        done.expect("a good file");
    }

    /// Serves with these tokens.
    fn serve(&self, rules: &[(&str, &str)]) -> Served {
        Served::with(rules, None, &ServerConfig { tokens: Some(self.path.clone()), ..free_ports() })
    }
}

/// As a proxy would pass it on.
fn elsewhere(asked: Asked) -> Asked {
    asked.header("x-forwarded-for", "192.0.2.1")
}

fn with(asked: Asked, token: &str) -> Asked {
    asked.header("authorization", &format!("Bearer {token}"))
}

fn send(address: SocketAddr, method: Method, path: &str, body: &Value) -> Asked {
    get(address, path).method(method).header("content-type", "application/json").body(body.to_string())
}

/// Every sort of request, and the right that it takes.
fn requests(served: &Served) -> Vec<(Right, Asked)> {
    let (ingress, admin) = (served.ingress, served.admin);
    let scope = json!({"scope": "s", "max-wait": "0s"});
    let lease = |rest: &str| format!("{LEASES}/{FORGED}{rest}");
    vec![
        (Right::Lease, send(ingress, Method::POST, LEASES, &scope)),
        (Right::Lease, send(ingress, Method::POST, "/weir/v1/check", &json!({"scope": "s"}))),
        (Right::Lease, send(ingress, Method::POST, &lease("/extend"), &json!({"lease-time": "1m"}))),
        (Right::Lease, send(ingress, Method::POST, &lease("/settle"), &json!({"cost": 1}))),
        (Right::Lease, get(ingress, &lease("")).method(Method::DELETE)),
        (Right::Read, get(admin, "/v1/rules")),
        (Right::Read, get(admin, "/v1/rules?after=0&wait=1ms")),
        (Right::Read, get(admin, "/v1/rules/s")),
        (Right::Read, get(admin, "/v1/counters")),
        (Right::Read, get(admin, "/v1/counters/s")),
        (Right::Read, get(admin, "/v1/explain?scope=s")),
        (Right::Read, send(admin, Method::POST, "/v1/explain", &scope)),
        (Right::Read, get(admin, "/v1/components")),
        (Right::Read, get(admin, "/metrics")),
        (Right::Read, get(admin, "/metrics").method(Method::HEAD)),
        (Right::Rules, send(admin, Method::PUT, "/v1/rules", &json!({"changes": [{"put": {"pattern": "s"}}]}))),
        (Right::Rules, send(admin, Method::PUT, "/v1/rules?dry-run=true", &json!({"changes": []}))),
        (Right::Rules, get(admin, "/v1/rules/t").method(Method::DELETE)),
        (Right::Operate, send(admin, Method::POST, "/v1/counters/s", &json!({"verb": "pause"}))),
        (Right::Operate, send(admin, Method::POST, "/v1/counters/s", &json!({"verb": "resume"}))),
    ]
}

fn is_refused(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 401 | 403)
}

#[tokio::test]
async fn each_right_opens_its_own_requests_and_no_others() {
    let file = File::new();
    let tokens: Vec<(Right, String)> =
        ALL.iter().map(|right| (*right, file.make(right.as_str(), &[*right], &["*"]))).collect();
    let served = file.serve(&[("s", "9"), ("t", "9")]);
    let held = served.host.take("s");
    for client in [http1(), http2()] {
        let before = (served.host.flow.book().version(), served.host.usage("s"));
        for (needed, asked) in requests(&served) {
            let bare = elsewhere(asked.clone()).send(&client).await;
            let head = (bare.status.as_u16(), bare.header("www-authenticate"), bare.header("content-type"));
            assert_eq!(head, (401, "Bearer", "application/problem+json"), "{asked:?}");
            for (right, token) in tokens.iter().filter(|(right, _)| *right != needed) {
                let answer = with(asked.clone(), token).send(&client).await;
                assert_eq!(answer.status, 403, "{right} must not: {asked:?}");
                if !answer.body.is_empty() {
                    let problem = answer.json();
                    assert_eq!((&problem["reason"], &problem["status"]), (&json!("denied"), &json!(403)));
                    let detail = problem["detail"].as_str().expect("text");
                    assert!(detail.contains(&format!("the right `{needed}`, but `{right}`")), "{detail}");
                }
            }
        }
        assert_eq!((served.host.flow.book().version(), served.host.usage("s")), before, "nothing has happened");
        for (needed, asked) in requests(&served) {
            let (_, token) = tokens.iter().find(|(right, _)| *right == needed).expect("each right");
            let answer = elsewhere(with(asked.clone(), token)).send(&client).await;
            assert!(!is_refused(&answer), "{asked:?}: {answer:?}");
            let answer = asked.clone().send(&client).await;
            assert!(!is_refused(&answer), "this machine needs none: {asked:?}: {answer:?}");
        }
        for open in [get(served.ingress, "/weir/openapi.json"), get(served.admin, "/healthz")] {
            assert_eq!(elsewhere(open).send(&client).await.status, 200);
        }
        // Calls of components are everybody's.
        let call = elsewhere(get(served.ingress, "/weir/scope/s/call/app/ok")).send(&client).await;
        assert!(!is_refused(&call), "{call:?}");
        served.host.limit("t", "9");
    }
    drop(held);
}

#[tokio::test]
async fn a_token_is_for_its_scopes() {
    let file = File::new();
    let token = file.make("tenant", ALL, &["a", "c"]);
    let none = file.make("none", ALL, &[]);
    let served = file.serve(&[("a", "9"), ("ab/*", "9"), ("b", "9"), ("*", "9")]);
    let held = ["a", "a/x", "ab", "b"].map(|scope| served.host.take(scope));
    let version = served.host.flow.book().version();
    let refused = async |asked: Asked, scope: &str| {
        let answer = with(asked.clone(), &token).once().await;
        let problem = answer.json();
        assert_eq!((answer.status.as_u16(), &problem["reason"]), (403, &json!("denied")), "{asked:?}");
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.contains(scope) && detail.contains("`tenant`"), "{detail}");
    };
    for path in [LEASES, "/weir/v1/check"] {
        for body in [
            json!({"scope": "b"}),
            json!({"scope": "ab"}),
            json!({"scope": "a", "targets": [{"scope": "c"}, {"scope": "b", "limit-key": "x"}]}),
            json!({"scope": "b", "flow-controls": [{"key": "k", "concurrency": 1}]}),
        ] {
            let scope = if body["scope"] == "ab" { "the scope `ab`" } else { "the scope `b`" };
            refused(send(served.ingress, Method::POST, path, &body), scope).await;
        }
    }
    let all = "all scopes";
    for (method, path, body, scope) in [
        (Method::GET, "/v1/explain?scope=b", json!(null), "`b`"),
        (Method::POST, "/v1/explain", json!({"scope": "a", "targets": [{"scope": "b"}]}), "`b`"),
        (Method::GET, "/v1/rules/b", json!(null), "`b`"),
        (Method::GET, "/v1/rules/*", json!(null), all),
        (Method::GET, "/v1/counters/ab", json!(null), "`ab`"),
        (Method::GET, "/v1/counters/b%23k", json!(null), "`b`"),
        (Method::DELETE, "/v1/rules/b", json!(null), "`b`"),
        (Method::DELETE, "/v1/rules/*/x", json!(null), all),
        (Method::PUT, "/v1/rules", json!({"changes": [{"put": {"pattern": "*"}}]}), all),
        (Method::PUT, "/v1/rules", json!({"changes": [{"patch": {"pattern": "*/x"}}]}), all),
        (Method::PUT, "/v1/rules", json!({"changes": [{"put": {"pattern": "a/*"}}, {"delete": "b"}]}), "`b`"),
        (Method::PUT, "/v1/rules?dry-run=true", json!({"changes": [{"put": {"pattern": "b"}}]}), "`b`"),
        (Method::POST, "/v1/counters/b", json!({"verb": "pause"}), "`b`"),
        (Method::POST, "/v1/counters/*", json!({"verb": "pause"}), all),
        (Method::POST, "/v1/counters/b%23k", json!({"verb": "drain"}), "`b`"),
    ] {
        refused(send(served.admin, method, path, &body), scope).await;
    }
    assert_eq!(served.host.flow.book().version(), version);
    assert_eq!(["a", "b"].map(|scope| served.host.usage(scope)), [(2, 0), (1, 0)]);

    let shown = async |path: &str, list: &str, name: &str, token: &str| -> Vec<String> {
        let answer = with(get(served.admin, path), token).once().await.json();
        let list = answer[list].as_array().expect("a list").clone();
        list.iter().map(|one| one[name].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(shown("/v1/rules", "rules", "pattern", &token).await, ["a"]);
    assert_eq!(shown("/v1/counters", "counters", "counter", &token).await, ["a", "a/x"]);
    assert_eq!(shown("/v1/counters?limit=1", "counters", "counter", &token).await, ["a"]);
    assert_eq!(shown("/v1/counters?prefix=ab", "counters", "counter", &token).await, [""; 0]);
    assert_eq!(shown("/v1/counters", "counters", "counter", &none).await, [""; 0]);
    for (method, address, path, body, status) in [
        (Method::POST, served.ingress, LEASES, json!({"scope": "a", "targets": [{"scope": "c"}]}), 201),
        (Method::POST, served.ingress, "/weir/v1/check", json!({"scope": "a", "limit-key": "x/y"}), 200),
        (Method::GET, served.admin, "/v1/explain?scope=a&limit-key=x", json!(null), 200),
        (Method::POST, served.admin, "/v1/explain", json!({"scope": "a", "targets": [{"scope": "c"}]}), 200),
        (Method::PUT, served.admin, "/v1/rules", json!({"changes": [{"put": {"pattern": "a/*"}}]}), 200),
        (Method::DELETE, served.admin, "/v1/rules/a/*", json!(null), 200),
        (Method::POST, served.admin, "/v1/counters/a/*", json!({"verb": "pause"}), 404),
        (Method::POST, served.admin, "/v1/counters/a/x", json!({"verb": "pause"}), 200),
    ] {
        let answer = with(send(address, method, path, &body), &token).once().await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    drop(held);
}

/// Whatever `Authorization` says that is no good token: nobody is taken for somebody else, or for nobody.
#[tokio::test]
async fn what_is_no_token_is_answered_401_wherever_it_comes_from() {
    let file = File::new();
    let good = file.make("good", ALL, &["*"]);
    let expired = file.make_as("old", ALL, &["*"], |entry, now| entry.expires = Some(now));
    let revoked = file.make("gone", ALL, &["*"]);
    file.change(|file| file.tokens.retain(|token| token.name.to_string() != "gone"));
    let served = file.serve(&[]);
    let client = http1();
    let unknown = Token::new(TokenId::random().expect("random")).expect("random").text();
    let (start, end) = good.split_at(good.len() - 1);
    let wrong_secret = format!("{start}{}", if end == "0" { "1" } else { "0" });
    let upper = good.to_uppercase();
    let values = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        good.clone(),
        format!("Basic {good}"),
        format!("Token {good}"),
        format!("Bearer {good} {good}"),
        format!("Bearer {good},Bearer {good}"),
        format!("Bearer \"{good}\""),
        format!("Bearer {upper}"),
        format!("Bearer {}", &good[5..]),
        format!("Bearer {start}"),
        format!("Bearer {}", "a".repeat(249)),
        format!("Bearer {}", "a".repeat(10_000)),
        format!("Bearer {}{good}", " ".repeat(200)),
        format!("Bearer {expired}"),
        format!("Bearer {revoked}"),
        format!("Bearer {unknown}"),
        format!("Bearer {wrong_secret}"),
    ];
    let mut bodies = Vec::new();
    for value in &values {
        for asked in [
            send(served.ingress, Method::POST, LEASES, &json!({"scope": "s"})),
            get(served.ingress, &format!("{LEASES}/{FORGED}")).method(Method::DELETE),
            get(served.admin, "/v1/rules"),
            get(served.admin, "/no/such/path"),
        ] {
            let answer = asked.header("authorization", value).send(&client).await;
            assert_eq!((answer.status.as_u16(), answer.header("www-authenticate")), (401, "Bearer"), "{value}");
            assert_eq!(answer.json()["reason"], "unauthenticated");
            bodies.push(answer.body);
        }
    }
    let last = &bodies[bodies.len() - 16..];
    assert!(last.iter().all(|body| body == &last[0]), "one answer, whatever is wrong with it: {last:?}");
    assert!(bodies.iter().all(|body| !body.contains(&good[22..])), "no secret is said");

    let twice = with(with(get(served.admin, "/v1/rules"), &good), &good).send(&client).await;
    assert_eq!(twice.status, 401);
    let mut many = get(served.admin, "/v1/rules");
    for _ in 0..50 {
        many = with(many, &good);
    }
    assert_eq!(many.send(&client).await.status, 401);
    for bytes in ["Bearer weir_\u{e9}\u{e9}", "Bearer \u{0448}\u{0435}\u{0444}", "\u{ff22}earer x"] {
        let request =
            format!("GET /v1/rules HTTP/1.1\r\nhost: localhost\r\nauthorization: {bytes}\r\nconnection: close\r\n\r\n");
        let mut socket = raw(served.admin, &request);
        socket.set_read_timeout(Some(HANG)).expect("a timeout");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut socket, &mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let answer = get(served.admin, "/v1/rules").header("authorization", &format!("{scheme} {good}")).once().await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_rotated_token_is_good_under_both_texts_until_the_old_one_ends() {
    let file = File::new();
    let mut texts = Vec::new();
    for (name, keep) in [("kept", Duration::from_secs(3_600)), ("over", Duration::from_millis(1))] {
        let mut newer = String::new();
        let older = file.make_as(name, ALL, &["*"], |entry, now| {
            let token = Token::new(entry.id).expect("random");
            entry.rotate(&token, now, keep);
            newer = token.text();
        });
        texts.push((older, newer));
    }
    // Nobody can be quicker than the millisecond that it was kept.
    std::thread::sleep(Duration::from_millis(5));
    let served = file.serve(&[]);
    for ((older, newer), status) in texts.iter().zip([200, 401]) {
        assert_eq!(with(get(served.admin, "/v1/rules"), older).once().await.status, status);
        assert_eq!(with(get(served.admin, "/v1/rules"), newer).once().await.status, 200);
    }
}

#[tokio::test]
async fn a_server_sees_what_becomes_of_tokens_while_it_runs() {
    let file = File::new();
    let served = file.serve(&[]);
    let becomes = async |token: &str, status: u16| {
        let began = std::time::Instant::now();
        while with(get(served.admin, "/v1/rules"), token).once().await.status != status {
            assert!(began.elapsed() < HANG, "it never becomes {status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let token = file.make("one", ALL, &["*"]);
    becomes(&token, 200).await;
    let other = file.make("two", ALL, &["*"]);
    becomes(&other, 200).await;
    file.change(|file| file.tokens.retain(|token| token.name.to_string() != "one"));
    becomes(&token, 401).await;
    assert_eq!(with(get(served.admin, "/v1/rules"), &other).once().await.status, 200);
    std::fs::remove_file(&file.path).expect("it was there");
    becomes(&other, 401).await;
}

/// Who waits shows a token that was good when it came. It must be so when its turn comes.
#[tokio::test]
async fn a_token_that_is_revoked_while_it_waits_takes_nothing() {
    let file = File::new();
    let token = file.make("one", ALL, &["*"]);
    let other = file.make("two", ALL, &["*"]);
    let served = file.serve(&[("s", "1")]);
    let held = served.host.take("s");
    let ask = |token: &str| {
        let asked = with(send(served.ingress, Method::POST, LEASES, &json!({"scope": "s", "priority": 255})), token);
        tokio::spawn(asked.once())
    };
    let revoked = ask(&token);
    served.host.shows("s", 1, 1).await;
    file.change(|file| file.tokens.retain(|token| token.name.to_string() != "one"));
    let began = std::time::Instant::now();
    while with(get(served.admin, "/v1/rules"), &token).once().await.status != 401 {
        assert!(began.elapsed() < HANG, "it is never seen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let good = ask(&other);
    served.host.shows("s", 1, 2).await;
    drop(held);
    let answer = revoked.await.expect("an answer");
    assert_eq!((answer.status.as_u16(), &answer.json()["reason"]), (401, &json!("unauthenticated")));
    assert_eq!(good.await.expect("an answer").status, 201, "what it would have got goes to the next");
    assert_eq!(served.host.usage("s"), (1, 0));
}

/// A lease is its taker's. To everybody else it is like one that never was, and nothing happens to it.
#[tokio::test]
async fn the_lease_of_another_is_gone() {
    let file = File::new();
    let [one, other] = ["one", "other"].map(|name| file.make(name, &[Right::Lease], &["*"]));
    let served = file.serve(&[("s", "3")]);
    let client = http1();
    let acquire = async |token: Option<&str>| {
        let asked = send(served.ingress, Method::POST, LEASES, &json!({"scope": "s", "idempotency-key": "k"}));
        let asked = token.into_iter().fold(asked, with);
        let answer = asked.send(&client).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["leases"][0]["id"].as_str().expect("an id").to_owned()
    };
    let change = async |token: Option<&str>, id: &str, what: &str| {
        let (method, path, body) = match what {
            "extend" => (Method::POST, format!("{LEASES}/{id}/extend"), json!({"lease-time": "1h"})),
            "settle" => (Method::POST, format!("{LEASES}/{id}/settle"), json!({"cost": 7})),
            _ => (Method::DELETE, format!("{LEASES}/{id}?outcome=pushed-back&retry-after=1h"), json!({})),
        };
        let asked = send(served.ingress, method, &path, &body);
        let answer = token.into_iter().fold(asked, with).send(&client).await;
        (answer.status.as_u16(), answer.body, answer.headers.len())
    };
    let takers = [Some(one.as_str()), Some(other.as_str()), None];
    let mut ids = Vec::new();
    for taker in takers {
        ids.push(acquire(taker).await);
    }
    assert_eq!(served.host.usage("s"), (3, 0), "an idempotency key is its taker's, too");
    for (taker, id) in takers.iter().zip(&ids) {
        for stranger in takers.iter().filter(|stranger| *stranger != taker) {
            for what in ["extend", "settle", "release"] {
                let foreign = change(*stranger, id, what).await;
                assert_eq!(foreign, change(*stranger, FORGED, what).await, "{what}");
                assert_eq!(foreign.0, if what == "release" { 200 } else { 410 });
            }
        }
    }
    let counter = served.host.counter("s").expect("it is used");
    assert_eq!((counter.calls, counter.cost, counter.pushed_back_for), (3, 3, None), "nothing has changed");

    // Under another text of the same name it is still its taker's.
    let mut newer = String::new();
    file.change(|file| {
        let entry = &mut file.tokens[0];
        let token = Token::new(entry.id).expect("random");
        entry.rotate(&token, entry.created, Duration::ZERO);
        newer = token.text();
    });
    let began = std::time::Instant::now();
    while change(Some(&newer), &ids[0], "extend").await.0 != 200 {
        assert!(began.elapsed() < HANG, "the new text is never good");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(change(Some(&one), &ids[0], "extend").await.0, 401, "the old one is not");
    for (taker, id) in [Some(newer.as_str()), Some(&other), None].into_iter().zip(&ids) {
        let asked = get(served.ingress, &format!("{LEASES}/{id}")).method(Method::DELETE);
        let answer = taker.into_iter().fold(asked, with).send(&client).await;
        assert_eq!(answer.json(), json!({"released": true}));
    }
    served.host.settles().await;
}

#[tokio::test]
async fn a_listener_that_others_reach_wants_tokens_or_no_lease_api() {
    let host = Host::new(&[]);
    let start = |config: &ServerConfig| Server::start(config, host.flow.clone(), Vec::new());
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let here = |address: SocketAddr| SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
    let file = File::new();
    let tokens = Some(file.path.clone());
    for (config, what) in [
        (ServerConfig { ingress: anywhere, ..free_ports() }, "ingress"),
        (ServerConfig { ingress: anywhere, tokens: tokens.clone(), ..free_ports() }, "ingress"),
        (ServerConfig { admin: anywhere, tokens: tokens.clone(), ..free_ports() }, "admin"),
        (ServerConfig { admin: anywhere, lease_api: false, ..free_ports() }, "admin"),
    ] {
        let error = start(&config).expect_err("nobody has a token");
        assert!(matches!(&error, ServeError::Open { what: open, .. } if *open == what), "{error}");
        assert!(error.to_string().contains("0.0.0.0:0") && error.to_string().contains(what), "{error}");
    }
    // One that has expired is none.
    file.make_as("old", ALL, &["*"], |entry, now| entry.expires = Some(now));
    let guarded = ServerConfig { ingress: anywhere, admin: anywhere, tokens: tokens.clone(), ..free_ports() };
    start(&guarded).expect_err("nobody has a token");

    let calls_alone = start(&ServerConfig { ingress: anywhere, lease_api: false, ..free_ports() }).expect("free ports");
    let at = here(calls_alone.ingress());
    for path in [LEASES, "/weir/v1/check", &format!("{LEASES}/{FORGED}/extend")] {
        let answer = send(at, Method::POST, path, &json!({"scope": "s"})).once().await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("switched off"), "{}", answer.body);
    }
    assert_eq!(get(at, "/weir/openapi.json").once().await.status, 404, "what is not there has no description");
    calls_alone.shut_down();

    let token = file.make("one", ALL, &["*"]);
    let server = start(&guarded).expect("free ports");
    let (ingress, admin) = (here(server.ingress()), here(server.admin()));
    // By its own name, too: who connects to such a listener may be anybody.
    for asked in [send(ingress, Method::POST, "/weir/v1/check", &json!({"scope": "s"})), get(admin, "/v1/rules")] {
        assert_eq!(asked.clone().once().await.status, 401);
        assert_eq!(with(asked, &token).once().await.status, 200);
    }
    assert_eq!(get(admin, "/healthz").once().await.status, 200);
    server.shut_down();

    std::fs::write(&file.path, "{\n  \"version\": 1,\n  \"tokens\": [{}]\n}").expect("written");
    let error = start(&guarded).expect_err("a broken file");
    assert!(matches!(&error, ServeError::Tokens(TokenFileError::Malformed { line: 3, .. })), "{error}");
    let local = ServerConfig { tokens, ..free_ports() };
    assert!(matches!(start(&local), Err(ServeError::Tokens(_))), "on loopback neither");
}
