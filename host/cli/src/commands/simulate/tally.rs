//! Tallies: what became of whom, in memory that does not grow with the run.
//!
//! Arrivals are told apart by *place*: their key, fairness key and weight. A place counts what happened to its arrivals; a
//! key of the report is the sum of the places at it and below it. All sums are whole numbers, so they come out the same in
//! any order.
//!
//! # In use over time
//! The run is cut into [`SLICES`]. In a slice of which `left` nanoseconds are left, a grant adds `left` to the time in use
//! and a release takes `left` off; what was held when the slice began adds its whole width. So a grant and a release are
//! one sum each, and a slice costs one look at each place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState;
use weir_limiter::{Reason, Request, ScopedKey};

use super::waits::Waits;

/// Into how many slices a run is cut: points of a line that can still be told apart on a screen.
pub(crate) const SLICES: u64 = 240;
/// The most places: with two histograms of 16 KB each, 320 MB where waits are charted and all of them wait.
const MAX_PLACES: usize = 10_000;

/// A trace has more keys than a report can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_PLACES} different keys, fairness keys and weights: simulate a part of them")]
pub(crate) struct TooManyPlaces;

/// An amount in calls and in cost; of usage, or of usage times nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Units {
    pub(crate) calls: i128,
    pub(crate) cost: i128,
}

impl Units {
    fn of(cost: u32) -> Self {
        Self { calls: 1, cost: cost.into() }
    }

    /// Adds another so many times.
    pub(crate) fn add(&mut self, other: Self, times: i128) {
        self.calls += other.calls * times;
        self.cost += other.cost * times;
    }
}

/// Whose arrivals are counted together.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) key: ScopedKey,
    /// As the limiter takes it: the limit key, unless the request names one; none where there is neither.
    pub(crate) fairness: Option<Arc<str>>,
    pub(crate) weight: u16,
}

/// All places, by what they are made of.
#[derive(Debug, Default)]
pub(crate) struct Places {
    places: Vec<Place>,
    by_name: HashMap<String, u32, FixedState>,
    name: String,
}

impl Places {
    /// The place of a request, made if need be.
    pub(crate) fn of(&mut self, request: &Request) -> Result<u32, TooManyPlaces> {
        use std::fmt::Write;
        let key = request.targets.first().ok_or(TooManyPlaces)?;
        let fairness = request.fairness_key.as_deref().or(key.limit_key());
        self.name.clear();
        // No part of it has a blank, and writing to a text does not fail.
        let _written = write!(self.name, "{key} {} {}", fairness.unwrap_or_default(), request.weight);
        if let Some(place) = self.by_name.get(&self.name) {
            return Ok(*place);
        }
        if self.places.len() >= MAX_PLACES {
            return Err(TooManyPlaces);
        }
        let place = self.places.len() as u32;
        self.by_name.insert(self.name.clone(), place);
        let fairness = fairness.map(Into::into);
        self.places.push(Place { key: key.clone(), fairness, weight: request.weight.get() });
        Ok(place)
    }

    pub(crate) fn get(&self) -> &[Place] {
        &self.places
    }
}

/// What became of the arrivals of one place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) arrivals: u64,
    /// In the order of [`Reason::ALL`].
    pub(crate) refused: [u64; Reason::ALL.len()],
    pub(crate) waiting: u64,
    /// Granted since the beginning.
    pub(crate) started: Units,
    /// Usage times nanoseconds, up to the present slice.
    pub(crate) used: Units,
    pub(crate) waits: Waits,
    held: Units,
    /// Usage times nanoseconds of this slice, without what was held when it began.
    slice_used: Units,
    /// Held when this slice began.
    slice_held: Units,
    slice_waits: Waits,
}

/// One slice of one key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    /// Usage on the mean, in calls and in cost.
    pub(crate) used: (f64, f64),
    /// The wait that 99 % of those granted did not exceed; none: nobody was granted.
    pub(crate) wait: Option<u64>,
}

/// All tallies of a run.
#[derive(Debug)]
pub(crate) struct Tallies {
    begin: u64,
    width: u64,
    slice: u64,
    /// When the present slice ends.
    pub(crate) slice_end: u64,
    slice_begin: u64,
    tallies: Vec<Tally>,
    /// What is charted, by key; none: nothing is.
    lines: Option<BTreeMap<String, Vec<Point>>>,
}

impl Tallies {
    /// For a run of so many nanoseconds from `begin` on.
    pub(crate) fn new(begin: u64, width: u64, charted: bool) -> Self {
        let mut tallies = Self {
            begin,
            width,
            slice: 0,
            slice_end: 0,
            slice_begin: begin,
            tallies: Vec::new(),
            lines: charted.then(BTreeMap::new),
        };
        tallies.slice_end = tallies.edge(1);
        tallies
    }

    /// Where a slice begins.
    fn edge(&self, slice: u64) -> u64 {
        self.begin + (u128::from(self.width) * u128::from(slice) / u128::from(SLICES)) as u64
    }

    #[inline]
    pub(crate) fn arrived(&mut self, place: u32) {
        let place = place as usize;
        if place >= self.tallies.len() {
            self.tallies.resize_with(place + 1, Tally::default);
        }
        self.tallies[place].arrivals += 1;
    }

    #[inline]
    pub(crate) fn granted(&mut self, place: u32, now: u64, cost: u32, waited: u64) {
        let left = i128::from(self.slice_end - now);
        let tally = &mut self.tallies[place as usize];
        let units = Units::of(cost);
        tally.started.add(units, 1);
        tally.held.add(units, 1);
        tally.slice_used.add(units, left);
        if self.lines.is_some() {
            tally.slice_waits.record(waited);
        } else {
            tally.waits.record(waited);
        }
    }

    #[inline]
    pub(crate) fn released(&mut self, place: u32, now: u64, cost: u32) {
        let left = i128::from(self.slice_end - now);
        let tally = &mut self.tallies[place as usize];
        let units = Units::of(cost);
        tally.held.add(units, -1);
        tally.slice_used.add(units, -left);
    }

    pub(crate) fn refused(&mut self, place: u32, reason: Reason) {
        self.tallies[place as usize].refused[reason as usize] += 1;
    }

    pub(crate) fn waiting(&mut self, place: u32) {
        self.tallies[place as usize].waiting += 1;
    }

    /// Ends every slice that has ended by now.
    #[cold]
    pub(crate) fn turn(&mut self, now: u64, places: &Places) {
        while self.slice_end <= now && self.slice < SLICES {
            self.end_slice(places);
        }
    }

    fn end_slice(&mut self, places: &Places) {
        let width = self.slice_end - self.slice_begin;
        for tally in &mut self.tallies {
            tally.slice_used.add(tally.slice_held, width.into());
            tally.used.add(tally.slice_used, 1);
        }
        if let Some(lines) = &mut self.lines {
            for (key, members) in keys(places) {
                let (mut used, mut waits) = (Units::default(), Waits::default());
                for tally in members.iter().filter_map(|place| self.tallies.get(*place)) {
                    used.add(tally.slice_used, 1);
                    waits.add(&tally.slice_waits);
                }
                let mean = |used: i128| used as f64 / width.max(1) as f64;
                let wait = (waits.granted > 0).then(|| waits.quantile(0.99));
                let line = lines.entry(key.to_owned()).or_default();
                // A key that came late was empty before.
                line.resize(self.slice as usize, Point { used: (0.0, 0.0), wait: None });
                line.push(Point { used: (mean(used.calls), mean(used.cost)), wait });
            }
        }
        for tally in &mut self.tallies {
            tally.slice_used = Units::default();
            tally.slice_held = tally.held;
            tally.waits.add(&tally.slice_waits);
            tally.slice_waits.clear();
        }
        self.slice += 1;
        self.slice_begin = self.slice_end;
        self.slice_end = self.edge(self.slice + 1);
    }

    /// The tallies by place, and the lines to chart by key.
    pub(crate) fn finish(mut self, places: &Places) -> (Vec<Tally>, Option<BTreeMap<String, Vec<Point>>>) {
        self.tallies.resize_with(places.get().len(), Tally::default);
        (self.tallies, self.lines)
    }
}

/// Every key and every scope above one, with the places at it and below it.
pub(crate) fn keys(places: &Places) -> BTreeMap<&str, Vec<usize>> {
    let mut keys: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, place) in places.get().iter().enumerate() {
        for depth in 1..=place.key.depth() {
            keys.entry(place.key.prefix(depth)).or_default().push(index);
        }
    }
    keys
}
