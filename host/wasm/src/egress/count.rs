//! What has become of a component's calls to others, for its operator: one atomic addition each.

use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime_wasi_http::Error;

/// How the calls of a component to others have ended since it was loaded. A call that its guest gave up is in none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboundCounts {
    /// There was a response, whatever its status; of a call with retries, each attempt counts.
    pub answered: u64,
    /// It was sent, or was to be, and no response came.
    pub failed: u64,
    /// It did not get its turn.
    pub refused: u64,
    /// Its component may not call there.
    pub denied: u64,
}

/// The same, as it grows.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    denied: AtomicU64,
}

impl Counts {
    /// What has become of a call whose turn had come.
    pub(super) fn sent<T>(&self, result: &Result<T, Error>) {
        let count = match result {
            Ok(_) => &self.answered,
            // Where a name leads is known once it is looked up, and not before.
            Err(Error::DestinationIpProhibited) => &self.denied,
            Err(_) => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> OutboundCounts {
        let [answered, failed, refused, denied] =
            [&self.answered, &self.failed, &self.refused, &self.denied].map(|count| count.load(Ordering::Relaxed));
        OutboundCounts { answered, failed, refused, denied }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_a_closed_address_is_denied() {
        let counts = Counts::default();
        counts.sent(&Ok(()));
        counts.sent::<()>(&Err(Error::DestinationIpProhibited));
        counts.sent::<()>(&Err(Error::ConnectionRefused));
        assert_eq!(counts.read(), OutboundCounts { answered: 1, failed: 1, refused: 0, denied: 1 });
    }
}
