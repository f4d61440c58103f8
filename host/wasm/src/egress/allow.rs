//! What a component may reach: nobody, unless its configuration names it.
//!
//! A rule is `host` (any port), `host:port`, `*.host` (any name below it, not itself) or `10.1.0.0/16` (addresses). Names
//! compare without case. A rule for a name says nothing of where that name leads to: an address that is not open to
//! the whole world has to be named as well, by itself, by its network, or as `localhost`.
//!
//! ```toml
//! allow-outbound = ["*.example.com", "db.internal:5432", "10.1.0.0/16", "localhost:9321"]
//! ```
//! `db.internal` may lead to `10.1.0.9`; `evil.example.com` that leads to `127.0.0.1` is refused.

use super::address::{Host, is_public};
use http::Uri;
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;
use wasmtime_wasi_http::Error;

/// A text that is no outbound rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{rule}` is no host: write `host`, `host:port`, `*.host` or a network such as `10.1.0.0/16`, without scheme or path"
)]
pub struct OutboundRuleError {
    /// What was given.
    pub rule: String,
}

/// Checks one entry of [`ComponentConfig::allow_outbound`](crate::ComponentConfig::allow_outbound).
///
/// # Errors
/// It is no host.
pub fn check_outbound(rule: &str) -> Result<(), OutboundRuleError> {
    Rule::parse(rule).map(|_| ()).ok_or_else(|| OutboundRuleError { rule: rule.to_owned() })
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(super) host: Host,
    pub(super) port: u16,
    /// The port as it is written in a URI: none where the scheme says it.
    written: Option<u16>,
}

impl Destination {
    /// # Errors
    /// The URI has no host in the one spelling that it may have, a user, or no port where it says that there is one.
    pub(super) fn of(uri: &Uri) -> Result<Self, Error> {
        let usual = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(Error::HttpRequestUriInvalid),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        Self::parse(authority, usual).ok_or(Error::HttpRequestUriInvalid)
    }

    fn parse(authority: &str, usual: u16) -> Option<Self> {
        let (host, port) = split_port(authority)?;
        let port = port.unwrap_or(usual);
        Some(Self { host: Host::parse(host)?, port, written: Some(port).filter(|port| *port != usual) })
    }

    /// The same place as a URI says it, so that one connection serves all spellings.
    pub(super) fn authority(&self) -> String {
        match self.written {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.to_string(),
        }
    }
}

/// Splits a port off. There is nothing where it is none, or 0.
pub(super) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    match text.rsplit_once(':') {
        // An address in brackets has colons of its own.
        Some((host, port)) if !text.ends_with(']') => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            Some((host, Some(port.parse().ok().filter(|port| digits && *port != 0)?)))
        }
        _ => Some((text, None)),
    }
}

/// A host, or the names below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPattern {
    pub(super) host: Host,
    pub(super) below: bool,
    pub(super) port: Option<u16>,
}

impl HostPattern {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (host, port) = split_port(rest)?;
        let host = Host::parse(host)?;
        (!below || matches!(host, Host::Name(_))).then_some(Self { host, below, port })
    }

    /// Greater for the more exact of two that match the same host.
    pub(super) fn exactness(&self) -> (bool, usize, bool) {
        let length = if let Host::Name(name) = &self.host { name.len() } else { 0 };
        (!self.below, length, self.port.is_some())
    }

    pub(super) fn matches(&self, to: &Destination) -> bool {
        let named = match (&self.host, &to.host) {
            (Host::Name(own), Host::Name(name)) if self.below => {
                name.strip_suffix(own.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            (own, host) => own == host,
        };
        named && self.port.is_none_or(|own| own == to.port)
    }
}

#[derive(Debug)]
enum Rule {
    Host(HostPattern),
    Network(IpNet),
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        if text.contains('/') {
            return network(text).map(Self::Network);
        }
        HostPattern::parse(text).map(Self::Host)
    }
}

/// A network in its one spelling: as of hosts, IPv4 addresses are never inside of IPv6. One of those that is wider than all of
/// IPv4 is none.
fn network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().ok()?;
    let IpNet::V6(inside) = network else { return Some(network) };
    match inside.addr().to_ipv4_mapped() {
        Some(address) => Ipv4Net::new(address, inside.prefix_len().checked_sub(96)?).ok().map(IpNet::V4),
        None => Some(network),
    }
}

/// The hosts that a component may call.
#[derive(Debug, Default)]
pub(crate) struct Outbound(Vec<Rule>);

impl Outbound {
    /// # Errors
    /// [`OutboundRuleError`] names the first rule that is none.
    pub(crate) fn new(rules: &[String]) -> Result<Self, OutboundRuleError> {
        rules
            .iter()
            .map(|rule| Rule::parse(rule).ok_or_else(|| OutboundRuleError { rule: rule.clone() }))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn allows(&self, to: &Destination) -> bool {
        self.0.iter().any(|rule| match (rule, &to.host) {
            (Rule::Host(pattern), _) => pattern.matches(to),
            (Rule::Network(network), Host::Address(address)) => network.contains(address),
            (Rule::Network(_), Host::Name(_)) => false,
        })
    }

    /// The addresses that it names.
    pub(crate) fn named(&self) -> Named {
        let mut named: Vec<_> = self
            .0
            .iter()
            .flat_map(|rule| match rule {
                Rule::Host(HostPattern { host: Host::Address(address), port, .. }) => {
                    vec![(IpNet::from(*address), *port)]
                }
                Rule::Host(HostPattern { host: Host::Name(name), port, below: false }) if name == "localhost" => {
                    LOOPBACK.iter().filter_map(|network| Some((network.parse().ok()?, *port))).collect()
                }
                Rule::Host(_) => Vec::new(),
                Rule::Network(network) => vec![(*network, None)],
            })
            .collect();
        named.sort_unstable();
        named.dedup();
        Named(named)
    }
}

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Addresses that may be reached although they are not open to the world. Equal ones share their connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Named(Vec<(IpNet, Option<u16>)>);

impl Named {
    pub(super) fn admits(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        is_public(address)
            || self.0.iter().any(|(network, own)| network.contains(&address) && own.is_none_or(|own| own == port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(uri: &str) -> Destination {
        Destination::of(&uri.parse().unwrap()).unwrap()
    }

    fn outbound(rules: &[&str]) -> Outbound {
        Outbound::new(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn allows(rule: &str, uri: &str) -> bool {
        outbound(&[rule]).allows(&to(uri))
    }

    #[test]
    fn nobody_is_allowed_by_default() {
        assert!(!Outbound::default().allows(&to("https://example.com/")));
        assert!(!Outbound::default().allows(&to("https://8.8.8.8/")));
    }

    #[test]
    fn a_rule_allows_what_it_names_and_no_more() {
        assert!(allows("example.com", "https://example.com/x"));
        assert!(allows("example.com", "https://EXAMPLE.com./x"));
        assert!(allows("Example.COM", "http://example.com:8080/x"));
        assert!(!allows("example.com", "https://a.example.com/"));
        assert!(!allows("example.com", "https://example.com.evil.org/"));
        assert!(allows("example.com:8080", "http://example.com:8080/"));
        assert!(!allows("example.com:8080", "http://example.com/"));
        assert!(allows("example.com:443", "https://example.com/"));
        assert!(allows("example.com:80", "http://example.com/"));
        assert!(allows("*.example.com", "https://a.b.example.com/"));
        assert!(!allows("*.example.com", "https://example.com/"));
        assert!(!allows("*.example.com", "https://evilexample.com/"));
        assert!(allows("[::1]:80", "http://[::1]/"));
        assert!(allows("[0:0::1]", "http://[::1]/"));
        assert!(allows("127.0.0.1", "http://[::ffff:127.0.0.1]/"));
        assert!(allows("10.1.0.0/16", "http://10.1.2.3:99/"));
        assert!(!allows("10.1.0.0/16", "http://10.2.0.1/"));
        assert!(!allows("10.1.0.0/16", "http://example.com/"));
        assert!(
            allows("::ffff:127.0.0.0/104", "http://127.1.2.3/")
                && allows("::ffff:127.0.0.0/104", "http://[::ffff:7f00:1]/")
        );
        assert!(!allows("::ffff:127.0.0.0/104", "http://128.0.0.1/"));
        assert!(allows("fd00::/8", "http://[fd12::1]/"));
    }

    #[test]
    fn a_destination_is_in_its_one_spelling_or_none() {
        for (uri, authority) in [
            ("http://Example.com.:80/", "example.com"),
            ("https://example.com:443/", "example.com"),
            ("http://example.com:443/", "example.com:443"),
            ("http://[0:0::1]:8080", "[::1]:8080"),
            ("http://[::ffff:1.2.3.4]/", "1.2.3.4"),
        ] {
            assert_eq!(to(uri).authority(), authority, "{uri}");
        }
        for uri in [
            "http://user@example.com/",
            "http://example.com@evil.org/",
            "http://user:pass@example.com/",
            "http://example.com:0/",
            "http://example.com:/",
            "http://example.com:99999/",
            "http://2130706433/",
            "http://127.1/",
            "ftp://example.com/",
            "/x",
            "example.com:443",
        ] {
            // What the URI's own grammar refuses is refused before.
            if let Ok(uri) = uri.parse::<Uri>() {
                assert!(matches!(Destination::of(&uri), Err(Error::HttpRequestUriInvalid)), "{uri}");
            }
        }
    }

    #[test]
    fn a_closed_address_must_be_named_by_itself() {
        let admits =
            |rules: &[&str], address: &str, port| outbound(rules).named().admits(address.parse().unwrap(), port);
        assert!(admits(&[], "8.8.8.8", 443));
        assert!(!admits(&["db.internal", "*.internal"], "10.0.0.7", 80));
        assert!(admits(&["db.internal", "10.0.0.7"], "10.0.0.7", 80));
        assert!(!admits(&["10.0.0.7"], "10.0.0.8", 80));
        assert!(!admits(&["10.0.0.7:5432"], "10.0.0.7", 80));
        assert!(admits(&["10.0.0.0/8"], "10.9.9.9", 80));
        assert!(admits(&["::ffff:10.0.0.0/104"], "10.9.9.9", 80));
        assert!(admits(&["169.254.169.254"], "::ffff:169.254.169.254", 80));
        assert!(!admits(&["10.0.0.7"], "64:ff9b::10.0.0.7", 80));
        assert!(admits(&["localhost:9000"], "127.0.0.1", 9000) && admits(&["localhost"], "::1", 1));
        assert!(!admits(&["localhost:9000"], "127.0.0.1", 9001));
        assert!(!admits(&["*.localhost", "localhost"], "10.0.0.1", 80));
    }

    #[test]
    fn who_names_the_same_addresses_shares_connections() {
        assert_eq!(outbound(&["a", "*.b"]).named(), outbound(&["c"]).named());
        assert_eq!(outbound(&["10.0.0.1", "127.0.0.1"]).named(), outbound(&["127.0.0.1", "10.0.0.1", "x"]).named());
        assert_ne!(outbound(&["10.0.0.1"]).named(), outbound(&["10.0.0.1:80"]).named());
    }

    #[test]
    fn what_is_no_host_is_named() {
        for rule in [
            "",
            "https://example.com",
            "example.com/x",
            "*",
            "*.",
            "a:b",
            "a:0",
            "a:70000",
            "a:+1",
            "*.[::1]",
            "a b",
            "127.1",
            "0x7f000001",
            "10.0.0.0/33",
            "::ffff:127.0.0.0/95",
            "*.127.0.0.1",
            "[::1%25eth0]",
            "bücher.example",
            "a:1:2",
        ] {
            assert_eq!(
                Outbound::new(&["ok".to_owned(), rule.to_owned()]).unwrap_err(),
                OutboundRuleError { rule: rule.to_owned() },
                "{rule}"
            );
        }
    }
}
