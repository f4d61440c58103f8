//! Which addresses are open to everybody, and how a host is written.
//!
//! Most of what is reachable from a server is none of its guests' business: itself, its network, the service that hands
//! out the machine's keys. So an address is open only if the whole world can reach it; any other has to be named in
//! `allow-outbound`. An IPv6 address that carries an IPv4 address is as open as that one.
//!
//! A host is a name or an address, in its one spelling. What a resolver would read as an address in disguise (`127.1`,
//! `0x7f000001`, `017700000001`) is no host at all, and neither is one with a zone, a user or an empty label.
//!
//! Whatever a name resolves to is judged by its addresses alone; see the module `client`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A host in its one spelling: names in small letters and without a dot at the end, IPv4 addresses never inside of IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Reads a host as it stands in a URI, IPv6 in brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.len() > MAX_NAME_BYTES || !name.split('.').all(is_label) {
            return None;
        }
        if is_number(name.rsplit('.').next().unwrap_or_default()) {
            return name.parse().ok().map(|address| Self::Address(IpAddr::V4(address)));
        }
        Some(Self::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Whether a resolver would take a name that ends so for an address: a decimal, octal or hexadecimal number.
fn is_number(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_digit())
        || label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether the whole world can reach it.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Not the blocks of the IANA registry of special addresses, nor the one public address that a cloud serves metadata on.
fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [168, 63, 129, 16]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

/// Global unicast without the blocks for protocols and documentation; of translated addresses those that are public.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let within = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // NAT64, 6to4, and an interface that is named by an IPv4 address (ISATAP).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
        | [0x2000..=0x3fff, _, _, _, 0 | 0x200, 0x5efe, high, low] => within(high, low),
        [first, ..] => matches!(first, 0x2000..=0x3fff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written in a URI, and the address that it stands for; none: no host.
    const SPELLINGS: &[(&str, Option<&str>)] = &[
        // This machine.
        ("127.0.0.1", Some("127.0.0.1")),
        ("127.0.0.1.", Some("127.0.0.1")),
        ("127.255.255.254", Some("127.255.255.254")),
        ("0.0.0.0", Some("0.0.0.0")),
        ("0.1.2.3", Some("0.1.2.3")),
        ("[::1]", Some("::1")),
        ("[0:0:0:0:0:0:0:1]", Some("::1")),
        ("[0000:0000:0000:0000:0000:0000:0000:0001]", Some("::1")),
        ("[::]", Some("::")),
        // The same in the spellings of `inet_aton`.
        ("127.1", None),
        ("127.0.1", None),
        ("127.0.0.1..", None),
        ("2130706433", None),
        ("0x7f000001", None),
        ("0X7F000001", None),
        ("0x7f.0.0.1", None),
        ("0x7f.0x0.0x0.0x1", None),
        ("127.0.0.0x1", None),
        ("017700000001", None),
        ("0177.0.0.1", None),
        ("0177.0.0.01", None),
        ("00000177.0.0.1", None),
        ("127.000.000.001", None),
        ("127.0.0.01", None),
        ("0", None),
        ("0x", None),
        ("00", None),
        ("1", None),
        ("256.256.256.256", None),
        ("127.0.0.256", None),
        ("4294967296", None),
        ("1.2.3.4.5", None),
        ("0x7f.1", None),
        ("10.1", None),
        ("127.0.0.1.0x1", None),
        // IPv4 within IPv6.
        ("[::ffff:127.0.0.1]", Some("127.0.0.1")),
        ("[::ffff:7f00:1]", Some("127.0.0.1")),
        ("[0:0:0:0:0:ffff:7f00:0001]", Some("127.0.0.1")),
        ("[::FFFF:169.254.169.254]", Some("169.254.169.254")),
        ("[::127.0.0.1]", Some("::127.0.0.1")),
        ("[::ffff:0:127.0.0.1]", Some("::ffff:0:127.0.0.1")),
        ("[64:ff9b::127.0.0.1]", Some("64:ff9b::7f00:1")),
        ("[64:ff9b::a9fe:a9fe]", Some("64:ff9b::169.254.169.254")),
        ("[64:ff9b:1::8.8.8.8]", Some("64:ff9b:1::8.8.8.8")),
        ("[2002:7f00:1::]", Some("2002:7f00:1::")),
        ("[2002:a9fe:a9fe::1]", Some("2002:a9fe:a9fe::1")),
        ("[2002:c0a8:101::1]", Some("2002:c0a8:101::1")),
        ("[2001:0:4136:e378:8000:63bf:80ff:fffe]", Some("2001:0:4136:e378:8000:63bf:80ff:fffe")),
        ("[2600::5efe:10.0.0.1]", Some("2600::5efe:10.0.0.1")),
        ("[2600::200:5efe:127.0.0.1]", Some("2600::200:5efe:7f00:1")),
        ("[fe80::5efe:8.8.8.8]", Some("fe80::5efe:8.8.8.8")),
        // Brackets, zones, and what else is no address.
        ("[fe80::1%25eth0]", None),
        ("[fe80::1%eth0]", None),
        ("[::1", None),
        ("::1", None),
        ("[127.0.0.1]", None),
        ("[::127.1]", None),
        ("[::ffff:0177.0.0.1]", None),
        ("[v1.fe80::1]", None),
        ("[]", None),
        ("", None),
        (".", None),
        (".localhost", None),
        ("a..b", None),
        ("127%2e0%2e0%2e1", None),
        ("127。0。0。1", None),
        ("①②⑦.0.0.1", None),
        ("user@127.0.0.1", None),
        ("127.0.0.1 ", None),
        ("127.0.0.1\0", None),
        ("exa\tmple.com", None),
        ("*.example.com", None),
        // Networks of one's own.
        ("10.0.0.1", Some("10.0.0.1")),
        ("10.255.255.255", Some("10.255.255.255")),
        ("172.16.0.1", Some("172.16.0.1")),
        ("172.31.255.255", Some("172.31.255.255")),
        ("192.168.0.1", Some("192.168.0.1")),
        ("100.64.0.1", Some("100.64.0.1")),
        ("169.254.1.1", Some("169.254.1.1")),
        ("198.18.0.1", Some("198.18.0.1")),
        ("[fe80::1]", Some("fe80::1")),
        ("[fec0::1]", Some("fec0::1")),
        ("[fc00::1]", Some("fc00::1")),
        ("[fdff:ffff::1]", Some("fdff:ffff::1")),
        // Metadata of clouds.
        ("169.254.169.254", Some("169.254.169.254")),
        ("169.254.170.2", Some("169.254.170.2")),
        ("[fd00:ec2::254]", Some("fd00:ec2::254")),
        ("[fd20:ce::254]", Some("fd20:ce::254")),
        ("100.100.100.200", Some("100.100.100.200")),
        ("168.63.129.16", Some("168.63.129.16")),
        ("192.0.0.192", Some("192.0.0.192")),
        // To many, to nobody, for documents.
        ("224.0.0.1", Some("224.0.0.1")),
        ("255.255.255.255", Some("255.255.255.255")),
        ("240.0.0.1", Some("240.0.0.1")),
        ("192.0.2.1", Some("192.0.2.1")),
        ("198.51.100.1", Some("198.51.100.1")),
        ("203.0.113.1", Some("203.0.113.1")),
        ("192.88.99.1", Some("192.88.99.1")),
        ("[ff02::1]", Some("ff02::1")),
        ("[2001:db8::1]", Some("2001:db8::1")),
        ("[3fff::1]", Some("3fff::1")),
        ("[100::1]", Some("100::1")),
    ];

    #[test]
    fn no_spelling_of_a_closed_address_is_open() {
        assert!(SPELLINGS.len() >= 60);
        for (spelling, address) in SPELLINGS {
            let address = address.map(|address| address.parse().unwrap());
            assert_eq!(Host::parse(spelling), address.map(Host::Address), "{spelling}");
            assert!(!address.is_some_and(is_public), "{spelling}");
        }
    }

    #[test]
    fn what_the_world_can_reach_is_open() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
            "2600::5efe:8.8.8.8",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_name_has_one_spelling() {
        for (spelling, name) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("a_b-c.1a", "a_b-c.1a"),
            ("127.0.0.1.nip.io", "127.0.0.1.nip.io"),
            ("localhost", "localhost"),
            ("0x7f.g", "0x7f.g"),
        ] {
            assert_eq!(Host::parse(spelling), Some(Host::Name(name.to_owned())), "{spelling}");
        }
        assert_eq!(Host::parse(&"a".repeat(64)), None);
        assert_eq!(Host::parse(&"a.".repeat(128)), None);
    }
}
