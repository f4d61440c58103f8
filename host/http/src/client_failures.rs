//! How often clients on other hosts got no answer, as they tell it: `weir-client-failures: closed=1, open=2, budget=1`.
//!
//! A client that misses the server decides by a policy of its own, which nobody here sees. With the next request of the lease API it
//! tells how often each policy has decided since the last answer it got, and the sum over all clients is a figure of this server.
//! It is what they say: who may use the lease API may say anything, so nothing but the figure depends on it. Each policy stands there
//! once at most, with a number below 2^32; a header that is anything else, or is there twice, is ignored as a whole.

use http::{HeaderMap, HeaderName};
use metrics::{Counter, counter};

const HEADER: HeaderName = HeaderName::from_static("weir-client-failures");

const POLICIES: [&str; 3] = ["closed", "open", "budget"];

/// More than three names and numbers take.
const LONGEST: usize = 100;

/// What clients have told, by policy.
#[derive(Clone)]
pub(crate) struct ClientFailures([Counter; POLICIES.len()]);

impl std::fmt::Debug for ClientFailures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientFailures")
    }
}

impl ClientFailures {
    /// Counters of the recorder that is at hand.
    pub(crate) fn new() -> Self {
        Self(POLICIES.map(|policy| counter!("weir_client_failures_total", "policy" => policy)))
    }

    /// Counts what the header of a request says.
    pub(crate) fn count(&self, headers: &HeaderMap) {
        let mut values = headers.get_all(&HEADER).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return };
        let Some(told) = value.to_str().ok().and_then(read) else { return };
        for (counter, count) in self.0.iter().zip(told) {
            counter.increment(u64::from(count));
        }
    }
}

fn read(text: &str) -> Option<[u32; POLICIES.len()]> {
    if text.len() > LONGEST {
        return None;
    }
    let mut told = [None; POLICIES.len()];
    for part in text.split(',') {
        let (name, number) = part.trim().split_once('=')?;
        let policy = POLICIES.iter().position(|policy| *policy == name)?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let count: u32 = number.parse().ok().filter(|_| digits)?;
        if told[policy].replace(count).is_some() {
            return None;
        }
    }
    Some(told.map(Option::unwrap_or_default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_tell_is_read_strictly() {
        assert_eq!(read("closed=1, open=2, budget=3"), Some([1, 2, 3]));
        assert_eq!(read("budget=4294967295,closed=0"), Some([0, 0, u32::MAX]));
        let long = format!("open={}1", "0".repeat(100));
        for bad in [
            "",
            "5",
            "closed",
            "closed=",
            "closed=-1",
            "closed=+1",
            "closed=1.5",
            "closed=4294967296",
            "ajar=1",
            "closed=1,",
            "closed=1;open=2",
            "closed=1, closed=1",
            "closed=1, ajar=2",
            "Closed=1",
            "closed = 1",
            long.as_str(),
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
