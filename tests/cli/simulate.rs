//! `weir simulate`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Run, file, run, signal, weir};

const RULES: &str = r#"
[[rule]]
pattern = "one"
concurrency = 1

[[rule]]
pattern = "four"
concurrency = 4
max-waiters = 1000000
max-wait = "1h"

[[rule]]
pattern = "pool"
concurrency = 2

[[rule]]
pattern = "model/*"
rates = ["3/1m"]

[[rule]]
pattern = "tokens"
concurrency = "10:cost"
rates = ["100/1s:smooth:burst=20:cost"]
max-waiters = 5

[[rule]]
pattern = "shut"
concurrency = 0

# A simulation loads no component: it need not be built yet.
[[component]]
name = "hello"
path = "not-there.wasm"
"#;

/// A folder with a configuration.
struct Folder {
    folder: TempDir,
    config: String,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = file(folder.path(), "weir.toml", RULES);
        Self { folder, config }
    }

    fn run(&self, arguments: &[&str]) -> Run {
        run(&[&["simulate", "-c", &self.config], arguments].concat())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        file(self.folder.path(), name, content)
    }

    /// What a trace comes to.
    fn trace(&self, name: &str, content: &str, seconds: &str) -> Value {
        self.run(&["--trace", &self.file(name, content), "--seconds", seconds, "--json"]).json()
    }
}

#[track_caller]
fn of<'a>(report: &'a Value, key: &str) -> &'a Value {
    let keys = report["keys"].as_array().expect("keys");
    keys.iter().find(|found| found["key"] == key).unwrap_or_else(|| panic!("no {key}: {report}"))
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[track_caller]
fn time(value: &Value) -> Duration {
    weir_engine::parse_duration(value.as_str().unwrap_or_else(|| panic!("no text: {value}"))).expect("a duration")
}

#[track_caller]
fn near(found: f64, expected: f64, off: f64) {
    assert!((found / expected - 1.0).abs() < off, "{found} is not within {off} of {expected}");
}

/// Whoever came was granted, was refused, or still waits; the reasons and the fairness keys add up.
#[track_caller]
fn conserved(report: &Value) {
    for key in report["keys"].as_array().expect("keys") {
        let count = |name: &str| key[name].as_u64().unwrap_or_else(|| panic!("no {name}: {key}"));
        assert_eq!(count("arrivals"), count("granted") + count("refused") + count("waiting"), "{key}");
        let reasons: u64 = key["reasons"].as_object().expect("reasons").values().map(|n| n.as_u64().expect("n")).sum();
        assert_eq!(count("refused"), reasons, "{key}");
        let shares = key["fairness"].as_array().expect("fairness");
        for name in ["arrivals", "granted"] {
            assert_eq!(shares.iter().map(|share| share[name].as_u64().expect("a number")).sum::<u64>(), count(name));
        }
    }
}

#[test]
fn a_table_says_what_became_of_each_key() {
    let folder = Folder::new();
    let load = ["--poisson", "model/gpt=0.1/s,max-wait=1s", "--poisson", "one=5/s,hold=100ms", "--seconds", "600"];
    let run = folder.run(&[&load[..], &["--seed", "4"]].concat());
    assert_eq!(run.err, "seed 4\n", "standard error is talk");
    let text = run.ok();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..5], ["KEY", "RULE", "ARRIVALS", "GRANTED", "REFUSED"], "{text}");
    let heads: Vec<&[&str]> = lines[1..].iter().map(|line| &line[..2]).collect();
    assert_eq!(heads, [["model", "-"], ["model/gpt", "model/*"], ["one", "one"]], "{text}");
    assert!(text.contains(" timed-out ") && text.contains(" of 3/1m") && text.contains(" of 1 ("), "{text}");
}

#[test]
fn json_has_the_same_and_adds_up() {
    let folder = Folder::new();
    let load = [
        "one=15/s,hold=100ms,max-wait=300ms",
        "one=5/s,fairness=vip:10,priority=200",
        "four=30/s,hold=fixed:100ms",
        "model/gpt=1/s",
        "model/gpt/eu=1/s,hold=5s",
        "tokens=40/s,cost=3,hold=50ms",
        "tokens=1/s,cost=11",
        "shut=1/s",
        "free/to/all=100/s",
    ];
    let report = folder
        .run(&[&["--poisson"], &load[..], &["--seconds", "300", "--seed", "18446744073709551615", "--json"]].concat())
        .json();
    conserved(&report);
    assert_eq!((&report["seconds"], &report["seed"]), (&300.0.into(), &u64::MAX.into()));
    let reasons =
        |key: &str| of(&report, key)["reasons"].as_object().expect("reasons").keys().cloned().collect::<Vec<_>>();
    assert_eq!(reasons("one"), ["timed-out"]);
    assert_eq!(reasons("tokens"), ["overloaded", "too-large"]);
    assert_eq!((reasons("free").len(), of(&report, "shut")["granted"].as_u64()), (0, Some(0)));
    assert!(of(&report, "shut")["waiting"].as_u64() > Some(0), "who waits at the end is told");
    assert_eq!(of(&report, "tokens")["in-use"]["limit"], "10:cost");
    // Two levels of one key are counted by both.
    assert_eq!(of(&report, "model/gpt")["arrivals"], of(&report, "model")["arrivals"]);
    assert!(of(&report, "model/gpt/eu")["arrivals"].as_u64() < of(&report, "model/gpt")["arrivals"].as_u64());
    for key in report["keys"].as_array().unwrap() {
        let wait = |name: &str| time(&key["wait"][name]);
        assert!(wait("p50") <= wait("p95") && wait("p95") <= wait("p99") && wait("p99") <= wait("max"), "{key}");
        assert!(key["in-use"]["share"].as_f64().is_none_or(|share| share <= 1.0), "never over: {key}");
        for rate in key["rates"].as_array().unwrap() {
            assert!(number(&rate["share"]) <= 1.0, "never over: {key}");
        }
    }
}

#[test]
fn one_seed_gives_one_output_and_another_another() {
    let folder = Folder::new();
    let output = |seed: &str, form: &[&str]| {
        let svg = folder.folder.path().join(format!("{seed}.svg"));
        let load = ["--poisson", "one=9/s", "pool=50/s,fairness=a:2", "pool=50/s,fairness=b", "--seconds", "100"];
        let out = folder.run(&[&load[..], &["--seed", seed, "--svg", svg.to_str().unwrap()], form].concat()).ok();
        (out, std::fs::read(svg).expect("a chart"))
    };
    for form in [&[][..], &["--json"]] {
        assert_eq!(output("1", form), output("1", form));
        assert_ne!(output("1", form), output("2", form));
    }
    // Without a seed it tells the one it took, and that gives the same again.
    let load = ["--poisson", "one=9/s", "--seconds", "100"];
    let random = folder.run(&load);
    let seed = random.err.trim().strip_prefix("seed ").expect("a seed").to_owned();
    assert_eq!(folder.run(&[&load[..], &["--seed", &seed]].concat()).ok(), random.out);
}

#[test]
fn a_source_more_changes_no_other() {
    let folder = Folder::new();
    let report = |load: &[&str]| {
        folder.run(&[&["--poisson"], load, &["--seconds", "200", "--seed", "3", "--json"]].concat()).json()
    };
    let alone = report(&["one=7/s"]);
    let second = report(&["pool=7/s", "one=7/s", "four=9/s"]);
    assert_eq!(of(&alone, "one"), of(&second, "one"));
    // Nor does another hold change who arrives when, and twins are not the same.
    let longer = report(&["one=7/s,hold=fixed:1ms"]);
    assert_eq!(of(&alone, "one")["arrivals"], of(&longer, "one")["arrivals"]);
    let (one, twins) = (report(&["free=7/s"]), report(&["free=7/s", "free=7/s"]));
    let twice = of(&one, "free")["arrivals"].as_u64().map(|arrivals| arrivals * 2);
    assert_ne!(of(&twins, "free")["arrivals"].as_u64(), twice);
}

/// Erlang C: the share of arrivals that wait for one of `servers` at an offered load of `load` Erlang.
fn erlang_c(servers: u32, load: f64) -> f64 {
    let term = |n: u32| (1..=n).fold(1.0, |term, k| term * load / f64::from(k));
    let all_busy = term(servers) / (1.0 - load / f64::from(servers));
    all_busy / ((0..servers).map(term).sum::<f64>() + all_busy)
}

#[test]
fn waits_are_those_of_the_theory_of_queues() {
    let folder = Folder::new();
    let report = folder
        .run(&[
            "--poisson",
            "four=32/s,hold=100ms",
            "one=6/s,hold=fixed:100ms",
            "--seconds",
            "20000",
            "--seed",
            "1",
            "--json",
        ])
        .json();
    // M/M/4: waits of those who wait are exponential, with what is to spare as their rate.
    let (waiting, spare) = (erlang_c(4, 3.2), 4.0 / 0.1 - 32.0);
    let four = of(&report, "four");
    near(time(&four["wait"]["mean"]).as_secs_f64(), waiting / spare, 0.05);
    near(time(&four["wait"]["p95"]).as_secs_f64(), (waiting / 0.05).ln() / spare, 0.05);
    near(time(&four["wait"]["p99"]).as_secs_f64(), (waiting / 0.01).ln() / spare, 0.08);
    near(number(&four["in-use"]["mean"]), 3.2, 0.01);
    near(number(&four["in-use"]["share"]), 0.8, 0.01);
    near(number(&four["granted-per-second"]), 32.0, 0.01);
    // M/D/1, by Pollaczek and Khinchine.
    let one = of(&report, "one");
    near(time(&one["wait"]["mean"]).as_secs_f64(), 0.6 * 0.1 / (2.0 * 0.4), 0.05);
    near(number(&one["in-use"]["share"]), 0.6, 0.01);
}

#[test]
fn under_overload_fairness_keys_share_by_weight() {
    let folder = Folder::new();
    let report = folder
        .run(&[
            "--poisson",
            "pool=100/s,hold=50ms,max-wait=5s,fairness=gold:3",
            "pool=100/s,hold=50ms,max-wait=5s,fairness=free:1",
            "--seconds",
            "1000",
            "--seed",
            "1",
            "--json",
        ])
        .json();
    conserved(&report);
    let pool = of(&report, "pool");
    let names: Vec<&Value> = pool["fairness"].as_array().unwrap().iter().map(|share| &share["key"]).collect();
    assert_eq!(names, ["free", "gold"]);
    near(number(&pool["fairness"][1]["share"]), 0.75, 0.01);
    near(number(&pool["fairness"][0]["share"]), 0.25, 0.03);
    assert!(number(&pool["fairness-index"]) > 0.999, "{pool}");
    near(number(&pool["in-use"]["share"]), 1.0, 0.001);
}

/// Four at a concurrency of 1 for a second each: granted at 0 s, 1 s and 2 s; the third to come gives up at 0.8 s.
const CSV: &str = "at,key,hold,max-wait\n0,one,1s,\n0.5,one,1s,\n600ms,one,1,200ms\n0.7,one,1s,1m\n";

#[test]
fn a_trace_comes_to_what_can_be_reckoned_by_hand() {
    let folder = Folder::new();
    let report = folder.trace("a.csv", CSV, "4");
    conserved(&report);
    let one = of(&report, "one");
    assert_eq!(
        (&one["arrivals"], &one["granted"], &one["reasons"]),
        (&4.into(), &3.into(), &serde_json::json!({"timed-out": 1}))
    );
    let wait = |name: &str| time(&one["wait"][name]);
    assert_eq!((wait("mean"), wait("max")), (Duration::from_millis(600), Duration::from_millis(1300)));
    near(wait("p50").as_secs_f64(), 0.5, 0.01);
    assert_eq!(number(&one["in-use"]["mean"]), 0.75);
    assert_eq!(report.get("seed"), None, "nothing is random");

    // Cut at 1.5 s, the fourth still waits and the second is under way.
    let cut = folder.trace("a.csv", CSV, "1.5");
    let one = of(&cut, "one");
    assert_eq!((&one["granted"], &one["refused"], &one["waiting"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!(number(&one["in-use"]["share"]), 1.0);
    // What comes at the end is after it.
    assert_eq!(of(&folder.trace("a.csv", CSV, "0.6"), "one")["arrivals"], 2);
}

#[test]
fn what_a_trace_has_after_the_end_is_told() {
    let folder = Folder::new();
    let csv = folder.file("a.csv", CSV);
    let json = folder.file(
        "a.jsonl",
        "{\"at\": 0, \"key\": \"one\", \"hold\": 1}\n\n{\"at\": 9, \"key\": \"one\", \"hold\": 1}\n\n",
    );
    for (trace, seconds, note) in [
        (&csv, "4", ""),
        (&csv, "0.7", "note: the trace goes on after the 700ms that are simulated, at 700ms\n"),
        (&csv, "0.65", "note: the trace goes on after the 650ms that are simulated, at 700ms\n"),
        (&json, "9", "note: the trace goes on after the 9s that are simulated, at 9s\n"),
    ] {
        for form in [&[][..], &["--json"]] {
            let run = folder.run(&[&["--trace", trace, "--seconds", seconds], form].concat());
            assert_eq!(run.err, note, "{trace} {seconds} {form:?}");
            assert!(!run.ok().contains("note"), "it is talk");
        }
    }
}

#[test]
fn a_trace_may_be_csv_or_json() {
    let folder = Folder::new();
    let csv = folder.trace("a.csv", CSV, "4");
    let lines = r#"{"at": 0, "key": "one", "hold": "1s"}

{"hold": 1.0, "at": "500ms", "key": "one"}
{"at": 0.6, "key": "one", "hold": 1, "max-wait": "200ms", "fairness": null}
{"at": "0.7", "key": "one", "hold": "1s", "max-wait": 60}
"#;
    assert_eq!(folder.trace("a.jsonl", lines, "4"), csv);
    let quoted = "\"hold\" , key,at,cost,priority,fairness,weight\n1s,one,0,1,128,,\n1s,\"tokens\",0,7,3,gold,3\n";
    let report = folder.trace("b.csv", quoted, "4");
    assert_eq!(
        of(&report, "tokens")["fairness"][0],
        serde_json::json!({
            "key": "gold", "weight": 3, "arrivals": 1, "granted": 1, "cost": 7, "share": 1.0
        })
    );
}

#[test]
fn a_rate_is_used_to_its_share() {
    let folder = Folder::new();
    let lines: String = (0..5).map(|at| format!("{at},model/gpt,0s\n")).collect();
    let report = folder.trace("a.csv", &format!("at,key,hold\n{lines}"), "60.5");
    let model = of(&report, "model/gpt");
    // Three at once, the fourth when the first has left the window, at 60 s; the fifth would be at 61 s.
    assert_eq!((&model["granted"], &model["waiting"]), (&4.into(), &1.into()));
    assert_eq!(time(&model["wait"]["max"]), Duration::from_secs(57));
    assert_eq!(model["rates"][0], serde_json::json!({"rate": "3/1m", "started": 4, "share": 4.0 / 6.0}));
}

/// Three one after the other, each under a key of its own: what made them wait is what they have together.
const POOLED: &str = "at,key,hold\n0,p/a,2s\n0,p/b,2s\n0,p/c/x,2s\n";

#[test]
fn a_pool_has_a_row_of_its_own() {
    let folder = Folder::new();
    let rules = "[[rule]]\npattern = \"p/*\"\ntotal = true\nconcurrency = 1\nrates = [\"3/1m\"]\n\
                 [[rule]]\npattern = \"*\"\ntotal = true\nconcurrency = 9\n\
                 [[rule]]\npattern = \"q/*\"\ntotal = true\nconcurrency = 9\n\
                 [[rule]]\npattern = \"*/*\"\ntotal = true\nconcurrency = 0\ndisabled = true\n";
    let config = file(folder.folder.path(), "pools.toml", rules);
    let simulate = |form: &[&str]| {
        let trace = folder.file("pools.csv", POOLED);
        run(&[&["simulate", "-c", &config, "--trace", &trace, "--seconds", "10"], form].concat())
    };
    let report = simulate(&["--json"]).json();
    conserved(&report);
    let pools = report["pools"].as_array().expect("pools");
    let names: Vec<&Value> = pools.iter().map(|pool| &pool["key"]).collect();
    assert_eq!(names, ["*", "p/*"], "those that somebody takes from, and that are enabled");
    let pool = &pools[1];
    assert_eq!((&pool["pattern"], &pool["arrivals"], &pool["granted"]), (&"p/*".into(), &3.into(), &3.into()));
    assert_eq!(time(&pool["wait"]["max"]), Duration::from_secs(4));
    assert_eq!(pool["in-use"], serde_json::json!({"mean": 0.6, "limit": 1, "share": 0.6}));
    assert_eq!(pool["rates"][0], serde_json::json!({"rate": "3/1m", "started": 3, "share": 1.0}));
    assert_eq!(of(&report, "p/a")["pattern"], Value::Null, "it binds none of them alone");
    assert_eq!(report.get("shadow"), None);

    let text = simulate(&[]).ok();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = lines.iter().find(|line| line.first() == Some(&"p/*")).unwrap_or_else(|| panic!("no pool: {text}"));
    assert_eq!(row[..6], ["p/*", "p/*", "3", "3", "0", "0"], "{text}");
    assert!(text.contains("0.60 of 1 (60.0%)"), "{text}");
}

#[test]
fn shadow_limits_tell_what_they_would_have_refused() {
    let folder = Folder::new();
    let rules = "[[rule]]\npattern = \"s\"\nshadow-limits = { concurrency = 1 }\n\
                 [[rule]]\npattern = \"p/*\"\ntotal = true\nshadow-limits = { concurrency = 1 }\n\
                 [[rule]]\npattern = \"other\"\nshadow-limits = { concurrency = 1 }\n";
    let config = file(folder.folder.path(), "shadow.toml", rules);
    // The counters are forgotten between the minutes; two of three are one too many in each, and one of two in the pool.
    let minutes: String = (0..5)
        .map(|minute| minute * 60)
        .map(|at| format!("{at},s,1s\n{at},s,1s\n{at},s,1s\n{at},p/a,1s\n{at},p/b,1s\n"))
        .collect();
    let trace = folder.file("shadow.csv", format!("at,key,hold\n{minutes}"));
    let arguments = ["simulate", "-c", &config, "--trace", &trace, "--seconds", "300"];
    let report = run(&[&arguments[..], &["--json"]].concat()).json();
    conserved(&report);
    assert_eq!(report["shadow"], serde_json::json!({"patterns": ["p/*", "s"], "would-refuse": 15}));
    assert_eq!((&of(&report, "s")["granted"], &of(&report, "s")["refused"]), (&15.into(), &0.into()));
    let text = run(&arguments).ok();
    let last: Vec<Vec<&str>> = text.lines().rev().take(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(last, [vec!["p/*,", "s", "15"], vec!["SHADOW", "LIMITS", "OF", "WOULD", "REFUSE"]], "{text}");
}

#[test]
fn a_chart_has_the_lines_of_the_keys() {
    let folder = Folder::new();
    let svg = folder.folder.path().join("chart.svg");
    let path = svg.to_str().unwrap();
    let load = ["--poisson", "one=9/s", "model/gpt=1/s", "--seconds", "60", "--seed", "1"];
    let run = folder.run(&[&load[..], &["--svg", path]].concat());
    assert!(run.ok().starts_with("KEY"), "the table is printed besides");
    let chart = std::fs::read_to_string(&svg).expect("a chart");
    assert!(chart.starts_with("<svg ") && chart.trim_end().ends_with("</svg>"), "{chart}");
    for part in ["\none\n", "\nmodel/gpt\n", "wait of those granted", "in use", "\n60s\n"] {
        assert!(chart.contains(part), "`{part}` is missing");
    }
    assert!(chart.matches("<polyline").count() >= 3, "axes alone");

    let nowhere = folder.folder.path().join("no/such/folder/chart.svg");
    let run = folder.run(&[&load[..], &["--svg", nowhere.to_str().unwrap()]].concat());
    run.fails(1, &["chart.svg", "cannot write the chart"]);
    assert!(run.out.starts_with("KEY"), "what was found is not lost");
}

#[test]
fn wrong_loads_and_lengths_are_2_and_say_what_to_write() {
    let folder = Folder::new();
    for (spec, part) in [
        ("one", "KEY=RATE/s"),
        ("=1/s", "scope is empty"),
        ("a b=1/s", "0x20"),
        ("a/b/c/d=1/s", "parts"),
        ("one=1", "write it like 50/s"),
        ("one=fast/s", "write it like 50/s"),
        ("one=0/s", "more than 0"),
        ("one=-1/s", "more than 0"),
        ("one=NaN/s", "more than 0"),
        ("one=inf/s", "out of bounds"),
        ("one=1000001/s", "at most 1000000 a second"),
        ("one=1/0s", "out of bounds"),
        ("one=1/soon", "`soon` is not a duration"),
        ("one=1/s,hold=-1s", "hold: `-1s` is not a duration"),
        ("one=1/s,hold=fixed:", "hold: "),
        ("one=1/s,hold=367days", "at most 366days"),
        ("one=1/s,cost=0", "cost: `0` is not a number from 1"),
        ("one=1/s,cost=4294967296", "cost: "),
        ("one=1/s,priority=256", "from 0 to 255"),
        ("one=1/s,fairness=a:1001", "weight: `1001` is not a number from 1 to 1000"),
        ("one=1/s,fairness=a:0", "weight: `0`"),
        ("one=1/s,fairness=:3", "fairness key is empty"),
        ("one=1/s,fairness=a b", "fairness: "),
        ("one=1/s,max-wait=25h", "max-wait: 1day 1h is too long"),
        ("one=1/s,cots=3", "`cots=3` is none of hold="),
        ("one=1/s,cost=3,cost=4", "cost is said twice"),
        ("one=1/s,", "is none of"),
    ] {
        let run = folder.run(&["--poisson", spec, "--seconds", "1"]);
        run.fails(2, &[part, "--poisson"]);
        assert_eq!(run.out, "", "{spec}");
    }
    for (seconds, part) in [
        ("0", "out of bounds"),
        ("-1", "--seconds"),
        ("NaN", "out of bounds"),
        ("inf", "out of bounds"),
        ("31622401", "366 days"),
        ("1e-10", "out of bounds"),
        ("soon", "not a number"),
    ] {
        folder.run(&["--poisson", "one=1/s", &format!("--seconds={seconds}")]).fails(2, &[part]);
    }
    folder.run(&["--seconds", "1"]).fails(2, &["--trace", "--poisson"]);
    folder.run(&["--poisson", "one=1/s"]).fails(2, &["--seconds"]);
    folder.run(&["--poisson", "one=1/s", "--trace", "a.csv", "--seconds", "1"]).fails(2, &["cannot be used with"]);
    // The bounds themselves are within.
    folder.run(&["--poisson", "one=1/366days", "--seconds", "31622400"]).ok();
    folder.run(&["--poisson", "shut=1000000/s,max-wait=0s", "--seconds", "0.001"]).ok();
}

#[test]
fn wrong_lines_of_a_trace_are_2_with_file_and_line() {
    let folder = Folder::new();
    let long = format!("at,key,hold\n0,{},1s\n", "x".repeat(70_000));
    let names: String = (0..10_001).map(|i| format!("0,one/{i},1s\n")).collect();
    for (content, parts) in [
        ("", [":1: ", "a trace begins with a header"]),
        ("at,key\n0,one\n", [":1: ", "no column `hold`"]),
        ("at,key,hold,color\n", [":1: ", "column `color`, which is none of at, key"]),
        ("at,key,hold,at\n", [":1: ", "`at` twice"]),
        ("at,key,hold\n0,one\n", [":2: ", "it has 2 cells, and the header has 3"]),
        ("at,key,hold\n\n\n0,one,1s,5\n", [":4: ", "it has 4 cells"]),
        ("at,key,hold\n0,one,1s\n,one,1s\n", [":3: ", "there is no `at`"]),
        ("at,key,hold\n0,,1s\n", [":2: ", "there is no `key`"]),
        ("at,key,hold\n0,one,\n", [":2: ", "there is no `hold`"]),
        ("at,key,hold\n1,one,1s\n0.5,one,1s\n", [":3: ", "sort the trace by `at`"]),
        ("at,key,hold\n-1,one,1s\n", [":2: ", "at: `-1` is not a number of seconds from 0 on"]),
        ("at,key,hold\nNaN,one,1s\n", [":2: ", "at: `NaN`"]),
        ("at,key,hold\nnoon,one,1s\n", [":2: ", "at: `noon` is not a duration"]),
        ("at,key,hold\n0,one,9e9\n", [":2: ", "hold: "]),
        ("at,key,hold\n0,one two,1s\n", [":2: ", "key: the scope has the byte 0x20"]),
        ("at,key,hold,cost\n0,one,1s,0\n", [":2: ", "cost: `0`"]),
        ("at,key,hold,weight\n0,one,1s,3\n", [":2: ", "weight: it belongs to a fairness key"]),
        ("at,key,hold,fairness\n0,one,1s,a/b\n", [":2: ", "fairness: "]),
        ("at,key,hold,max-wait\n0,one,1s,2days\n", [":2: ", "max-wait: 2days is too long"]),
        (&*long, [":2: ", "longer than 65536 bytes"]),
        (&*format!("at,key,hold\n{names}"), ["more than 10000", "simulate a part"]),
        ("{\"at\": 0, \"key\": \"one\"}\n", [":1: ", "there is no `hold`"]),
        ("{\"at\": 0, \"key\": \"one\", \"hold\": 1}\n{\"at\": 1\n", [":2: ", "it is not a JSON object"]),
        ("\n{\"at\": 0, \"key\": \"one\", \"hodl\": 1}\n", [":2: ", "unknown field `hodl`"]),
        ("{\"at\": true, \"key\": \"one\", \"hold\": 1}\n", [":1: ", "a text or a number"]),
        ("{\"at\": -1, \"key\": \"one\", \"hold\": 1}\n", [":1: ", "at: `-1`"]),
    ] {
        let path = folder.file("bad.csv", content);
        let run = folder.run(&["--trace", &path, "--seconds", "10"]);
        run.fails(2, &parts);
        assert!(run.err.contains("bad.csv:") || parts[0].starts_with("more"), "{}", run.err);
        assert_eq!(run.out, "", "{content}");
    }
    let text = folder.folder.path().join("latin.csv");
    std::fs::write(&text, b"at,key,hold\n0,caf\xe9,1s\n").unwrap();
    folder.run(&["--trace", text.to_str().unwrap(), "--seconds", "1"]).fails(2, &["latin.csv:2: ", "UTF-8"]);
    folder.run(&["--trace", "no-such.csv", "--seconds", "1"]).fails(2, &["no-such.csv", "cannot read the trace"]);
}

#[test]
fn rules_are_those_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let simulate = |arguments: &[&str]| {
        let mut command = weir(&["simulate", "--poisson", "a=1/s", "--seconds", "1", "--seed", "1"]);
        command.args(arguments).current_dir(folder.path());
        crate::end(command)
    };
    simulate(&[]).fails(2, &["there is no weir.toml here", "-c FILE"]);
    simulate(&["-c", "no-such.toml"]).fails(2, &["no-such.toml", "-c FILE"]);
    let bad = file(folder.path(), "bad.toml", "[[rule]]\npattern = \"a\"\nrates = [\"0/1m\"]\n");
    simulate(&["-c", &bad]).fails(2, &["bad.toml:3:", "is not a number from 1"]);
    let twice = file(folder.path(), "twice.toml", "[[rule]]\npattern = \"a\"\n[[rule]]\npattern = \"a\"\n");
    simulate(&["-c", &twice]).fails(2, &["twice.toml:4:11: ", "another rule for `a`"]);
    file(folder.path(), "weir.toml", "[[rule]]\npattern = \"a\"\nconcurrency = 7\n");
    assert_eq!(of(&simulate(&["--json"]).json(), "a")["in-use"]["limit"], 7);
    let none = file(folder.path(), "none.toml", "");
    let run = simulate(&["-c", &none]);
    assert!(run.err.contains("nothing is limited"), "{run:?}");
    run.ok();
}

#[test]
fn a_signal_ends_a_long_run_without_a_result() {
    let folder = Folder::new();
    let load = ["--poisson", "free=1000000/s", "--seconds", "31622400", "--seed", "1"];
    let mut command = weir(&[&["simulate", "-c", &folder.config], &load[..]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    // Signals are caught before it says anything.
    assert_eq!(lines.next().expect("a line").expect("text"), "seed 1");
    signal(child.id(), Signal::INT);
    let rest: String = lines.map(|line| line.expect("text") + "\n").collect();
    let output = child.wait_with_output().expect("an end");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{rest}");
    assert!(rest.contains("interrupted at 0 %") && !rest.contains('\r'), "{rest}");
}
