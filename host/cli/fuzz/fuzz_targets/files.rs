//! Any text as `weir.toml`: a configuration, or an error with its place; what is accepted round-trips.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| weir_fuzz::file(text));
