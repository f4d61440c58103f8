//! A slab in pages: what lies in it never moves as it grows.
//!
//! One vector that doubles would copy everything it holds while its shard is locked, and take up to twice what it needs.
//! Pages of [`PAGE`] cost one more look-up, copy a page at most, and give their memory back one by one as they empty, but
//! for the last that did: what comes and goes at the edge of a page asks nothing of the allocator.

use slab::Slab;
use std::ops::{Index, IndexMut};

/// Values in a page.
const PAGE: usize = 256;

/// Values under numbers that are used again; see the module.
#[derive(Debug, Clone)]
pub(crate) struct Pages<T> {
    pages: Vec<Slab<T>>,
    /// Pages with room, the one to fill next at the end; among them all that are empty.
    room: Vec<u32>,
    /// The page that emptied last: no other empty one has memory.
    emptied: usize,
    len: usize,
}

impl<T> Pages<T> {
    pub(crate) const fn new() -> Self {
        Self { pages: Vec::new(), room: Vec::new(), emptied: 0, len: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pages that it has, empty ones too.
    pub(crate) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The numbers of a page's values, taken or not.
    pub(crate) fn slots(page: usize) -> impl Iterator<Item = u32> {
        (page * PAGE..(page + 1) * PAGE).map(|slot| slot as u32)
    }

    /// Where the value is now. Its owner sees to it that there are no more than 2^32.
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let page = match self.room.last() {
            Some(page) => *page as usize,
            None => {
                self.pages.push(Slab::new());
                self.room.push((self.pages.len() - 1) as u32);
                self.pages.len() - 1
            }
        };
        let slot = self.pages[page].insert(value);
        if self.pages[page].len() == PAGE {
            self.room.pop();
        }
        self.len += 1;
        (page * PAGE + slot) as u32
    }

    /// Takes a value out that is there.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) -> T {
        let (page, slot) = split(slot);
        let value = self.pages[page].remove(slot);
        self.len -= 1;
        if self.pages[page].len() == PAGE - 1 {
            self.room.push(page as u32);
        }
        if self.pages[page].is_empty() {
            self.note_empty(page);
        }
        value
    }

    fn note_empty(&mut self, page: usize) {
        let before = std::mem::replace(&mut self.emptied, page);
        if self.len == 0 && self.pages.len() > 1 {
            *self = Self::new();
        } else if before != page && self.pages[before].is_empty() {
            self.pages[before] = Slab::new();
        }
    }

    #[inline]
    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.get(slot).is_some()
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        let (page, slot) = split(slot);
        self.pages.get(page)?.get(slot)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let (page, slot) = split(slot);
        self.pages.get_mut(page)?.get_mut(slot)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let pages = self.pages.iter().enumerate();
        pages.flat_map(|(page, slab)| slab.iter().map(move |(slot, value)| ((page * PAGE + slot) as u32, value)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let pages = self.pages.iter_mut().enumerate();
        pages.flat_map(|(page, slab)| slab.iter_mut().map(move |(slot, value)| ((page * PAGE + slot) as u32, value)))
    }
}

#[inline]
fn split(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE, slot as usize % PAGE)
}

impl<T> Index<u32> for Pages<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: u32) -> &T {
        let (page, slot) = split(slot);
        &self.pages[page][slot]
    }
}

impl<T> IndexMut<u32> for Pages<T> {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut T {
        let (page, slot) = split(slot);
        &mut self.pages[page][slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(moves in proptest::collection::vec((0u8..3, any::<u16>()), 0..3_000)) {
            let (mut pages, mut map, mut slots) = (Pages::new(), HashMap::new(), Vec::new());
            for (what, value) in moves {
                if what > 0 || slots.is_empty() {
                    let slot = pages.insert(value);
                    prop_assert_eq!(map.insert(slot, value), None, "a slot in use is given out again");
                    slots.push(slot);
                } else {
                    let slot = slots.swap_remove(usize::from(value) % slots.len());
                    prop_assert!(pages.contains(slot));
                    prop_assert_eq!(Some(pages.remove(slot)), map.remove(&slot));
                    prop_assert!(!pages.contains(slot));
                }
                prop_assert_eq!(pages.len(), map.len());
                prop_assert_eq!(pages.is_empty(), map.is_empty());
            }
            prop_assert!(pages.pages.len() <= 3_000usize.div_ceil(PAGE));
            for (slot, value) in &map {
                prop_assert_eq!(pages.get(*slot), Some(value));
                prop_assert_eq!(pages[*slot], *value);
            }
            let all: HashMap<u32, u16> = pages.iter().map(|(slot, value)| (slot, *value)).collect();
            prop_assert_eq!(&all, &map);
            pages.iter_mut().for_each(|(_, value)| *value ^= 1);
            prop_assert!(map.iter().all(|(slot, value)| pages.get_mut(*slot) == Some(&mut (value ^ 1))));
        }
    }

    #[test]
    fn empty_pages_give_their_memory_back() {
        let mut pages = Pages::new();
        let slots: Vec<u32> = (0..3 * PAGE as u32).map(|value| pages.insert(value)).collect();
        assert_eq!(slots, (0..3 * PAGE as u32).collect::<Vec<_>>());
        slots[..2 * PAGE].iter().for_each(|slot| assert_eq!(pages.remove(*slot), *slot));
        assert_eq!(pages.pages[0].capacity(), 0);
        assert_eq!(pages.pages[1].capacity(), PAGE, "the last to empty keeps its memory");
        // Room is filled up before a page is added.
        (0..2 * PAGE as u32).for_each(|value| assert!(pages.insert(value) < 2 * PAGE as u32));
        assert_eq!(pages.pages.len(), 3);
        (0..3 * PAGE as u32).for_each(|slot| assert!(pages.remove(slot) < 3 * PAGE as u32));
        assert_eq!((pages.pages.capacity(), pages.room.capacity()), (0, 0));
    }
}
