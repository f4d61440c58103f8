//! A component that cannot be called over HTTP, and files that are no component at all.

use weir_tests::{Host, guests};
use weir_wasm::{ComponentConfig, LoadError, Runtime, RuntimeConfig};

#[test]
fn a_component_without_a_handler_is_refused_with_what_it_exports() {
    let error = Host::new(&[]).try_load(guests::NO_HANDLER, |_| {}).unwrap_err();
    assert!(
        matches!(&error, LoadError::NoHandler { exports } if exports.iter().any(|export| export.starts_with("wasi:cli/run"))),
        "{error}"
    );
    assert!(error.to_string().contains("exports no HTTP handler"), "{error}");
}

#[test]
fn a_file_that_is_no_component_is_refused_by_name() {
    let host = Host::new(&[]);
    let runtime = Runtime::new(&RuntimeConfig { pool_instances: 1, ..RuntimeConfig::default() }).unwrap();
    let load = |bytes: &[u8]| runtime.load(&host.flow, bytes, ComponentConfig::new("app")).unwrap_err().to_string();
    assert!(load(b"\0asm\x01\0\0\0").starts_with("a core module, not a component"));
    assert!(load(b"").contains("empty"));
    assert!(load(b"not wasm").contains("magic"));
    // The right magic, and rubbish behind it.
    assert!(load(b"\0asm\x0d\0\x01\0\xff\xff\xff").starts_with("the component does not compile"));
    // A component, and cut off.
    let whole = std::fs::read(guests::FLOW).unwrap();
    assert!(load(&whole[..whole.len() / 2]).starts_with("the component does not compile"));
}

#[test]
fn a_bad_configuration_is_refused_by_name() {
    let host = Host::new(&[]);
    let load = |change: fn(&mut ComponentConfig)| host.try_load(guests::FLOW, change).unwrap_err().to_string();
    assert!(load(|config| config.scope = "a b".into()).contains("scope"));
    assert!(load(|config| config.allow_scopes = vec!["a/b".into()]).contains("component `app`"));
    assert!(load(|config| config.allow_outbound = vec!["https://x".into()]).contains("`https://x` is no host"));
    assert!(load(|config| config.max_instances = Some(0)).contains("`max-instances` is 0"));
}
