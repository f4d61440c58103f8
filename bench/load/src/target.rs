//! What is asked, and how an answer is known to be whole.

use anyhow::{Context, bail, ensure};
use clap::Subcommand;

/// Requests are made once, for so many keys, and sent in turn.
const KEYS: u32 = 1_000;

/// Whom to ask for what.
#[derive(Debug, Subcommand)]
pub(crate) enum Target {
    /// Weir: leases under a scope and a limit key of two parts, which end by themselves after 100 ms.
    Leases {
        /// Leases of a request.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Scopes.
        #[arg(long, default_value_t = KEYS, value_parser = clap::value_parser!(u32).range(1..))]
        scopes: u32,
    },
    /// Redis: a script over three keys that answers with a number.
    Script {
        /// Its SHA-1, as `SCRIPT LOAD` has answered.
        sha: String,
    },
}

impl Target {
    /// All requests.
    pub(crate) fn requests(&self) -> Vec<Vec<u8>> {
        // Neighbours are not asked for one after the other.
        (0..KEYS).map(|index| self.request((index * 7_919) % KEYS).into_bytes()).collect()
    }

    fn request(&self, key: u32) -> String {
        match self {
            Self::Leases { count, scopes } => {
                let scope = key % scopes;
                let body = format!(
                    r#"{{"scope":"s{scope}","limit-key":"a{key}/b{key}","lease-time":"100ms","max-wait":"0s","count":{count},"least":{count}}}"#
                );
                let length = body.len();
                format!(
                    "POST /weir/v1/leases HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
                )
            }
            Self::Script { sha } => {
                let words = ["evalsha", sha, "3", &format!("a:{key}"), &format!("b:{key}"), &format!("c:{key}")];
                let words = words.map(|word| format!("${}\r\n{word}\r\n", word.len()));
                format!("*{}\r\n{}", words.len(), words.concat())
            }
        }
    }

    /// Whether this is a whole answer. An error when it is one that says no.
    pub(crate) fn is_answered(&self, received: &[u8]) -> anyhow::Result<bool> {
        match self {
            Self::Leases { .. } => {
                let mut fields = [httparse::EMPTY_HEADER; 32];
                let mut head = httparse::Response::new(&mut fields);
                let httparse::Status::Complete(length) = head.parse(received)? else { return Ok(false) };
                ensure!(head.code == Some(201), "not granted: {}", String::from_utf8_lossy(received));
                let body = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
                let body: usize = std::str::from_utf8(body.context("an answer has no length")?.value)?.parse()?;
                Ok(received.len() >= length + body)
            }
            Self::Script { .. } => match received {
                [b':', .., b'\r', b'\n'] => Ok(true),
                [] | [b':', ..] => Ok(false),
                other => bail!("not a number: {}", String::from_utf8_lossy(other)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_its_end() {
        let leases = Target::Leases { count: 1, scopes: KEYS };
        let whole = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\n{ }";
        for length in 0..whole.len() {
            assert!(!leases.is_answered(&whole[..length]).unwrap());
        }
        assert!(leases.is_answered(whole).unwrap());
        assert!(leases.is_answered(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").is_err());
        let script = Target::Script { sha: "s".into() };
        assert!(script.is_answered(b":0\r\n").unwrap() && !script.is_answered(b":0").unwrap());
        assert!(script.is_answered(b"-NOSCRIPT\r\n").is_err());
    }

    #[test]
    fn requests_are_what_their_servers_read() {
        let [first, ..] = &Target::Leases { count: 2, scopes: 8 }.requests()[1..2] else { panic!() };
        let text = String::from_utf8_lossy(first);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.ends_with(&format!("content-length: {}", body.len())) && body.contains(r#""scope":"s7""#),
            "{text}"
        );
        let script = Target::Script { sha: "abc".into() };
        assert!(script.request(42).starts_with("*6\r\n$7\r\nevalsha\r\n$3\r\nabc\r\n$1\r\n3\r\n$4\r\na:42\r\n"));
    }
}
