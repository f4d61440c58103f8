//! Any text as a rate, a concurrency limit and a duration; see the library of this crate.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| weir_limiter_fuzz::limits::check(text));
