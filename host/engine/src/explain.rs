//! Explain: which shards a question about the time to come needs.
//!
//! Whoever goes before a request may need counters in other shards, and who goes before that one in others yet. So the shards that lines
//! have in common are asked for first, one shard at a time, and the question is put to all that hang together with those of the request.
//! What changes between the two is looked ahead from as it is then.

use crate::core::Core;
use crate::engine::Engine;
use smallvec::SmallVec;
use std::sync::Arc;
use weir_limiter::{Explanation, Input, Output, Reason, Refusal, Request};

type Shards = SmallVec<[u16; 4]>;

impl Engine {
    /// Why a request would be granted or not, who stands before it, and when its turn would come; with no effect.
    ///
    /// # Errors
    /// A refusal as `invalid`.
    ///
    /// # Complexity
    /// Where it would have to wait O(lines) in all shards, each locked for its own, and O(state of the shards that the request and those
    /// before it lie in), which are locked meanwhile: for people, not for guests.
    pub fn explain(&self, request: &Request) -> Result<Explanation, Refusal> {
        request.validate().map_err(|_| Refusal::new(Reason::Invalid))?;
        if request.is_unscoped() {
            return Err(Refusal::new(Reason::Invalid));
        }
        // Where nothing is in the way, nobody is before it.
        let spans = if self.check(request).is_ok() { Vec::new() } else { spans(&self.core) };
        let mut shards = self.core.placement.shards_of(request);
        loop {
            shards = joined(shards, &spans);
            match self.core.step_many(&shards, Input::Explain { request }, |_| {}) {
                Output::Elsewhere(needed) => shards = needed,
                Output::Explained(explanation) => return Ok(*explanation),
                _ => return Err(Refusal::new(Reason::Unavailable)),
            }
        }
    }
}

/// The shards of every line that lies in several.
fn spans(core: &Arc<Core>) -> Vec<Shards> {
    core.cells.iter().flat_map(|cell| cell.lock().spans()).collect()
}

/// These shards, with all that hang together with them; ascending.
fn joined(mut shards: Shards, spans: &[Shards]) -> Shards {
    loop {
        let before = shards.len();
        for span in spans {
            if span.iter().any(|shard| shards.contains(shard)) {
                shards.extend(span.iter().copied());
                shards.sort_unstable();
                shards.dedup();
            }
        }
        if shards.len() == before {
            return shards;
        }
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_together_is_found_in_any_order() {
        let spans = [[4, 5], [2, 3], [1, 2], [6, 7]].map(|span| Shards::from_slice(&span));
        assert_eq!(joined(Shards::from_slice(&[1]), &spans)[..], [1, 2, 3]);
        assert_eq!(joined(Shards::from_slice(&[0]), &spans)[..], [0]);
    }
}
