//! Placement: which shard a scope lies in.

use crate::book::RuleBook;
use crate::request::Request;
use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// Which shard a scope lies in.
#[derive(Debug, Clone)]
pub struct Placement {
    hasher: SeedableRandomState,
    shards: u16,
}

impl Placement {
    /// Spreads scopes over `shards` shards, at least one, by a hash that is seeded anew in every process.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self { hasher: SeedableRandomState::random(), shards: shards.max(1) }
    }

    /// The same in every process, for runs that are to be repeated. Who may choose scopes could choose them to collide.
    #[must_use]
    pub fn fixed(shards: u16) -> Self {
        Self { hasher: SeedableRandomState::fixed(), shards: shards.max(1) }
    }

    /// The same for the same seed, in every process: for a state that survives it.
    #[must_use]
    pub fn seeded(shards: u16, seed: u64) -> Self {
        Self { hasher: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()), shards: shards.max(1) }
    }

    /// The shard of a scope.
    #[inline]
    #[must_use]
    pub fn shard_of(&self, scope: &str) -> u16 {
        // Of one there is nothing to choose.
        if self.shards == 1 { 0 } else { self.shard_of_hash(self.hash(scope)) }
    }

    /// The hash of the line in which a request waits, the same in whichever order it names its keys.
    #[inline]
    pub(crate) fn hash_of_line(&self, request: &Request) -> u64 {
        let keys = request.targets.iter().map(|key| self.hash(key.as_str()));
        let inline = request.inline.iter().map(|inline| self.hash(inline.name.as_str()));
        let names = keys.chain(inline).fold(0, u64::wrapping_add);
        self.hasher.hash_one((names, request.share(), request.priority, request.weight))
    }

    /// The hash of a counter's name.
    #[inline]
    #[must_use]
    pub fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// The shard of a scope with this hash.
    #[inline]
    #[must_use]
    pub fn shard_of_hash(&self, hash: u64) -> u16 {
        // Bits that the table of the shard does not use: it places by the low ones, and tells apart by the top seven. They
        // are a fraction of the shards (Lemire, ACM TOMACS 29(1), 2019): a division would cost as much as the hash.
        ((((hash >> 25) & u64::from(u32::MAX)) * u64::from(self.shards)) >> 32) as u16
    }

    /// The lowest shard that the scopes of a request lie in: there, it waits.
    pub(crate) fn home_of(&self, request: &Request) -> u16 {
        if self.shards == 1 {
            return 0;
        }
        request.scopes().map(|scope| self.shard_of(scope)).min().unwrap_or(0)
    }

    /// The shards that the scopes of a request lie in, ascending, each once. Where a `total` rule spans scopes, a step
    /// may answer that it needs one more.
    #[must_use]
    pub fn shards_of(&self, request: &Request) -> SmallVec<[u16; 4]> {
        let mut shards: SmallVec<[u16; 4]> = request.scopes().map(|scope| self.shard_of(scope)).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// The same, with the shard where the pools over several scopes lie, if there are such.
    pub(crate) fn all_shards_of<'a>(
        &self,
        scopes: impl Iterator<Item = &'a str>,
        book: &RuleBook,
    ) -> SmallVec<[u16; 4]> {
        let mut shards: SmallVec<[u16; 4]> = scopes.map(|scope| self.shard_of(scope)).collect();
        if book.has_wide_totals() {
            shards.push(self.shard_of("*"));
        }
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }
}
