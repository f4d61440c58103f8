//! 128 unguessable bits, for the ids of timed leases.

use std::cell::RefCell;

/// Bits for so many ids are asked of the operating system at once: a system call for each would be a tenth of what an acquire
/// over the network costs.
const IDS: usize = 64;

thread_local! {
    /// What is left; given out from its end.
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// 128 bits from the operating system, never given out before.
///
/// # Panics
/// When the operating system has no random bytes: without them there are no safe ids, and better no answer than a guessable one.
pub(crate) fn unguessable() -> u128 {
    BYTES.with_borrow_mut(|bytes| {
        if bytes.is_empty() {
            bytes.resize(16 * IDS, 0);
            getrandom::fill(bytes).expect("the operating system gives random bytes");
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[bytes.len() - 16..]);
        bytes.truncate(bytes.len() - 16);
        u128::from_ne_bytes(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike() {
        let ids = || (0..3 * IDS).map(|_| unguessable()).collect::<Vec<_>>();
        let mut all: Vec<u128> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ids)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let made = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), all.contains(&0)), (made, false));
    }
}
