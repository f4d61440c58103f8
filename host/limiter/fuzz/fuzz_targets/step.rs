//! Any sequence of inputs to the limiter, judged by a naive model; see the library of this crate.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_limiter_fuzz::{Program, World};

fuzz_target!(|program: Program| World::run(&program));
