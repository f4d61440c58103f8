//! `weir lease`, `weir run` and `weir token`: with what is refused nothing is taken, and no token is made.

use super::{Argument, DURATIONS, arguments};
use crate::texts::{control_bytes, names, not_names};
use crate::{HANG, Run, Serving, end, weir};

pub(super) const COSTS: &[(&str, &str)] = &[
    ("", "it is a number from 1 to 4294967295"),
    ("0", "it is a number from 1 to 4294967295"),
    ("4294967296", "it is a number from 1 to 4294967295"),
    ("-1", "it is a number from 1 to 4294967295"),
    ("1.5", "it is a number from 1 to 4294967295"),
];
pub(super) const PRIORITIES: &[(&str, &str)] =
    &[("256", "0..=255"), ("-1", "0..=255"), ("18446744073709551616", "--priority"), ("", "--priority")];
pub(super) const WEIGHTS: &[(&str, &str)] = &[
    ("0", "a weight is a number from 1 to 1000"),
    ("1001", "a weight is a number from 1 to 1000"),
    ("65536", "a weight is a number from 1 to 1000"),
    ("-1", "a weight is a number from 1 to 1000"),
    ("", "a weight is a number from 1 to 1000"),
];
pub(super) const BATCHES: &[(&str, &str)] = &[
    ("0", "a batch is a number from 1 to 1000"),
    ("1001", "a batch is a number from 1 to 1000"),
    ("65536", "a batch is a number from 1 to 1000"),
    ("-1", "a batch is a number from 1 to 1000"),
    ("", "a batch is a number from 1 to 1000"),
];
const LEASE_TIMES: &[(&str, &str)] = &[("0s", "100ms to 1h"), ("99ms", "100ms to 1h"), ("3600001ms", "100ms to 1h")];
const URLS: &[(&str, &str)] = &[
    ("", "is not an http URL"),
    ("127.0.0.1:8080", "is not an http URL"),
    ("http://", "is not an http URL"),
    ("http://a b", "is not an http URL"),
];
pub(super) const FLOW_CONTROLS: &[(&str, &str)] = &[
    ("", "write KEY:concurrency=N"),
    ("k", "write KEY:concurrency=N"),
    ("k:", "write KEY:concurrency=N"),
    ("k:speed=1", "`speed=1` is no limit"),
    ("k:concurrency=", "write a number from 0 to 4294967295"),
    ("k:concurrency=-1", "write a number from 0 to 4294967295"),
    ("k:concurrency=4294967296", "write a number from 0 to 4294967295"),
    ("k:rate=", "there is no `/`"),
    ("k:rate=0/1m", "is not a number from 1 to 4294967295"),
    ("k:rate=1/999us", "out of bounds: 1ms to 366days"),
    ("k:rate=1/367days", "out of bounds: 1ms to 366days"),
    ("k:rate=1/1m:smooth:burst=0", "is not a number from 1 to 4294967295"),
];

const ACQUIRE: &[&str] = &["lease", "acquire", "s"];
const CHECK: &[&str] = &["lease", "check", "s"];
const RUN: &[&str] = &["run", "--scope", "s"];

const ARGUMENTS: &[Argument] = &[
    Argument { command: ACQUIRE, option: "--cost", good: &["1", "4294967295"], bad: COSTS },
    Argument { command: CHECK, option: "--cost", good: &["1", "4294967295"], bad: COSTS },
    Argument { command: RUN, option: "--cost", good: &["1", "4294967295"], bad: COSTS },
    Argument { command: ACQUIRE, option: "--priority", good: &["0", "255"], bad: PRIORITIES },
    Argument { command: RUN, option: "--priority", good: &["0", "255"], bad: PRIORITIES },
    Argument { command: ACQUIRE, option: "--weight", good: &["1", "1000"], bad: WEIGHTS },
    Argument { command: RUN, option: "--weight", good: &["1", "1000"], bad: WEIGHTS },
    Argument { command: ACQUIRE, option: "--max-wait", good: &["0s", "1ns", "24h"], bad: DURATIONS },
    Argument { command: RUN, option: "--wait", good: &["0s", "1ns"], bad: DURATIONS },
    Argument { command: ACQUIRE, option: "--lease-time", good: &["100ms", "1h"], bad: DURATIONS },
    Argument { command: ACQUIRE, option: "--lease-time", good: &[], bad: LEASE_TIMES },
    Argument { command: RUN, option: "--lease-time", good: &["1h"], bad: LEASE_TIMES },
    Argument { command: RUN, option: "--kill-after", good: &["0s", "1h"], bad: DURATIONS },
    Argument { command: ACQUIRE, option: "--count", good: &["1", "1000"], bad: BATCHES },
    Argument { command: &["lease", "acquire", "s", "--count=1000"], option: "--least", good: &["1"], bad: BATCHES },
    Argument { command: ACQUIRE, option: "--least", good: &["1"], bad: &[("2", "a batch of 1, at least 2")] },
    Argument { command: ACQUIRE, option: "--flow-control", good: &["k:concurrency=1"], bad: FLOW_CONTROLS },
    Argument { command: RUN, option: "--flow-control", good: &["k:rate=4294967295/366days"], bad: FLOW_CONTROLS },
    Argument { command: ACQUIRE, option: "--url", good: &[], bad: URLS },
    Argument { command: RUN, option: "--url", good: &[], bad: URLS },
];

/// What is done to a lease, whose id comes between the command and the rest.
const CHANGES: &[Argument] = &[
    Argument { command: &["lease", "extend"], option: "--lease-time", good: &["100ms", "1h"], bad: LEASE_TIMES },
    Argument { command: &["lease", "extend"], option: "--lease-time", good: &[], bad: DURATIONS },
    Argument {
        command: &["lease", "settle"],
        option: "",
        good: &["0", "4294967295"],
        bad: &[("4294967296", "0..=4294967295"), ("-1", "0..=4294967295"), ("1.5", "COST"), ("", "COST")],
    },
    Argument {
        command: &["lease", "release"],
        option: "--pushed-back",
        good: &[],
        bad: &[
            ("1", "time unit needed"),
            ("-1s", "expected number"),
            ("soon", "expected number"),
            ("999999999999s", "it is too long"),
        ],
    },
];

/// Texts that are to be names: the command before them, the option, and what is before and behind the text in it.
const TEXTS: &[(&[&str], &str, &str, &str)] = &[
    (&["lease", "acquire"], "", "", ""),
    (&["lease", "acquire"], "", "a/", ""),
    (&["lease", "check"], "", "a/b/", ""),
    (ACQUIRE, "--also", "", ""),
    (RUN, "--also", "a/", ""),
    (ACQUIRE, "--fairness-key", "", ""),
    (CHECK, "--fairness-key", "", ""),
    (ACQUIRE, "--idempotency-key", "", ""),
    (ACQUIRE, "--flow-control", "", ":concurrency=1"),
    (RUN, "--flow-control", "", ":rate=1/1s"),
    (&["run"], "--scope", "", ""),
    (RUN, "--limit-key", "", ""),
    (RUN, "--limit-key", "a/", ""),
];

/// Runs a command that speaks to ingress. What `weir run` runs stands behind all else.
fn at(serving: &Serving, mut arguments: Vec<String>) -> Run {
    if arguments[0] == "run" {
        arguments.extend(["--", "true"].map(str::to_owned));
    }
    let mut command = weir(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    command.env("WEIR_URL", &serving.ingress);
    end(command)
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(HANG)).build().new_agent()
}

/// What the limiter has granted and holds.
fn limiter(serving: &Serving) -> Vec<String> {
    let mut answer = agent().get(format!("{}/metrics", serving.admin)).call().expect("an answer");
    let figures = answer.body_mut().read_to_string().expect("text");
    let names = ["weir_granted_total ", "weir_leases ", "weir_waiting ", "weir_book_version "];
    let figures = figures.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    let mut figures: Vec<String> = figures.map(str::to_owned).collect();
    figures.sort();
    figures
}

/// Releases each lease that was printed.
fn give_back(serving: &Serving, printed: &str) {
    let agent = agent();
    for id in printed.lines() {
        agent.delete(format!("{}/weir/v1/leases/{id}", serving.ingress)).call().expect("an answer");
    }
}

#[test]
fn leases_are_asked_for_within_bounds() {
    let serving = Serving::demo();
    for Argument { command, option, good, bad } in ARGUMENTS {
        for value in *good {
            let printed = at(&serving, arguments(command, option, value)).ok();
            if command.starts_with(ACQUIRE) {
                give_back(&serving, &printed);
            }
        }
        let before = limiter(&serving);
        assert!(before.contains(&"weir_leases 0".to_owned()), "{before:?}");
        for (value, says) in *bad {
            at(&serving, arguments(command, option, value)).fails(2, &[says]);
        }
        assert_eq!(limiter(&serving), before, "{command:?} {option}");
    }
    let id = at(&serving, arguments(ACQUIRE, "--lease-time", "1h")).ok();
    for Argument { command, option, good, bad } in CHANGES {
        let command = [*command, &[id.trim()][..]].concat();
        for value in *good {
            at(&serving, arguments(&command, option, value)).ok();
        }
        let before = limiter(&serving);
        for (value, says) in *bad {
            at(&serving, arguments(&command, option, value)).fails(2, &[says]);
        }
        assert_eq!(limiter(&serving), before, "{command:?} {option}");
    }
    give_back(&serving, &id);
    assert!(limiter(&serving).contains(&"weir_leases 0".to_owned()));
}

#[test]
fn leases_are_asked_for_by_names() {
    let serving = Serving::demo();
    let before = limiter(&serving);
    for (command, option, prefix, suffix) in TEXTS {
        // No argument can have a NUL.
        for (text, says) in not_names().into_iter().chain(control_bytes().into_iter().skip(1)) {
            at(&serving, arguments(command, option, &format!("{prefix}{text}{suffix}"))).fails(2, &[says]);
        }
    }
    for (command, option, value, says) in [
        (&["lease", "acquire"][..], "", "a/b/c/d", "4 parts"),
        (&["lease", "acquire"], "", "*", "has the byte `*`"),
        (ACQUIRE, "--also", "a/*", "has the byte `*`"),
        (&["run"], "--scope", "a/b", "has the byte `/`"),
        (RUN, "--limit-key", "a/b/c", "3 parts: a limit key has at most 2"),
        (ACQUIRE, "--flow-control", "a#b:concurrency=1", "has the byte `#`"),
    ] {
        at(&serving, arguments(command, option, value)).fails(2, &[says]);
    }
    assert_eq!(limiter(&serving), before);
    for (command, option, prefix, suffix) in TEXTS {
        for name in names() {
            let printed = at(&serving, arguments(command, option, &format!("{prefix}{name}{suffix}"))).ok();
            if command.starts_with(&["lease", "acquire"]) {
                give_back(&serving, &printed);
            }
        }
    }
    assert!(limiter(&serving).contains(&"weir_leases 0".to_owned()));
}

#[test]
fn tokens_are_made_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    let token = |arguments: &[String]| {
        let mut command = weir(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("WEIR_TOKENS", &path);
        end(command)
    };
    const NAME: &str = "is no name of a token: 1 to 128 bytes";
    const CREATE: &[&str] = &["token", "create", "n", "--all-scopes"];
    const ROTATE: &[&str] = &["token", "rotate", "n"];
    const EXPIRIES: &[(&str, &str)] = &[
        ("", "empty"),
        ("0s", "longer than nothing, and for at most 100 years"),
        ("36525days 1ns", "at most 100 years"),
        ("99999999999years", "at most 100 years"),
        ("1", "time unit needed"),
        ("-1s", "expected number"),
        ("999999999999s", "it is too long"),
    ];
    const RIGHTS: &[(&str, &str)] = &[
        ("", "lease, read, rules, operate"),
        ("LEASE", "lease, read, rules, operate"),
        ("admin", "lease, read, rules, operate"),
        ("\u{438}", "lease, read, rules, operate"),
    ];
    for (command, option, bad) in
        [(CREATE, "--expires", EXPIRIES), (CREATE, "--right", RIGHTS), (ROTATE, "--keep-old", DURATIONS)]
    {
        for (value, says) in bad {
            token(&arguments(command, option, value)).fails(2, &[says]);
        }
    }
    for (command, option, says) in [
        (&["token", "create", "--all-scopes"][..], "", NAME),
        (&["token", "create", "n"], "--scope", "is no scope: 1 to 128 bytes"),
        (&["token", "rotate"], "", NAME),
        (&["token", "revoke"], "", NAME),
    ] {
        for (text, _) in not_names().into_iter().chain(control_bytes().into_iter().skip(1)) {
            token(&arguments(command, option, &text)).fails(2, &[says]);
        }
    }
    assert!(!path.exists(), "none was made");
    for name in names() {
        token(&arguments(&["token", "create", "--expires=36525days", &format!("--scope={name}")], "", &name)).ok();
        token(&arguments(&["token", "rotate"], "", &name)).ok();
        token(&arguments(&["token", "revoke"], "", &name)).ok();
    }
}
