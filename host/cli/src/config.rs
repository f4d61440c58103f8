//! `weir.toml`: what it may say, and where it is wrong.
//!
//! ```toml
//! [server]
//! listen = "127.0.0.1:8080"          # ingress
//! admin = "127.0.0.1:9070"
//! shutdown-timeout = "10s"
//! workers = 2                        # default: one per core
//! data = "data"                      # a directory for what survives; default: memory only
//! durability = "process"             # or "power"
//! tokens = "tokens.json"             # relative to this file
//! lease-api = true
//!
//! [[component]]
//! name = "hello"
//! path = "hello.wasm"                # relative to this file
//! route = "/hello/..."               # default: "/{name}/..."
//! scope = "hello"                    # of its own acquires; default: its name
//! ingress-scope = "hello"            # plain requests are under it; default: free
//! allow-scopes = ["provider"]        # others that it may acquire under
//! allow-outbound = ["api.example.com", "*.example.org:8443"]
//! isolate = false                    # one request per instance at a time
//! max-instances = 250
//! max-waiting-in-guest = 187
//! memory = "64MiB"
//! cpu = "5s"
//! deadline = "60s"
//! environment = { MODE = "test" }
//!
//! [[egress]]
//! host = "api.example.com"           # or "host:port", "*.host"
//! scope = "example"                  # default: the host
//! limit-key = "{component}/{header:x-model}"
//! cost = "{header:x-cost}"           # or a number; default: 1
//! max-wait = "10s"
//! concurrency = 5                    # a rule of its own for example/*/*
//! rates = ["3/1m"]
//!
//! [[rule]]
//! pattern = "tenant/*"
//! concurrency = 5
//! rates = ["3/1m", { limit = 10000, period = "1m", counts = "cost" }]
//! description = "each tenant"
//! disabled = false
//! max-waiters = 100
//! max-wait = "30s"
//! max-pushback = "1m"
//! shadow-limits = { concurrency = 4 }
//! total = false
//! ```
//!
//! Unknown fields are refused, and every error names file, line and field. Nothing is served unless all of it is right.

// With their paths, so that the fuzz targets can take this file in.
#[path = "config/address.rs"]
mod address;
#[path = "config/component.rs"]
mod component;
#[path = "config/egress.rs"]
mod egress;
#[path = "config/place.rs"]
mod place;
#[path = "config/rules.rs"]
mod rules;
#[path = "config/size.rs"]
mod size;

use std::fmt;
use std::fs;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use weir_engine::{Change, Durability, ScopedKey};
use weir_http::api::{DurationText, RuleBody};
use weir_http::{MAX_WORKERS, Route, ServerConfig, plainly};
use weir_wasm::ComponentConfig;

use crate::error::Failure;

use self::address::AddressText;
use self::component::ComponentTable;
use self::egress::EgressTable;

pub(crate) use address::address;
pub(crate) use rules::{rules, written_rules};

/// The file that is read where none is named.
pub(crate) const DEFAULT_FILE: &str = "weir.toml";
/// The largest file: a book of 100,000 rules.
const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// As many characters of a line as an error shows.
const SHOWN: usize = 160;

/// What to serve, and how.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) components: Vec<ComponentEntry>,
    pub(crate) rules: Vec<Change>,
    /// Where what must survive is kept; none: in memory only.
    pub(crate) data: Option<PathBuf>,
    pub(crate) durability: Durability,
}

/// A component to load.
#[derive(Debug)]
pub(crate) struct ComponentEntry {
    pub(crate) source: Source,
    pub(crate) config: ComponentConfig,
    pub(crate) route: Route,
    pub(crate) ingress_scope: Option<String>,
}

/// Where a component's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// In a file.
    File(PathBuf),
    /// In this binary.
    Embedded(&'static [u8]),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Embedded(_) => f.write_str("the component in this binary"),
        }
    }
}

/// What a grant that was answered survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DurabilityName {
    /// The end of the process.
    Process,
    /// The end of power: every commit waits for the disk.
    Power,
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Self {
        match name {
            DurabilityName::Process => Self::Process,
            DurabilityName::Power => Self::Power,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileTable {
    #[serde(default)]
    server: ServerTable,
    #[serde(default)]
    component: Vec<ComponentTable>,
    #[serde(default)]
    rule: Vec<Spanned<RuleBody>>,
    #[serde(default)]
    egress: Vec<Spanned<EgressTable>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ServerTable {
    listen: Option<AddressText>,
    admin: Option<AddressText>,
    shutdown_timeout: Option<DurationText>,
    workers: Option<Spanned<NonZeroUsize>>,
    data: Option<PathBuf>,
    durability: Option<DurabilityName>,
    tokens: Option<PathBuf>,
    lease_api: Option<bool>,
}

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    file: PathBuf,
    text: String,
    span: Option<Range<usize>>,
    problem: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let Some(before) = self.span.as_ref().and_then(|span| self.text.get(..span.start)) else {
            return write!(f, "{file}: {}", self.problem);
        };
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        // As much as fits a screen, and nothing that a terminal would obey.
        let shown = self.text.lines().nth(line - 1).unwrap_or_default().chars().take(SHOWN);
        let shown: String = shown.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        write!(f, "{file}:{line}:{column}: {}\n  {line} | {shown}", self.problem)
    }
}

/// Reads a configuration, with all that can be checked without loading anything.
pub(crate) fn read(file: &Path) -> Result<Config, Failure> {
    let text = read_text(file, "configuration").map_err(|refused| {
        refused.hint("name another with -c FILE, or serve a component alone: weir serve hello.wasm")
    })?;
    parse(file, &text).map_err(Failure::usage)
}

/// The file of tokens that a configuration names. Its components need not be there.
pub(crate) fn tokens(file: &Path) -> Result<Option<PathBuf>, Failure> {
    let text = read_text(file, "configuration").map_err(|refused| refused.hint("name another with -c FILE"))?;
    let table = tables(file, &text).map_err(Failure::usage)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    Ok(table.server.tokens.map(|tokens| folder.join(tokens)))
}

fn read_text(file: &Path, what: &str) -> Result<String, Failure> {
    let refused =
        |problem: String| Failure::usage(anyhow::anyhow!("{}: cannot read the {what}: {problem}", file.display()));
    let size = fs::metadata(file).map_err(|error| refused(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(refused(format!("it has {size} bytes, and the most is {MAX_FILE_BYTES}")));
    }
    let bytes = fs::read(file).map_err(|error| refused(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        let (bytes, at) = (error.as_bytes(), error.utf8_error().valid_up_to());
        let byte = bytes.get(at).copied().unwrap_or_default();
        let problem = format!("it is not UTF-8 text: it has the byte 0x{byte:02x}");
        let text = String::from_utf8_lossy(bytes).into_owned();
        Failure::usage(ConfigError { file: file.to_owned(), text, span: Some(at..at), problem })
    })
}

/// The tables of a text, each for itself.
fn tables(file: &Path, text: &str) -> Result<FileTable, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let (span, problem) = match place::shape(text) {
            Some((span, problem)) => (Some(span), problem),
            None => (error.span(), plainly(error.message())),
        };
        ConfigError { file: file.to_owned(), text: text.to_owned(), span, problem }
    })
}

/// The configuration of a component that is served alone: named like its file, on every path.
pub(crate) fn sole(path: PathBuf) -> ComponentEntry {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = if ScopedKey::new(stem, None).is_ok() { stem } else { "app" }.to_owned();
    ComponentEntry {
        config: ComponentConfig::new(name),
        source: Source::File(path),
        route: Route::all(),
        ingress_scope: None,
    }
}

/// Checks a text, with all that can be checked without loading anything.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    let refuse = |span: Option<Range<usize>>, problem: String| ConfigError {
        file: file.to_owned(),
        text: text.to_owned(),
        span,
        problem,
    };
    let table = tables(file, text)?;
    let at = |(span, problem)| refuse(Some(span), problem);

    let mut server = ServerConfig::default();
    server.ingress = table.server.listen.map_or(server.ingress, |listen| listen.0);
    server.admin = table.server.admin.map_or(server.admin, |admin| admin.0);
    server.shutdown_timeout = table.server.shutdown_timeout.map_or(server.shutdown_timeout, |timeout| timeout.0);
    server.workers = table.server.workers.map(workers).transpose().map_err(at)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    server.tokens = table.server.tokens.map(|tokens| folder.join(tokens));
    server.lease_api = table.server.lease_api.unwrap_or(server.lease_api);

    let (egress, limits) = egress::check(table.egress).map_err(at)?;
    let components = component::check(folder, table.component, &egress).map_err(at)?;
    let rules = rules::check(text, table.rule, limits).map_err(at)?;
    let rules = rules.into_iter().map(rules::Checked::change).collect();
    let data = table.server.data.map(|data| folder.join(data));
    let durability = table.server.durability.map(Durability::from).unwrap_or_default();
    Ok(Config { server, components, rules, data, durability })
}

/// Where a file is wrong, and how.
type Fault = (Range<usize>, String);

/// A number of worker threads.
fn workers(number: Spanned<NonZeroUsize>) -> Result<NonZeroUsize, Fault> {
    if number.get_ref().get() <= MAX_WORKERS {
        return Ok(number.into_inner());
    }
    Err((number.span(), format!("workers: {} is too many: at most {MAX_WORKERS}", number.get_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(Path::new("weir.toml"), text).expect_err(text).to_string()
    }

    #[test]
    fn every_error_names_file_line_and_field() {
        let hello = "[[component]]\nname = \"hello\"\npath = \"Cargo.toml\"\n";
        for (text, place, part) in [
            ("[server]\nlisen = \"127.0.0.1:1\"\n", "weir.toml:2:1: ", "unknown field `lisen`"),
            ("[server]\nlisten = \"localhost\"\n", "weir.toml:2:10: ", "socket address"),
            ("[server]\nadmin = \"8080\"\n", "weir.toml:2:9: ", "like 127.0.0.1:8080"),
            ("[[server]]\nlisten = \"127.0.0.1:1\"\n", "weir.toml:1:3: ", "write [server]"),
            ("[rule]\npattern = \"a\"\n", "weir.toml:1:2: ", "write [[rule]]"),
            ("[server]\n[component]\nname = \"a\"\n", "weir.toml:2:2: ", "write [[component]]"),
            (&format!("{hello}[egress]\nhost = \"a\"\n"), "weir.toml:4:2: ", "write [[egress]]"),
            ("[server]\nshutdown-timeout = \"soon\"\n", "weir.toml:2:20: ", "`soon` is not a duration"),
            ("[server]\nworkers = 0\n", "weir.toml:2:11: ", "from 1 "),
            ("[server\n", "weir.toml:1:", ""),
            ("[sever]\n", "weir.toml:1:2: ", "unknown field `sever`"),
            ("[server]\ndurability = \"disk\"\n", "weir.toml:2:14: ", "unknown variant `disk`"),
            (
                "[[component]]\nname = \"a b\"\npath = \"Cargo.toml\"\n",
                "weir.toml:2:8: ",
                "name: the scope has the byte 0x20",
            ),
            (
                "[[component]]\nname = \"a\"\npath = \"none.wasm\"\n",
                "weir.toml:3:8: ",
                "path: there is no file none.wasm",
            ),
            ("[[component]]\nname = \"a\"\n", "weir.toml:1:1: ", "missing field `path`"),
            (&format!("{hello}route = \"hello\"\n"), "weir.toml:4:9: ", "route: `hello` is not a route"),
            (&format!("{hello}scope = \"\"\n"), "weir.toml:4:9: ", "scope: the scope is empty"),
            (&format!("{hello}allow-scopes = [\"a\", \"b/c\"]\n"), "weir.toml:4:22: ", "allow-scopes: "),
            (&format!("{hello}memory = \"much\"\n"), "weir.toml:4:10: ", ""),
            (&format!("{hello}{hello}"), "weir.toml:5:8: ", "another component is named `hello`"),
            (
                &format!("{hello}route=\"/...\"\n{}route=\"/...\"\n", hello.replace("hello", "other")),
                "weir.toml:8:7: ",
                "the component `hello` has the route",
            ),
            (&format!("{hello}[[rule]]\npattern = \"a/b/c/d\"\n"), "weir.toml:5:11: ", "parts"),
            (
                &format!("{hello}[[rule]]\npattern = \"a\"\nrates = [\"3/1m\", \"0/1m\"]\n"),
                "weir.toml:6:",
                "is not a number from 1",
            ),
            (&format!("{hello}[[rule]]\npattern = \"a\"\nconcurrency = -1\n"), "weir.toml:6:15: ", "the least is 0"),
            (
                &format!("{hello}[[rule]]\npattern = \"a\"\nrates = [\"3/1m\", \"4/1m\"]\n"),
                "weir.toml:6:9: ",
                "rule `a`: two rates",
            ),
            (
                &format!("{hello}[[rule]]\npattern = \"a\"\nmax-wait = \"2days\"\nrates = [\"3/1m\"]\n"),
                "weir.toml:6:12: ",
                "max-wait",
            ),
            (
                &format!(
                    "{hello}[[rule]]\npattern = \"a\"\n[[rule]]\npattern = \"b\"\ndescription = \"{}\"\n",
                    "x".repeat(1025)
                ),
                "weir.toml:8:15: ",
                "1025 bytes long: the most is 1024",
            ),
            (
                &format!("{hello}[[rule]]\npattern = \"a\"\nshadow-limits = {{ speed = 1 }}\n"),
                "weir.toml:6:",
                "unknown field `speed`",
            ),
            (&format!("{hello}[[egress]]\nhost = \"a/b\"\n"), "weir.toml:5:8: ", "host: `a/b` is no host"),
            (&format!("{hello}[[egress]]\nhost = \"127.1\"\n"), "weir.toml:5:8: ", "host: `127.1` is no host"),
            (&format!("{hello}[[egress]]\nhost = \"*.a\"\n"), "weir.toml:5:8: ", "name one with `scope`"),
            (&format!("{hello}[[egress]]\nhost = \"a\"\nscope = \"b/c\"\n"), "weir.toml:6:9: ", "scope: the scope has"),
            (
                &format!("{hello}[[egress]]\nhost = \"a\"\nlimit-key = \"{{b}}\"\n"),
                "weir.toml:6:13: ",
                "limit-key: `{b}`",
            ),
            (&format!("{hello}[[egress]]\nhost = \"a\"\ncost = 0\n"), "weir.toml:6:8: ", "cost: `0` is no cost"),
            (&format!("{hello}[[egress]]\nhost = \"a\"\ncost = 1.5\n"), "weir.toml:6:8: ", "cost: `1.5` is no cost"),
            (&format!("{hello}[[egress]]\nhost = \"a\"\nmax-wait = \"soon\"\n"), "weir.toml:6:12: ", "`soon`"),
            (
                &format!("{hello}[[egress]]\nhost = \"a\"\nrates = [\"0/1m\"]\n"),
                "weir.toml:6:",
                "is not a number from 1",
            ),
            (&format!("{hello}[[egress]]\nhost = \"a\"\nrate = 1\n"), "weir.toml:6:1: ", "unknown field `rate`"),
            (
                &format!("{hello}[[egress]]\nhost = \"a\"\n[[egress]]\nhost = \"A.\"\n"),
                "weir.toml:7:8: ",
                "another egress rule for `A.`",
            ),
            (
                &format!("{hello}[[egress]]\nhost = \"a\"\nconcurrency = 1\n[[rule]]\npattern = \"a\"\n"),
                "weir.toml:6:15: ",
                "concurrency: there is a [[rule]] for `a`",
            ),
            (
                &format!(
                    "{hello}[[egress]]\nhost = \"a:1\"\nrates = [\"1/1s\"]\n[[egress]]\nhost = \"a:2\"\nrates = [\"1/1s\"]\n"
                ),
                "weir.toml:9:9: ",
                "rates: another [[egress]] has limits for `a`",
            ),
            (
                &format!("{hello}[[egress]]\nhost = \"a\"\nlimit-key = \"{{header:b|}}\"\n"),
                "weir.toml:6:13: ",
                "limit-key: `{header:b|}`",
            ),
            (&format!("{hello}[[rule]]\npattern = \"a\"\ntotal = true\n"), "weir.toml:6:9: ", "patterns with `*`"),
            (
                &format!("{hello}[[rule]]\npattern = \"a\"\n[[rule]]\npattern = \"a\"\n"),
                "weir.toml:7:11: ",
                "another rule for `a`",
            ),
        ] {
            let shown = error(text);
            assert!(shown.starts_with(place) && shown.contains(part), "{text}\n=> {shown}");
        }
    }

    /// What is past them is in `tests/cli/bounds.rs`.
    #[test]
    fn what_is_at_its_bounds_is_accepted() {
        let hello = "[[component]]\nname = \"hello\"\npath = \"Cargo.toml\"\n";
        let long = "x".repeat(128);
        for (table, field, values) in [
            ("", "shutdown-timeout", &["\"0s\"", "\"1ns\"", "\"99999999999years\""][..]),
            ("", "workers", &["1", "1024"]),
            ("", "listen", &["\"0.0.0.0:0\"", "\"[::]:65535\""]),
            (hello, "scope", &["\"a\"", &format!("{long:?}")]),
            (hello, "ingress-scope", &[&format!("{long:?}")]),
            (hello, "allow-scopes", &["[]", "[\"*\"]", &format!("[{long:?}]")]),
            (hello, "allow-outbound", &["[]", "[\"a\"]", "[\"a:1\", \"*.a:65535\", \"[::1]:80\"]"]),
            (hello, "max-instances", &["1", "9223372036854775807"]),
            (hello, "max-waiting-in-guest", &["0", "1", "9223372036854775807"]),
            (hello, "memory", &["65536", "\"64KiB\"", "\"4GiB\"", "4294967296"]),
            (hello, "cpu", &["\"1ns\"", "\"99999999999years\""]),
            (hello, "deadline", &["\"1ns\"", "\"99999999999years\""]),
            (hello, "environment", &["{}", "{ A = \"\", \"\u{e9}\" = \"\\u0001\" }"]),
            (hello, "route", &["\"/\"", "\"/...\"", "\"/weirdo\""]),
        ] {
            for value in values {
                let text = match table {
                    "" => format!("[server]\n{field} = {value}\n{hello}"),
                    table => format!("{table}{field} = {value}\n"),
                };
                assert!(parse(Path::new("weir.toml"), &text).is_ok(), "{text}");
            }
        }
    }

    #[test]
    fn a_line_is_shown_as_far_as_it_fits_and_without_control_characters() {
        let shown = error(&format!("a\u{1b}[31m = \"{}\"", "x".repeat(10_000)));
        assert!(shown.len() < 500 && !shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let config = parse(Path::new("weir.toml"), "").unwrap();
        assert!(config.components.is_empty() && config.rules.is_empty() && config.data.is_none());
        let config = parse(Path::new("weir.toml"), "[[component]]\nname = \"hello\"\npath = \"Cargo.toml\"\n").unwrap();
        assert_eq!(config.server.ingress, weir_http::DEFAULT_INGRESS);
        assert_eq!(config.server.admin, weir_http::DEFAULT_ADMIN);
        let hello = &config.components[0];
        assert_eq!(hello.route.to_string(), "/hello/...");
        assert_eq!(hello.config.scope, "hello");
        assert_eq!(hello.ingress_scope, None);
        assert!(hello.config.allow_outbound.is_empty());
    }

    #[test]
    fn everything_can_be_said() {
        let text = r#"
[server]
listen = "127.0.0.1:1"
admin = "[::1]:2"
shutdown-timeout = "3s"
workers = 3
data = "state"
durability = "power"
tokens = "t.json"
lease-api = false
[[component]]
name = "hello"
path = "Cargo.toml"
route = "/h"
scope = "s"
ingress-scope = "i"
allow-scopes = ["provider", "*"]
allow-outbound = ["*.example.org:8443", "10.1.0.0/16"]
isolate = true
max-instances = 7
max-waiting-in-guest = 5
memory = "32MiB"
cpu = "1s"
deadline = "2s"
environment = { MODE = "test" }
[[egress]]
host = "*.example.org:8443"
scope = "example"
limit-key = "{component}/{header:x-model}"
cost = "{header:x-cost}"
max-wait = "3s"
concurrency = 5
rates = ["3/1m"]
[[egress]]
host = "free.example.org"
cost = 7
[[rule]]
pattern = "tenant/*"
concurrency = 5
rates = ["3/1m", { limit = 10000, period = "1m", counts = "cost" }]
description = "each tenant"
disabled = true
max-waiters = 100
max-wait = "30s"
max-pushback = "1m"
shadow-limits = { concurrency = 4, rates = ["2/1m"] }
total = true
"#;
        let config = parse(Path::new("weir.toml"), text).unwrap();
        assert_eq!(config.server.workers, NonZeroUsize::new(3));
        assert_eq!((config.data, config.durability), (Some("state".into()), Durability::Power));
        assert_eq!((config.server.tokens, config.server.lease_api), (Some("t.json".into()), false));
        let hello = &config.components[0];
        assert_eq!(hello.config.limits.memory, 32 * 1024 * 1024);
        assert_eq!(hello.config.env, [("MODE".to_owned(), "test".to_owned())]);
        let [Change::Put { spec, .. }, Change::Put { pattern, spec: limits, .. }] = &config.rules[..] else {
            panic!("two rules")
        };
        assert_eq!((pattern.as_str(), limits.limits.rates.len()), ("example/*/*", 1));
        assert_eq!(spec.limits.rates.len(), 2);
        assert!(spec.disabled && spec.total);
        assert_eq!(spec.shadow_limits.as_ref().map(|limits| limits.rates.len()), Some(1));
    }

    #[test]
    fn a_sole_component_is_named_like_its_file() {
        assert_eq!(sole("a/hello_world.wasm".into()).config.name, "hello_world");
        assert_eq!(sole("a/hello world.wasm".into()).config.name, "app");
    }
}
