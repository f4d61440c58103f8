//! Every number and every text that the program is told, at and past its bounds: exit code 2, what is wrong and where, and a server
//! that is as it was.
//!
//! | Command | Numbers | Texts |
//! |---|---|---|
//! | all that speak to a server | | `--admin` |
//! | `serve` | `--shutdown-timeout`, `--workers` | `--listen`, `--admin-listen`, `--log`, `--log-format` |
//! | `demo` | `--seconds` | `--listen`, `--admin-listen` |
//! | `rules set` | `--concurrency`, `--rate`, `--max-waiters`, `--max-wait`, `--max-pushback`, `--shadow-concurrency`, `--shadow-rate` | PATTERN, `--description` |
//! | `rules enable`, `disable`, `delete` | `--if-version` | PATTERN |
//! | `rules apply` | `--if-book-version`, and the rules of its file | |
//! | `counters` | `--limit` | PREFIX: any |
//! | `counters pin` | as `rules set` | COUNTER |
//! | `counters pause`, `resume`, `unpin`, `reset`, `drain` | `--timeout` | COUNTER |
//! | `explain` | `--cost`, `--priority`, `--max-wait`, `--weight`, `--count`, `--least`, `--flow-control` | KEY, `--also`, `--fairness-key`, `--flow-control` |
//! | `lease acquire`, `check`, `run` | `--cost`, `--priority`, `--weight`, `--max-wait`, `--lease-time`, `--count`, `--least`, `--kill-after`, `--flow-control` | KEY, `--scope`, `--limit-key`, `--also`, `--fairness-key`, `--idempotency-key`, `--flow-control`, `--url` |
//! | `lease extend`, `settle`, `release` | `--lease-time`, COST, `--pushed-back` | ID: any |
//! | `token create`, `rotate`, `revoke` | `--expires`, `--keep-old` | NAME, `--scope`, `--right` |
//! | `simulate` | in [`crate::simulate`]: `--seconds`, `--seed`, `--poisson`, each field of a trace | |
//! | `weir.toml` | `[server]`, `[[component]]`, `[[rule]]`: below | below |
//!
//! The environment is read by the same parsers. Paths are any text that names a file.

mod leases;

use leases::{BATCHES, COSTS, FLOW_CONTROLS, PRIORITIES, WEIGHTS};

use crate::texts::{control_bytes, names, not_names};
use crate::{HANG, Serving, WASM, end, file, run, weir};

/// An option: the command before it, what is accepted, and what is not with what is said of that.
struct Argument {
    command: &'static [&'static str],
    /// Empty: an argument without a name.
    option: &'static str,
    good: &'static [&'static str],
    bad: &'static [(&'static str, &'static str)],
}

const CONCURRENCY: &[(&str, &str)] = &[
    ("", "write a number from 0 to 4294967295"),
    ("-1", "write a number from 0 to 4294967295"),
    ("4294967296", "write a number from 0 to 4294967295"),
    ("5:tokens", "write a number from 0 to 4294967295"),
    ("\u{661}", "write a number from 0 to 4294967295"),
];
const RATES: &[(&str, &str)] = &[
    ("", "there is no `/`"),
    ("0/1m", "is not a number from 1 to 4294967295"),
    ("4294967296/1m", "is not a number from 1 to 4294967295"),
    ("1/0s", "out of bounds: 1ms to 366days"),
    ("1/999us", "out of bounds: 1ms to 366days"),
    ("1/367days", "out of bounds: 1ms to 366days"),
    ("1/999999999999s", "it is too long"),
    ("1/1m:smooth:burst=0", "is not a number from 1 to 4294967295"),
    ("1/1m:burst=1", "burst belongs to smooth rates only"),
];
const DURATIONS: &[(&str, &str)] = &[
    ("", "empty"),
    ("1", "time unit needed"),
    ("-1s", "expected number"),
    ("soon", "expected number"),
    ("999999999999s", "it is too long: at most 64 bytes, and 11 digits a number"),
];
const UP_TO_A_DAY: &[(&str, &str)] =
    &[("1day 1ns", "too long: at most 1day"), ("99999999999years", "too long: at most 1day"), ("", "empty")];
const WAITERS: &[(&str, &str)] = &[
    ("1000001", "is too many: at most 1000000"),
    ("4294967295", "is too many: at most 1000000"),
    ("4294967296", "--max-waiters"),
    ("-1", "--max-waiters"),
    ("", "--max-waiters"),
];
const VERSIONS: &[(&str, &str)] = &[("", "VERSION"), ("-1", "VERSION"), ("18446744073709551616", "VERSION")];
const SET: &[&str] = &["rules", "set", "p"];
const PIN: &[&str] = &["counters", "pin", "p"];
const SERVE: &[&str] = &["serve", "no-such.wasm"];
const EXPLAIN: &[&str] = &["explain", "s"];

const ARGUMENTS: &[Argument] = &[
    Argument {
        command: &["rules", "list"],
        option: "--admin",
        good: &[],
        bad: &[
            ("", "is not an http URL"),
            ("127.0.0.1:9070", "is not an http URL"),
            ("https://127.0.0.1:9070", "is not an http URL"),
            ("http://", "is not an http URL"),
            ("http://a b", "is not an http URL"),
        ],
    },
    Argument { command: SERVE, option: "--shutdown-timeout", good: &[], bad: DURATIONS },
    Argument {
        command: SERVE,
        option: "--workers",
        good: &[],
        bad: &[
            ("", "--workers"),
            ("0", "1..=1024"),
            ("1025", "1..=1024"),
            ("18446744073709551616", "--workers"),
            ("-1", "--workers"),
        ],
    },
    Argument {
        command: SERVE,
        option: "--listen",
        good: &[],
        bad: &[
            ("", "--listen"),
            ("localhost:1", "like 127.0.0.1:8080"),
            ("8080", "like 127.0.0.1:8080"),
            ("127.0.0.1", "--listen"),
            ("127.0.0.1:65536", "--listen"),
        ],
    },
    Argument { command: SERVE, option: "--admin-listen", good: &[], bad: &[("[::1]", "--admin-listen")] },
    Argument { command: SERVE, option: "--log", good: &[], bad: &[("a=b=c", "is not a filter")] },
    Argument { command: SERVE, option: "--log-format", good: &[], bad: &[("", "text, json"), ("xml", "text, json")] },
    Argument {
        command: &["demo"],
        option: "--seconds",
        good: &[],
        bad: &[
            ("0", "1..=86400"),
            ("86401", "1..=86400"),
            ("-1", "--seconds"),
            ("4294967296", "--seconds"),
            ("", "--seconds"),
        ],
    },
    Argument {
        command: SET,
        option: "--concurrency",
        good: &["0", "1", "4294967295", "4294967295:cost"],
        bad: CONCURRENCY,
    },
    Argument { command: SET, option: "--shadow-concurrency", good: &["0", "4294967295"], bad: CONCURRENCY },
    Argument { command: SET, option: "--rate", good: &["1/1ms", "4294967295/366days"], bad: RATES },
    Argument { command: SET, option: "--shadow-rate", good: &["1/1ms"], bad: RATES },
    Argument { command: SET, option: "--max-waiters", good: &["0", "1", "1000000"], bad: WAITERS },
    Argument { command: SET, option: "--max-wait", good: &["0s", "1ns", "1day"], bad: DURATIONS },
    Argument { command: SET, option: "--max-wait", good: &[], bad: UP_TO_A_DAY },
    Argument { command: SET, option: "--max-pushback", good: &["0s", "1ns", "1day"], bad: UP_TO_A_DAY },
    Argument {
        command: SET,
        option: "--description",
        good: &["", "\u{438}\u{43c}\u{44f} \u{540d}"],
        bad: &[("a\nb", "control character U+000A at byte 1"), ("\u{1b}[31m", "control character U+001B at byte 0")],
    },
    Argument { command: &["rules", "delete", "p"], option: "--if-version", good: &[], bad: VERSIONS },
    Argument { command: &["rules", "apply", "no-such.toml"], option: "--if-book-version", good: &[], bad: VERSIONS },
    Argument {
        command: &["counters"],
        option: "--limit",
        good: &["1", "10000"],
        bad: &[("0", "1..=10000"), ("10001", "1..=10000"), ("65536", "1..=10000"), ("-1", "--limit"), ("", "--limit")],
    },
    Argument { command: PIN, option: "--concurrency", good: &["0", "4294967295"], bad: CONCURRENCY },
    Argument { command: PIN, option: "--rate", good: &["1/1ms", "4294967295/366days"], bad: RATES },
    Argument { command: PIN, option: "--max-waiters", good: &["0", "1000000"], bad: WAITERS },
    Argument { command: PIN, option: "--max-wait", good: &["0s", "1day"], bad: UP_TO_A_DAY },
    Argument { command: PIN, option: "--max-pushback", good: &["0s", "1day"], bad: UP_TO_A_DAY },
    Argument { command: &["counters", "drain", "p", "--wait"], option: "--timeout", good: &[], bad: DURATIONS },
    Argument { command: EXPLAIN, option: "--cost", good: &["1", "4294967295"], bad: COSTS },
    Argument { command: EXPLAIN, option: "--priority", good: &["0", "255"], bad: PRIORITIES },
    Argument { command: EXPLAIN, option: "--max-wait", good: &["0s", "1ns", "99999999999years"], bad: DURATIONS },
    Argument { command: EXPLAIN, option: "--weight", good: &["1", "1000"], bad: WEIGHTS },
    Argument { command: EXPLAIN, option: "--count", good: &["1", "1000"], bad: BATCHES },
    Argument { command: EXPLAIN, option: "--least", good: &["1"], bad: BATCHES },
    Argument { command: EXPLAIN, option: "--flow-control", good: &["k:concurrency=1"], bad: FLOW_CONTROLS },
];

/// Texts that are to be names: the command before them, the option, and what is before the text in it.
const TEXTS: &[(&[&str], &str, &str)] = &[
    (&["rules", "set", "--unlimited"], "", ""),
    (&["rules", "set", "--unlimited"], "", "a/*/"),
    (&["rules", "enable"], "", ""),
    (&["rules", "disable"], "", "a/"),
    (&["rules", "delete"], "", "*/"),
    (&["counters", "pause"], "", ""),
    (&["counters", "resume"], "", "a/"),
    (&["counters", "unpin"], "", "a#"),
    (&["counters", "reset"], "", "a/b/"),
    (&["counters", "drain"], "", ""),
    (&["counters", "pin", "--concurrency=1"], "", ""),
    (&["explain"], "", ""),
    (&["explain"], "", "a/"),
    (EXPLAIN, "", ""),
    (EXPLAIN, "--also", "a/"),
    (EXPLAIN, "--fairness-key", ""),
];

/// What the server has that a command could change.
fn state(serving: &Serving) -> String {
    let agent = ureq::Agent::config_builder().timeout_global(Some(HANG)).build().new_agent();
    let mut state = String::new();
    for path in ["/v1/rules", "/v1/counters?limit=10000"] {
        let mut answer = agent.get(format!("{}{path}", serving.admin)).call().expect("an answer");
        state.push_str(&answer.body_mut().read_to_string().expect("text"));
    }
    state
}

fn arguments(command: &[&str], option: &str, value: &str) -> Vec<String> {
    let mut arguments: Vec<String> = command.iter().map(|part| (*part).to_owned()).collect();
    // What begins with a dash is a value here.
    arguments.extend(if option.is_empty() {
        vec!["--".to_owned(), value.to_owned()]
    } else {
        vec![format!("{option}={value}")]
    });
    arguments
}

#[test]
fn arguments_are_taken_up_to_their_bounds_and_refused_past_them() {
    let serving = Serving::demo();
    let texts = |arguments: &[String]| serving.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    for Argument { command, option, good, bad } in ARGUMENTS {
        for value in *good {
            texts(&arguments(command, option, value)).ok();
        }
        let before = state(&serving);
        for (value, says) in *bad {
            texts(&arguments(command, option, value)).fails(2, &[says]);
        }
        assert_eq!(state(&serving), before, "{command:?} {option}");
    }
    let before = state(&serving);
    for (command, option, prefix) in TEXTS {
        // No argument can have a NUL.
        for (text, says) in not_names().into_iter().chain(control_bytes().into_iter().skip(1)) {
            texts(&arguments(command, option, &format!("{prefix}{text}"))).fails(2, &[says]);
        }
    }
    for (arguments, says) in [
        (&["rules", "set", "a/b/c/d", "--unlimited"][..], "4 parts"),
        (&["rules", "set", "p", "--description", &"x".repeat(1025)], "1025 bytes long: the most is 1024"),
        (&["counters", "pause", "a#b/c"], "has the byte `/`"),
        (&["explain", "a/b/c/d"], "4 parts"),
    ] {
        serving.run(arguments).fails(2, &[says]);
    }
    // Said well, and refused: it is another version.
    for version in ["0", "18446744073709551615"] {
        serving.run(&["rules", "delete", "p", "--if-version", version]).fails(1, &["version"]);
    }
    assert_eq!(state(&serving), before);
    for name in names() {
        for arguments in [
            &["rules", "set", "--unlimited", "--", &name][..],
            &["counters", "pause", "--", &name],
            &["explain", &format!("--fairness-key={name}"), "--", &name],
            &["counters", "--", &name],
        ] {
            serving.run(arguments).ok();
        }
    }
}

/// Fields of `[server]`, of a `[[component]]` and of a `[[rule]]`: what is not accepted, and what is said of it.
const SERVER: &[(&str, &[(&str, &str)])] = &[
    ("listen", &[("\"\"", "socket address"), ("\"127.0.0.1:65536\"", "socket address"), ("8080", "invalid type")]),
    ("admin", &[("\"localhost\"", "like 127.0.0.1:8080")]),
    (
        "shutdown-timeout",
        &[
            ("\"\"", "empty"),
            ("\"soon\"", "is not a duration"),
            ("\"999999999999s\"", "it is too long"),
            ("10", "invalid type"),
        ],
    ),
    (
        "workers",
        &[
            ("0", "from 1 "),
            ("-1", "from 1 "),
            ("1025", "workers: 1025 is too many: at most 1024"),
            ("9223372036854775807", "is too many: at most 1024"),
            ("9223372036854775808", ""),
            ("1.5", "from 1 "),
        ],
    ),
];
const COMPONENT: &[(&str, &[(&str, &str)])] = &[
    (
        "path",
        &[
            ("\"none.wasm\"", "path: there is no file"),
            ("\"a\\u0000\"", "path: there is no file"),
            ("1", "invalid type"),
        ],
    ),
    (
        "route",
        &[
            ("\"\"", "it does not begin with `/`"),
            ("\"a\"", "it does not begin with `/`"),
            ("\"/a b\"", "it has a byte that no path can have"),
            ("\"/\u{e9}\"", "it has a byte that no path can have"),
            ("\"/a\\u0000\"", "it has a byte that no path can have"),
            ("\"/weir/x\"", "belongs to the server"),
        ],
    ),
    (
        "allow-scopes",
        &[("[\"a\", \"\"]", "the scope is empty"), ("[\"a/*\"]", "has the byte `/`"), ("\"*\"", "invalid type")],
    ),
    (
        "allow-outbound",
        &[
            ("[\"\"]", "allow-outbound: `` is no host"),
            ("[\"a\", \"http://a\"]", "allow-outbound: `http://a` is no host"),
            ("[\"a:0\"]", "is no host"),
            ("[\"a:65536\"]", "is no host"),
            ("[\"\u{e9}\"]", "is no host"),
            ("[\"a\\n\"]", "is no host"),
        ],
    ),
    ("max-instances", &[("0", "from 1 "), ("-1", "from 1 "), ("1.5", "from 1 ")]),
    ("max-waiting-in-guest", &[("-1", "invalid value"), ("1.5", "invalid type")]),
    (
        "memory",
        &[
            ("0", "a memory of 0 bytes is out of bounds: 64KiB to 4GiB"),
            ("-1", "a memory of -1 bytes is out of bounds"),
            ("\"64\"", "a memory of 64 bytes is out of bounds: 64KiB to 4GiB (write MiB"),
            ("4294967297", "out of bounds: 64KiB to 4GiB"),
            ("\"0B\"", "a memory of 0 bytes"),
            ("\"5GiB\"", "out of bounds: 64KiB to 4GiB"),
            ("\"99999EiB\"", "out of bounds: 64KiB to 4GiB"),
            ("\"\"", "`` is not a size: write it like"),
            ("\"much\"", "`much` is not a size"),
            ("true", "a size such as"),
        ],
    ),
    (
        "cpu",
        &[
            ("\"0s\"", "cpu: it is 0"),
            ("\"\"", "empty"),
            ("\"999999999999s\"", "it is too long"),
            ("5", "invalid type"),
        ],
    ),
    ("deadline", &[("\"0s\"", "deadline: it is 0"), ("\"-1s\"", "is not a duration")]),
    (
        "environment",
        &[
            ("{ \"\" = \"a\" }", "environment: a name is empty"),
            ("{ \"a=b\" = \"a\" }", "environment: a name is empty, or has a `=`"),
            ("{ \"a\\u0000\" = \"a\" }", "or a NUL"),
            ("{ A = \"a\\u0000\" }", "the value of `A` has a NUL"),
            ("{ A = 1 }", "invalid type"),
        ],
    ),
    ("isolate", &[("1", "invalid type")]),
];
const RULE: &[(&str, &[(&str, &str)])] = &[
    (
        "concurrency",
        &[
            ("-1", "the least is 0"),
            ("4294967296", "the most is 4294967295"),
            ("9223372036854775807", "the most is 4294967295"),
            ("\"\"", "write a number from 0 to 4294967295"),
            ("1.5", "a concurrency limit: a number from 0"),
        ],
    ),
    (
        "rates",
        &[
            ("[\"0/1m\"]", "is not a number from 1 to 4294967295"),
            ("[\"4294967296/1m\"]", "is not a number from 1 to 4294967295"),
            ("[\"1/999us\"]", "out of bounds: 1ms to 366days"),
            ("[\"1/367days\"]", "out of bounds: 1ms to 366days"),
            ("[\"1/1s\", \"1/2s\", \"1/3s\", \"1/4s\", \"1/5s\"]", "5 rates: a rule has at most 4"),
            ("[{ limit = 0, period = \"1m\" }]", "from 1 "),
            ("[{ limit = 4294967296, period = \"1m\" }]", "invalid value"),
            ("[{ limit = 1, period = \"1m\", mode = \"smooth\", burst = 0 }]", "from 1 "),
            ("\"1/1m\"", "invalid type"),
        ],
    ),
    (
        "max-waiters",
        &[("1000001", "is too many: at most 1000000"), ("-1", "invalid value"), ("4294967296", "invalid value")],
    ),
    ("max-wait", &[("\"1day 1ns\"", "too long: at most 1day"), ("\"\"", "empty"), ("30", "invalid type")]),
    ("max-pushback", &[("\"1day 1ns\"", "too long: at most 1day")]),
    (
        "shadow-limits",
        &[("{ concurrency = -1 }", "the least is 0"), ("{ max-wait = \"2days\" }", "too long: at most 1day")],
    ),
    (
        "description",
        &[("\"a\\nb\"", "control character U+000A at byte 1"), ("\"\\u001b[31m\"", "U+001B"), ("1", "invalid type")],
    ),
    ("total", &[("true", "patterns with `*`"), ("1", "invalid type")]),
    ("disabled", &[("\"yes\"", "invalid type")]),
];

#[test]
fn a_file_that_says_too_much_is_2_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let component = format!("[[component]]\nname = \"a\"\npath = {WASM:?}\n");
    let refused = |text: String, line: usize, says: &str| {
        let config = file(folder.path(), "weir.toml", &text);
        for command in
            [&["serve", "-c", &config][..], &["simulate", "-c", &config, "--poisson", "a=1/s", "--seconds", "1"]]
        {
            // Without a server there is nothing to say of its part and of components.
            if command[0] == "simulate" && !text.contains("[[rule]]") {
                continue;
            }
            let run = run(command);
            run.fails(2, &[&format!("weir.toml:{line}:"), says]);
            assert_eq!(run.out, "", "{text}");
        }
    };
    for (field, bad) in SERVER {
        for (value, says) in *bad {
            refused(format!("[server]\n{field} = {value}\n{component}"), 2, says);
        }
    }
    for (field, bad) in COMPONENT {
        for (value, says) in *bad {
            let path = if *field == "path" { String::new() } else { format!("path = {WASM:?}\n") };
            let line = if path.is_empty() { 3 } else { 4 };
            refused(format!("[[component]]\nname = \"a\"\n{path}{field} = {value}\n"), line, says);
        }
    }
    for (field, bad) in RULE {
        for (value, says) in *bad {
            let text = format!("{component}[[rule]]\npattern = \"p\"\n{field} = {value}\n");
            refused(text, 6, says);
        }
    }
    for (text, says) in not_names() {
        let quoted = format!("{text:?}");
        let quoted = quoted.replace("\\u{202e}", "\\u202e");
        for field in ["scope", "ingress-scope"] {
            refused(format!("{component}{field} = {quoted}\n"), 4, says);
        }
        refused(format!("[[component]]\nname = {quoted}\npath = {WASM:?}\n"), 2, says);
        for prefix in ["", "a/"] {
            let pattern = quoted.replacen('"', &format!("\"{prefix}"), 1);
            refused(format!("{component}[[rule]]\npattern = {pattern}\n"), 5, says);
        }
    }
    for text in
        ["", "\u{0}", "[[component]]", "\u{feff}", "a = [", &"[".repeat(10_000), &format!("a = {}", "[".repeat(10_000))]
    {
        let config = file(folder.path(), "weir.toml", text);
        run(&["serve", "-c", &config]).fails(2, &["weir.toml"]);
    }
    let bytes = file(folder.path(), "weir.toml", b"\xff\xfe");
    run(&["serve", "-c", &bytes]).fails(2, &["weir.toml:1:1: ", "UTF-8", "0xff"]);
    let bytes = file(folder.path(), "weir.toml", b"[server]\n# caf\xe9\n");
    run(&["serve", "-c", &bytes]).fails(2, &["weir.toml:2:6: ", "UTF-8", "0xe9"]);
    let mut command = weir(&["serve", "-c"]);
    end({
        command.arg(folder.path());
        command
    })
    .fails(2, &["cannot read the configuration"]);
}
