//! `weir token`, and servers and clients that use what it makes.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::{HANG, Run, Serving, WASM, end, file, run, signal, weir};

/// A folder with a file of tokens, perhaps.
struct Tokens {
    folder: tempfile::TempDir,
    path: String,
}

impl Tokens {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens.json").to_str().expect("text").to_owned();
        Self { folder, path }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = weir(&["token"]);
        command.args(arguments).env("WEIR_TOKENS", &self.path);
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        end(self.command(arguments))
    }

    /// Makes a token, and answers its text.
    fn create(&self, arguments: &[&str]) -> String {
        self.run(&[&["create"], arguments].concat()).ok().trim().to_owned()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).expect("a file")
    }

    fn names(&self) -> Vec<String> {
        let listed = self.run(&["list", "--json"]).json();
        let tokens = listed["tokens"].as_array().expect("tokens");
        tokens.iter().map(|token| token["name"].as_str().expect("a name").to_owned()).collect()
    }
}

/// Runs a client's command with a token.
fn with(token: &str, arguments: &[&str]) -> Run {
    let mut command = weir(arguments);
    command.env("WEIR_TOKEN", token);
    end(command)
}

/// The secret of a text, and what a file must not have of it.
fn secret(token: &str) -> &str {
    &token[22..]
}

#[test]
fn a_token_is_made_listed_rotated_and_revoked() {
    let tokens = Tokens::new();
    let made = tokens.run(&["create", "payments", "--scope", "payments", "--scope", "p2"]);
    assert!(made.err.contains("shown this once") && !made.err.contains(secret(made.out.trim())), "{made:?}");
    let token = made.ok();
    let token = token.trim();
    assert!(token.starts_with("weir_") && token.len() == 86, "{token}");
    let arguments =
        ["create", "ops", "--right", "read", "--right", "operate", "--all-scopes", "--expires", "90d", "--json"];
    let ops = tokens.run(&arguments).json();
    assert!(ops["token"].as_str().expect("shown once").starts_with("weir_"));
    assert_eq!((&ops["rights"], &ops["scopes"]), (&serde_json::json!(["read", "operate"]), &serde_json::json!(["*"])));

    let mode = std::fs::metadata(&tokens.path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept: Value = serde_json::from_str(&tokens.text()).expect("JSON");
    assert_eq!((&kept["version"], kept["tokens"].as_array().map(Vec::len)), (&serde_json::json!(1), Some(2)));
    let hashes: Vec<&str> = kept["tokens"].as_array().unwrap().iter().map(|t| t["sha256"].as_str().unwrap()).collect();
    let listed = [tokens.run(&["list"]).ok(), tokens.run(&["list", "--json"]).ok()];
    for text in listed.iter().chain([&tokens.text()]) {
        assert!(text.contains("payments") && text.contains("operate"), "{text}");
        assert!(!text.contains(secret(token)) && !text.contains(secret(ops["token"].as_str().unwrap())), "{text}");
    }
    for text in &listed {
        assert!(hashes.iter().all(|hash| !text.contains(hash)), "no hashes: {text}");
    }
    let [table, json] = &listed;
    assert!(table.lines().next().is_some_and(|head| head.contains("RIGHTS") && head.contains("EXPIRES")), "{table}");
    let json: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(
        (&json["tokens"][0]["rights"], &json["tokens"][0]["expires"]),
        (&serde_json::json!(["lease"]), &Value::Null)
    );
    assert!(json["tokens"][1]["expires"].as_str().is_some_and(|at| at.starts_with("20")), "{json}");

    let rotated = tokens.run(&["rotate", "payments", "--keep-old", "1h"]).ok();
    let rotated = rotated.trim();
    assert!(rotated[..22] == token[..22] && rotated != token, "the id stays");
    assert!(tokens.run(&["list", "--json"]).json()["tokens"][0]["old-until"].is_string());
    assert!(!tokens.text().contains(secret(rotated)));
    let twice = tokens.run(&["rotate", "payments"]);
    assert!(twice.err.contains("was to be good until 20") && twice.err.contains("ends now"), "{twice:?}");
    assert!(!tokens.run(&["rotate", "payments"]).err.contains("warning"), "nothing was promised");
    assert_eq!(tokens.run(&["list", "--json"]).json()["tokens"][0]["old-until"], Value::Null);

    tokens.run(&["create", "payments", "--all-scopes"]).fails(1, &["there is a token `payments` already", "rotate"]);
    assert_eq!(tokens.run(&["revoke", "payments"]).ok(), "revoked payments\n");
    tokens.run(&["revoke", "payments"]).fails(1, &["there is no token `payments`", "weir token list"]);
    tokens.run(&["rotate", "payments"]).fails(1, &["there is no token `payments`"]);
    assert_eq!(tokens.names(), ["ops"]);
    assert_eq!(mode & 0o777, std::fs::metadata(&tokens.path).unwrap().permissions().mode() & 0o777);
}

#[test]
fn many_at_once_lose_nothing() {
    let tokens = Tokens::new();
    let spawn = |name: &str| {
        let mut command = tokens.command(&["create", name, "--all-scopes"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let names: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
    let mut running: Vec<_> = names.iter().map(|name| spawn(name)).collect();
    running.extend((0..4).map(|_| spawn("same")));
    let codes: Vec<i32> =
        running.into_iter().map(|mut child| child.wait().expect("an end").code().expect("a code")).collect();
    assert!(codes[..12].iter().all(|code| *code == 0), "{codes:?}");
    assert_eq!(codes[12..].iter().filter(|code| **code == 0).count(), 1, "one name, one token: {codes:?}");
    let mut found = tokens.names();
    found.sort_unstable();
    let mut expected = names;
    expected.push("same".to_owned());
    expected.sort_unstable();
    assert_eq!(found, expected);
    let left: Vec<_> =
        std::fs::read_dir(tokens.folder.path()).expect("a folder").map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the file and its lock: {left:?}");
}

#[test]
fn the_file_is_that_of_the_configuration() {
    let tokens = Tokens::new();
    let folder = tokens.folder.path();
    let config = file(folder, "weir.toml", "[server]\ntokens = \"keys/t.json\"\n");
    std::fs::create_dir(folder.join("keys")).expect("a folder");
    run(&["token", "create", "one", "--all-scopes", "-c", &config]).ok();
    assert!(folder.join("keys/t.json").is_file());
    let mut here = weir(&["token", "list", "--json"]);
    here.current_dir(folder);
    assert_eq!(end(here).json()["tokens"][0]["name"], "one");
    tokens.run(&["create", "two", "--all-scopes", "-c", &config]).ok();
    assert_eq!(tokens.names(), ["two"], "the option beats it");

    let empty = file(folder, "empty.toml", "");
    run(&["token", "list", "-c", &empty]).fails(2, &["which file of tokens?", "--tokens FILE", "[server]"]);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut nowhere = weir(&["token", "list"]);
    nowhere.current_dir(elsewhere.path());
    end(nowhere).fails(2, &["which file of tokens?"]);
    run(&["token", "list", "-c", "no-such.toml"]).fails(2, &["no-such.toml"]);
    let bad = file(folder, "bad.toml", "[server]\ntokens = 7\n");
    run(&["token", "list", "-c", &bad]).fails(2, &["bad.toml:2:10: "]);
    run(&["token", "create", "a", "--all-scopes", "--tokens", "/no/such/folder/t.json"])
        .fails(1, &["cannot lock", "/no/such/folder"]);
}

#[test]
fn what_is_said_wrongly_is_2() {
    let tokens = Tokens::new();
    for (arguments, part) in [
        (&["create"][..], "<NAME>"),
        (&["create", "a"], "<--scope <SCOPE>|--all-scopes>"),
        (&["create", "a b", "--all-scopes"], "`a b` is no name of a token"),
        (&["create", "", "--all-scopes"], "no name of a token"),
        (&["create", &"x".repeat(129), "--all-scopes"], "1 to 128 bytes"),
        (&["create", "a", "--scope", "s/x"], "`s/x` is no scope"),
        (&["create", "a", "--scope", ""], "no scope"),
        (&["create", "a", "--scope", "s", "--all-scopes"], "cannot be used with"),
        (&["create", "a", "--all-scopes", "--right", "root"], "root"),
        (&["create", "a", "--all-scopes", "--expires", "0s"], "longer than nothing"),
        (&["create", "a", "--all-scopes", "--expires", "101years"], "at most 100 years"),
        (&["create", "a", "--all-scopes", "--expires", "soon"], "--expires"),
        (&["rotate", "a", "--keep-old", "soon"], "--keep-old"),
        (&["revoke"], "<NAME>"),
    ] {
        tokens.run(arguments).fails(2, &[part]);
    }
    let many: Vec<String> = (0..65).map(|n| format!("--scope=s{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    tokens.run(&[&["create", "a"][..], &many].concat()).fails(2, &["65 scopes: at most 64", "--all-scopes"]);
    assert!(!std::path::Path::new(&tokens.path).exists(), "nothing was made");
    tokens.create(&["old", "--all-scopes", "--expires", "1ms"]);
    thread::sleep(Duration::from_millis(5));
    tokens.run(&["rotate", "old"]).fails(1, &["has expired", "create it anew"]);
    assert!(tokens.run(&["list"]).ok().contains("(expired)"));
}

#[test]
fn a_file_that_is_broken_is_named_with_its_place_and_left_alone() {
    let tokens = Tokens::new();
    for (text, place, part) in [
        ("", ":1:1: ", "EOF"),
        ("{\n  \"version\": 7,\n  \"tokens\": []\n}\n", ":2:14: ", "version 7"),
        ("{\"version\": 1, \"tokens\": [], \"more\": 1}", ":1:", "unknown field `more`"),
        ("{\"version\": 1,\n\"tokens\": [{\"name\": \"\\u001b[31m\"}]}", ":2:", "is no name"),
    ] {
        let path = file(tokens.folder.path(), "tokens.json", text);
        let place = format!("{path}{place}");
        let serve = ["serve", WASM, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--tokens", &path];
        for failed in [
            run(&serve),
            tokens.run(&["list"]),
            tokens.run(&["create", "a", "--all-scopes"]),
            tokens.run(&["revoke", "a"]),
        ] {
            failed.fails(2, &[&place, part]);
            assert!(failed.out.is_empty() && !failed.err.contains('\u{1b}'), "{failed:?}");
        }
        assert_eq!(tokens.text(), text);
    }
}

#[test]
fn where_others_reach_it_a_server_wants_tokens() {
    let tokens = Tokens::new();
    let ports = |listen, admin| ["serve", WASM, "--listen", listen, "--admin-listen", admin];
    let (here, anywhere) = ("127.0.0.1:0", "0.0.0.0:0");
    let refused = run(&ports(anywhere, here));
    refused.fails(
        2,
        &["ingress on 0.0.0.0:0", "its lease API", "weir token create", "--no-lease-api", "lease-api = false"],
    );
    assert_eq!(refused.out, "", "nothing is served");
    run(&ports(here, anywhere)).fails(2, &["admin on 0.0.0.0:0", "weir token create", "--admin-listen"]);
    run(&[&ports(anywhere, anywhere)[..], &["--no-lease-api"]].concat()).fails(2, &["admin on 0.0.0.0:0"]);
    run(&[&ports(anywhere, here)[..], &["--tokens", &tokens.path]].concat()).fails(2, &["nobody has a token"]);

    let start = |arguments: &[&str]| {
        let mut serving = Serving::start(weir(arguments));
        for address in [&mut serving.ingress, &mut serving.admin] {
            *address = address.replace("0.0.0.0", "127.0.0.1");
        }
        serving
    };
    let calls_alone = start(&[&ports(anywhere, here)[..], &["--no-lease-api"]].concat());
    assert_eq!(calls_alone.get("/work?ms=1").0, 200);
    let off = run(&["lease", "acquire", "s", "--url", &calls_alone.ingress]);
    off.fails(1, &["does not answer like the lease API", "404", "the lease API is switched off on this server"]);
    drop(calls_alone);

    let token = tokens.create(&["all", "--right", "lease", "--right", "read", "--all-scopes"]);
    let serving = start(&[&ports(anywhere, anywhere)[..], &["--tokens", &tokens.path]].concat());
    assert_eq!(serving.get("/work?ms=1").0, 200, "calls are everybody's");
    run(&["counters", "--admin", &serving.admin]).fails(1, &["this needs a token", "--token-file", "WEIR_TOKEN"]);
    let id = with(&token, &["lease", "acquire", "s", "--url", &serving.ingress]).ok();
    let shown = with(&token, &["counters", "--json", "--admin", &serving.admin]).json();
    assert_eq!((id.trim().len(), &shown["counters"][0]["counter"]), (36, &serde_json::json!("s")));
    with(&token, &["lease", "release", id.trim(), "--url", &serving.ingress]).ok();
}

#[test]
fn a_file_that_is_taken_away_is_logged() {
    let tokens = Tokens::new();
    let token = tokens.create(&["all", "--all-scopes"]);
    let serving = Serving::new(&[WASM, "--tokens", &tokens.path]);
    let check = || with(&token, &["lease", "check", "s", "--url", &serving.ingress]).code;
    assert_eq!(check(), Some(0));
    std::fs::remove_file(&tokens.path).expect("it was there");
    let began = Instant::now();
    while check() != Some(1) {
        assert!(began.elapsed() < HANG, "it is still good");
        thread::sleep(Duration::from_millis(50));
    }
    let (_, log) = serving.end_with(Signal::TERM);
    assert!(log.contains("WARN") && log.contains("the token file is gone"), "{log}");
}

#[test]
fn a_client_shows_its_token_and_says_what_to_do_about_an_answer() {
    let tokens = Tokens::new();
    let token = tokens.create(&["payments", "--right", "lease", "--right", "operate", "--scope", "payments"]);
    // All that sees requests says all it has to say.
    let filter = "info,weir=trace,weir_http=trace,hyper=trace,hyper_util=trace,h2=trace,axum=trace,tower=trace";
    let mut serving = Serving::new(&[WASM, "--tokens", &tokens.path, "--log", filter]);
    // Read as it comes: a pipe that is full would hold the server up.
    let mut log = serving.child.stderr.take().expect("piped");
    let log = thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    let (url, admin) = (["--url", &serving.ingress], ["--admin", &serving.admin]);
    let held = file(tokens.folder.path(), "token", format!("{token}\n"));
    let by_file = ["--token-file", held.as_str()];

    let ran = run(
        &[&["run", "--scope", "payments"][..], &by_file, &url, &["--", "sh", "-c", "echo $WEIR_LEASE_ID"]].concat()
    );
    assert_eq!(ran.ok().trim().len(), 36);
    let id = with(&token, &[&["lease", "acquire", "payments"][..], &url].concat()).ok();
    let id = id.trim();
    run(&[&["lease", "extend", id][..], &url].concat()).fails(1, &["the lease is gone"]);
    let released = run(&[&["lease", "release", id][..], &url].concat()).ok();
    assert_eq!(released, "it had ended already, or never was\n", "it is not this machine's");
    run(&[&["lease", "extend", id][..], &by_file, &url].concat()).ok();
    with(&token, &[&["counters", "pause", "payments"][..], &admin].concat()).ok();
    assert_eq!(with(&token, &[&["lease", "release", id][..], &url].concat()).ok(), "released\n");

    let hint = "weir token list";
    let denied = |arguments: &[&str], code, part| with(&token, arguments).fails(code, &[part, hint]);
    denied(&[&["rules", "list"][..], &admin].concat(), 1, "has not the right `read`");
    denied(&[&["explain", "payments"][..], &admin].concat(), 1, "has not the right `read`");
    denied(&[&["rules", "delete", "payments"][..], &admin].concat(), 1, "has not the right `rules`");
    denied(&[&["counters", "pause", "model"][..], &admin].concat(), 1, "not for the scope `model`");
    denied(&[&["lease", "check", "model"][..], &url].concat(), 1, "not for the scope `model`");
    denied(&[&["run", "--scope", "model"][..], &url, &["--", "true"]].concat(), 125, "not for the scope `model`");
    let stranger = format!("{}{}", &token[..22], "0".repeat(64));
    with(&stranger, &[&["lease", "check", "payments"][..], &url].concat())
        .fails(1, &["unknown, revoked or expired", "--token-file", "weir token create"]);

    // The option beats the variable.
    let mut both = weir(&[&["lease", "check", "payments"][..], &by_file, &url].concat());
    both.env("WEIR_TOKEN", &stranger);
    assert_ne!(end(both).code, Some(1));
    with("", &[&["lease", "check", "payments"][..], &url].concat());
    for wrong in ["x", &token[..85], &format!("Bearer {token}")] {
        let failed = with(wrong, &[&["lease", "check", "payments"][..], &url].concat());
        failed.fails(2, &["WEIR_TOKEN: it is no token", "weir token create"]);
        assert!(!failed.err.contains(&token[22..80]), "a secret that was cut is one: {failed:?}");
    }
    run(&[&["lease", "check", "payments", "--token-file", "/no/such"][..], &url].concat())
        .fails(2, &["/no/such: cannot read the token"]);
    run(&["lease", "check", "payments", "--token", &token]).fails(2, &["unexpected argument '--token'"]);

    // Revoked while it runs.
    tokens.run(&["revoke", "payments"]).ok();
    let began = Instant::now();
    while with(&token, &[&["lease", "check", "payments"][..], &url].concat()).code != Some(1) {
        assert!(began.elapsed() < HANG, "it is still good");
        thread::sleep(Duration::from_millis(50));
    }
    signal(serving.child.id(), Signal::TERM);
    let log = log.join().expect("an end").expect("text");
    assert_eq!(serving.child.wait().expect("an end").code(), Some(0));
    assert!(log.contains("counter operated") && log.contains("payments"), "it logs: {log}");
    assert!(!log.contains(secret(&token)) && !log.contains(&"0".repeat(64)), "no secret in logs");
}

#[test]
fn a_token_goes_over_the_network_in_clear_text_only_if_that_is_asked_for() {
    let token = format!("weir_{}_{}", "1".repeat(16), "a".repeat(64));
    for arguments in [
        &["lease", "check", "s", "--url", "http://0.0.0.0:1"][..],
        &["run", "--scope", "s", "--url", "http://weir.example:8080", "--", "true"],
        &["counters", "--admin", "http://192.0.2.1:9070"],
        &["rules", "list", "--admin", "http://localhost.evil.example:9070"],
    ] {
        let refused = with(&token, arguments);
        refused.fails(2, &["the token is not sent to http://", "plain http", "--insecure", "WEIR_INSECURE=1"]);
        assert!(!refused.err.contains(secret(&token)), "{refused:?}");
    }
    let at = ["lease", "check", "s", "--url", "http://0.0.0.0:1"];
    with(&token, &[&at[..], &["--insecure"]].concat()).fails(1, &["no server answers"]);
    for (value, code) in [("1", 1), ("0", 2), ("", 2)] {
        let mut command = weir(&at);
        command.env("WEIR_TOKEN", &token).env("WEIR_INSECURE", value);
        assert_eq!(end(command).code, Some(code), "WEIR_INSECURE={value}");
    }
    run(&at).fails(1, &["no server answers"]);
}
