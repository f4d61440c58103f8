//! Tokens: who may do what, where clients are not known by being on this machine.
//!
//! A token has a name, rights, and the scopes that it is for. Its text is shown once, when it is made; what is kept is the
//! SHA-256 of its secret, in a file that `weir token` writes and a running server reads again whenever it has changed.
//!
//! ```text
//! Authorization: Bearer weir_5f0c1e7a93d2b846_d1f3...8e
//!                            └─ id: public ─┘ └─ secret: 256 random bits ─┘
//! ```
//!
//! A worked example: `payments` has the right `lease` and the scope `payments`. It may take leases under `payments` and any of
//! its limit keys. Under `model` it is refused (403, which names the scope), reading the rule book it is refused (403, which
//! names the right), and what others have taken is gone to it. Rotated with an hour to keep the old text, both texts are
//! good until the hour is over, and mean the same: leases belong to the name.
//!
//! # Invariants
//! - A token is found by its id; then one comparison in constant time decides. An id that nobody has takes the same path.
//! - No secret is kept, logged, listed or shown by `Debug`.
//! - A file is written whole or not at all, by one writer at a time, and read by its owner alone.
//! - A file that is broken changes nothing in a server that runs, and keeps one from starting.
//!
//! Not handled: accounts of people, and fetching tokens from elsewhere.

mod entry;
mod file;
mod known;
mod text;

pub use entry::{AllowedScope, MAX_EXPIRY, MAX_SCOPES, NotAllowed, Previous, Right, Timestamp, TokenEntry, TokenName};
pub use file::{MAX_TOKENS, TokenFile, TokenFileError};
pub use text::{Digest, NoRandomness, NotAToken, Token, TokenId};

pub(crate) use known::{Holder, Tokens};
