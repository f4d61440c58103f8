//! The committed corpora of the fuzz targets, run once: what fuzzing has found stays found, on days without it too.

#[path = "../fuzz/src/limits.rs"]
pub mod limits;
#[path = "../fuzz/src/model.rs"]
pub mod model;
#[path = "../fuzz/src/pattern.rs"]
pub mod pattern;
#[path = "../fuzz/src/program.rs"]
pub mod program;
#[path = "../fuzz/src/world.rs"]
pub mod world;

use arbitrary::{Arbitrary as _, Unstructured};
use std::panic::catch_unwind;
use std::path::Path;

/// Runs each input of a target, and says which was the first to fail.
fn replay(target: &str, least: usize, run: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = corpus.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= least, "{} inputs are left in {}", inputs.len(), corpus.display());
    for input in inputs {
        let bytes = std::fs::read(&input).unwrap();
        assert!(catch_unwind(|| run(&bytes)).is_ok(), "{}", input.display());
    }
}

/// As the fuzzer makes a text of its bytes: what is no text is not run.
fn text(check: fn(&str)) -> impl Fn(&[u8]) {
    move |bytes| std::str::from_utf8(bytes).into_iter().for_each(check)
}

#[test]
fn limits_of_the_corpus() {
    replay("limits", 60, text(limits::check));
}

#[test]
fn patterns_of_the_corpus() {
    replay("pattern", 40, text(pattern::check));
}

#[test]
fn programs_of_the_corpus() {
    replay("step", 83, |bytes| {
        world::World::run(&program::Program::arbitrary_take_rest(Unstructured::new(bytes)).unwrap());
    });
}
