//! What the fuzz target `step` runs: any sequence of inputs to the limiter, beside a naive model of it. What the two others run
//! is in [`limits`] and [`pattern`]. `tests/corpus.rs` of the limiter runs the committed corpora of all three.
//!
//! A [`Program`] is made of the fuzzer's bytes. A [`World`] runs it on a virtual clock and judges every answer by a
//! [`model`] that keeps lists and adds them up; the two share no arithmetic. The reference test of the limiter asks more
//! (who is served next, who may pass whom) of tamer inputs; this asks less of any input: clocks that stand still or leap
//! over years, caps of a handful, costs up to the largest, references that are long stale, operators and pushbacks anywhere.
//!
//! # What must hold
//! - At a grant, no counter is above its concurrency limit, and no rate above its limit in any window.
//! - Nobody gets in where an operator or a pushback has shut the door.
//! - A check and an explanation have no effect, and an acquire at the same instant is decided as they said.
//! - A batch gets no fewer than it is content with, and no more than it asks for. Settling comes to what was asked, once.
//! - What counters show is the sum of what is held. Fencing numbers grow at every counter.
//! - Each part of a lease is released once; whatever is stale, however its slot is used by now, is gone.
//! - Nobody waits longer than they wished.
//! - Once everything is given back and has aged out, the shards are empty.
//!
//! # What is deliberately not here
//! A request that rides on another lease does not wait: whether its lender is free at the instant at which it is woken
//! depends on the order within a step, which the model does not know. Nor does one that rides, or lends, settle. Pools are not here:
//! the simulator has them. Neither the clock nor what was started beside a limit comes near the end of 64 bits.

#![forbid(unsafe_code)]

pub mod limits;
pub mod model;
pub mod pattern;
pub mod program;
pub mod world;

pub use program::Program;
pub use world::World;
