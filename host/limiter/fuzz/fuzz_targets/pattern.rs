//! Any text as a pattern, a scoped key and a lease id; see the library of this crate.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| weir_limiter_fuzz::pattern::check(text));
