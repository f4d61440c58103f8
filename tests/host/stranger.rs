//! A component that imports what this host lacks.

use weir_tests::{Host, guests};
use weir_wasm::LoadError;

#[test]
fn all_missing_imports_are_listed() {
    let error = Host::new(&[]).try_load(guests::STRANGER, |_| {}).unwrap_err();
    let LoadError::MissingImports { imports } = &error else { panic!("{error}") };
    assert_eq!(imports, &["other:platform/kettle@1.2.0", "other:platform/toaster@1.2.0"]);
    assert!(error.to_string().contains("other:platform/kettle@1.2.0, other:platform/toaster@1.2.0"), "{error}");
}
