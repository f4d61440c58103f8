//! The lease parts of a shard, each in a slot that is used again.
//!
//! Like a slab, but for one thing: a part is filled and blanked where it lies. A part is large, leases come and go many
//! times while anything else changes, and what was just written in pieces is dear to move.

use crate::lease::LeasePart;
use crate::request::LeaseRef;
use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

/// The end of the chain of free slots.
const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    /// A slot is free when its part has the fence 0, which no lease has; its `caller` is then the next free slot.
    parts: Vec<LeasePart>,
    /// The first free slot: the one that was freed last.
    free: u32,
    len: usize,
    /// The slots of those parts that leases were given since; see [`crate::adopt`]. By the first part of each, which is all that their holders
    /// can name.
    given: BTreeMap<LeaseRef, u32>,
}

impl Leases {
    pub(crate) const fn new() -> Self {
        Self { parts: Vec::new(), free: NONE, len: 0, given: BTreeMap::new() }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.parts.capacity()
    }

    /// A part that stands alone and holds nothing yet: no end, no loan. The fence is not 0.
    #[inline]
    pub(crate) fn open(&mut self, fence: u64, granted_at: u64, caller: u32) -> u32 {
        let slot = self.free;
        self.len += 1;
        if let Some(part) = self.parts.get_mut(slot as usize) {
            self.free = part.caller;
            (part.fence, part.granted_at, part.caller) = (fence, granted_at, caller);
            return slot;
        }
        self.parts.push(LeasePart::held(fence, granted_at, caller));
        (self.parts.len() - 1) as u32
    }

    /// Puts a part where there is room.
    pub(crate) fn insert(&mut self, part: LeasePart) -> u32 {
        let slot = self.open(part.fence, part.granted_at, part.caller);
        self.parts[slot as usize] = part;
        slot
    }

    /// Frees the slot of a part that stands alone, as [`LeasePart::is_plain`] says.
    #[inline]
    pub(crate) fn close(&mut self, slot: u32) {
        let part = &mut self.parts[slot as usize];
        debug_assert!(part.fence != 0 && part.is_plain());
        part.holds.clear();
        (part.fence, part.caller) = (0, self.free);
        self.free = slot;
        self.len -= 1;
    }

    /// Takes a part out that is there.
    pub(crate) fn remove(&mut self, slot: u32) -> LeasePart {
        let free = LeasePart::held(0, 0, self.free);
        let part = std::mem::replace(&mut self.parts[slot as usize], free);
        if let Some(first) = part.rest.as_ref().and_then(|rest| rest.given_to) {
            self.given.remove(&first);
        }
        self.free = slot;
        self.len -= 1;
        part
    }

    /// Gives memory back that a busy hour has left.
    pub(crate) fn shrink(&mut self) {
        if self.len == 0 && self.parts.capacity() > 64 {
            *self = Self::new();
        }
    }

    #[inline]
    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.get(slot).is_some()
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&LeasePart> {
        self.parts.get(slot as usize).filter(|part| part.fence != 0)
    }

    /// The part here of a lease, by those of its parts that its holder knows.
    #[inline]
    pub(crate) fn named(&self, shard: u16, parts: &[LeaseRef]) -> Option<u32> {
        let own = parts.iter().find(|part| part.shard == shard && self.living(**part).is_some());
        let given = || parts.iter().find_map(|part| self.given.get(part));
        own.map(|part| part.slot).or_else(|| given().copied())
    }

    /// Puts a part where there is room that a lease is given besides those that its holder knows.
    pub(crate) fn give(&mut self, first: LeaseRef, mut part: LeasePart) -> u32 {
        part.rest.get_or_insert_default().given_to = Some(first);
        let slot = self.insert(part);
        self.given.insert(first, slot);
        slot
    }

    /// A part, if it lives.
    #[inline]
    pub(crate) fn living(&self, lease: LeaseRef) -> Option<&LeasePart> {
        self.get(lease.slot).filter(|part| part.fence == lease.fence)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut LeasePart> {
        self.parts.get_mut(slot as usize).filter(|part| part.fence != 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &LeasePart)> {
        let slots = self.parts.iter().enumerate().map(|(slot, part)| (slot as u32, part));
        slots.filter(|(_, part)| part.fence != 0)
    }
}

impl Index<u32> for Leases {
    type Output = LeasePart;

    #[inline]
    fn index(&self, slot: u32) -> &LeasePart {
        &self.parts[slot as usize]
    }
}

impl IndexMut<u32> for Leases {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut LeasePart {
        &mut self.parts[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Hold;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(moves in proptest::collection::vec((0u8..6, any::<u16>()), 0..300)) {
            let (mut leases, mut map, mut fence) = (Leases::new(), BTreeMap::new(), 0);
            for (what, pick) in moves {
                let there = map.keys().nth(usize::from(pick) % map.len().max(1)).copied();
                let (caller, at) = (u32::from(pick % 3), u64::from(pick));
                match (what, there) {
                    (0, Some(slot)) => {
                        leases.close(slot);
                        map.remove(&slot);
                    }
                    (1, Some(slot)) => {
                        // It may end as anything: what comes to lie there next begins anew.
                        leases[slot].ends_at = at;
                        leases[slot].set_loan(Some((slot, 1)));
                        prop_assert_eq!(Some(leases.remove(slot).fence), map.remove(&slot));
                    }
                    (2, _) => {
                        fence += 1;
                        let slot = leases.insert(LeasePart::held(fence, at, caller));
                        prop_assert_eq!(map.insert(slot, fence), None, "a slot in use is given out again");
                    }
                    _ => {
                        fence += 1;
                        let slot = leases.open(fence, at, caller);
                        let part = &mut leases[slot];
                        prop_assert_eq!((part.fence, part.granted_at, part.caller), (fence, at, caller));
                        prop_assert!(part.is_plain() && part.holds.is_empty(), "something of the last one is left");
                        part.holds.push(Hold::new(1, 1, 1));
                        prop_assert_eq!(map.insert(slot, fence), None, "a slot in use is given out again");
                    }
                }
                prop_assert_eq!((leases.len(), leases.is_empty()), (map.len(), map.is_empty()));
                let all: BTreeMap<u32, u64> = leases.iter().map(|(slot, part)| (slot, part.fence)).collect();
                prop_assert_eq!(&all, &map);
                for slot in 0..leases.parts.len() as u32 + 1 {
                    prop_assert_eq!(leases.get(slot).map(|part| part.fence), map.get(&slot).copied());
                    prop_assert_eq!(leases.get_mut(slot).is_some(), leases.contains(slot));
                }
            }
            let most = leases.parts.len();
            prop_assert!(most <= 301);
            let [first, of_another] = [1, 2].map(|fence| LeaseRef { shard: 1, slot: 7, fence });
            let given = leases.give(first, LeasePart::held(u64::MAX, 1, 0));
            prop_assert_eq!((leases.named(0, &[first]), leases.named(0, &[of_another])), (Some(given), None));
            leases.remove(given);
            prop_assert_eq!(leases.named(0, &[first]), None);
            map.keys().for_each(|slot| drop(leases.remove(*slot)));
            leases.shrink();
            prop_assert!(leases.capacity() <= 64);
        }
    }
}
