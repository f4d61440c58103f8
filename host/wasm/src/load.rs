//! From the bytes of a file to a component that can be run, or to one error that says what is wrong with them.

use crate::calls::add_calls_to_linker;
use crate::component::Component;
use crate::egress::{OutboundRuleError, add_http_to_linker};
use crate::limits::ComponentConfig;
use crate::runtime::Runtime;
use crate::store::GuestData;
use crate::view::add_to_linker;
use std::fmt;
use std::sync::Arc;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component as Wasm, InstancePre, Linker};
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{p2, p3};
use weir_engine::NameError;

/// Why a file is not a component that can be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It is no WebAssembly at all.
    #[error("this is not a WebAssembly component: {found}")]
    NotAComponent {
        /// What it looks like.
        found: &'static str,
    },
    /// It is a core module.
    #[error(
        "a core module, not a component: build it for the target wasm32-wasip2, or turn it into one with `wasm-tools component new`"
    )]
    CoreModule,
    /// It is damaged, or uses what this engine does not support.
    #[error("the component does not compile: {message}")]
    Compile {
        /// What the compiler says.
        message: String,
    },
    /// It imports what the host does not have.
    #[error("the component imports what this host does not have: {}", .imports.join(", "))]
    MissingImports {
        /// Every missing interface, or function as `interface#function`.
        imports: Vec<String>,
    },
    /// It imports something by the right name with another type.
    #[error("the component does not fit this host: {message}")]
    Mismatch {
        /// What the linker says.
        message: String,
    },
    /// It exports no HTTP handler.
    #[error(
        "the component exports no HTTP handler: it needs `wasi:http/handler@0.3.0` or `wasi:http/incoming-handler@0.2`, and exports {}",
        shown_exports(.exports)
    )]
    NoHandler {
        /// What it exports.
        exports: Vec<String>,
    },
    /// Its scope, or one that it is allowed, is not a name.
    #[error("component `{component}`: {error}")]
    Scope {
        /// Which component.
        component: String,
        /// What is wrong.
        error: NameError,
    },
    /// One of its outbound hosts is none.
    #[error("component `{component}`: allow-outbound: {error}")]
    Outbound {
        /// Which component.
        component: String,
        /// What is wrong.
        error: OutboundRuleError,
    },
    /// It may have no instance, no request at a time, no memory or no time.
    #[error("component `{component}`: `{what}` is 0: it must be more")]
    Zero {
        /// Which component.
        component: String,
        /// Which number.
        what: &'static str,
    },
}

fn shown_exports(exports: &[String]) -> String {
    if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") }
}

/// The code of a component, compiled and linked: what several components of the same file share.
#[derive(Clone)]
pub struct Compiled {
    runtime: Runtime,
    pre: Arc<ProxyPre<GuestData>>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").finish_non_exhaustive()
    }
}

impl Compiled {
    /// A component of this code.
    ///
    /// # Errors
    /// [`LoadError`] when its configuration is not valid.
    pub fn component(&self, flow: &weir_engine::Engine, config: ComponentConfig) -> Result<Arc<Component>, LoadError> {
        Component::new(self.runtime.clone(), flow.clone(), self.pre.clone(), config)
    }
}

impl Runtime {
    /// Compiles and links a component, and configures it.
    ///
    /// # Errors
    /// [`LoadError`]; its text is for the user.
    pub fn load(
        &self,
        flow: &weir_engine::Engine,
        bytes: &[u8],
        config: ComponentConfig,
    ) -> Result<Arc<Component>, LoadError> {
        self.compile(bytes)?.component(flow, config)
    }

    /// Compiles and links a component. Takes a second or so for a large one.
    ///
    /// # Errors
    /// [`LoadError`]; its text is for the user.
    pub fn compile(&self, bytes: &[u8]) -> Result<Compiled, LoadError> {
        check_component(bytes)?;
        let wasm = Wasm::from_binary(self.engine(), bytes)
            .map_err(|error| LoadError::Compile { message: format!("{error:#}") })?;
        let linker = self.linker().map_err(|error| LoadError::Mismatch { message: format!("{error:#}") })?;
        let pre = match linker.instantiate_pre(&wasm) {
            Ok(pre) => pre,
            Err(error) => {
                let imports = missing_imports(&linker, &wasm);
                return Err(if imports.is_empty() {
                    LoadError::Mismatch { message: format!("{error:#}") }
                } else {
                    LoadError::MissingImports { imports }
                });
            }
        };
        Ok(Compiled { runtime: self.clone(), pre: Arc::new(handler(pre, &wasm)?) })
    }

    fn linker(&self) -> wasmtime::Result<Linker<GuestData>> {
        let mut linker = Linker::new(self.engine());
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        add_http_to_linker(&mut linker)?;
        add_to_linker(&mut linker)?;
        add_calls_to_linker(&mut linker)?;
        Ok(linker)
    }
}

/// Says what bytes are that are no component, by how they begin.
///
/// # Errors
/// [`LoadError::NotAComponent`] or [`LoadError::CoreModule`].
pub fn check_component(bytes: &[u8]) -> Result<(), LoadError> {
    match bytes {
        [] => Err(LoadError::NotAComponent { found: "the file is empty" }),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(LoadError::CoreModule),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', ..] => Err(LoadError::NotAComponent { found: "it is WebAssembly of an unknown version" }),
        [b'(', ..] => Err(LoadError::NotAComponent {
            found: "it looks like WebAssembly text; assemble it with `wasm-tools parse`",
        }),
        [0x7f, b'E', b'L', b'F', ..] => {
            Err(LoadError::NotAComponent { found: "it is a native program or a precompiled component" })
        }
        _ => Err(LoadError::NotAComponent { found: "it does not start with the WebAssembly magic `\\0asm`" }),
    }
}

fn handler(pre: InstancePre<GuestData>, wasm: &Wasm) -> Result<ProxyPre<GuestData>, LoadError> {
    let new = match p3::bindings::ServicePre::new(pre.clone()) {
        Ok(pre) => return Ok(ProxyPre::P3(pre)),
        Err(error) => error,
    };
    let old = match p2::bindings::ProxyPre::new(pre) {
        Ok(pre) => return Ok(ProxyPre::P2(pre)),
        Err(error) => error,
    };
    let ty = wasm.component_type();
    let exports: Vec<String> = ty.exports(wasm.engine()).map(|(name, _)| name.to_owned()).collect();
    // An export of the right name and another type deserves the linker's own words.
    if exports.iter().any(|name| name.starts_with("wasi:http/handler@0.3")) {
        Err(LoadError::Mismatch { message: format!("{new:#}") })
    } else if exports.iter().any(|name| name.starts_with("wasi:http/incoming-handler@0.2")) {
        Err(LoadError::Mismatch { message: format!("{old:#}") })
    } else {
        Err(LoadError::NoHandler { exports })
    }
}

/// All imports that the linker cannot meet. The linker itself names only the first.
///
/// The linker tells what it has only by refusing to define it again, so a copy of it is asked for each function.
fn missing_imports(linker: &Linker<GuestData>, wasm: &Wasm) -> Vec<String> {
    let mut missing = Vec::new();
    let ty = wasm.component_type();
    for (name, item) in ty.imports(wasm.engine()) {
        match item.ty {
            ComponentItem::ComponentInstance(instance) => {
                let functions: Vec<String> = instance
                    .exports(wasm.engine())
                    .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                    .map(|(function, _)| function.to_owned())
                    .collect();
                let lacking = compatible_names(name)
                    .map(|candidate| lacking(linker, &candidate, &functions))
                    .min_by_key(Vec::len)
                    .unwrap_or_default();
                if !functions.is_empty() && lacking.len() == functions.len() {
                    missing.push(name.to_owned());
                } else {
                    missing.extend(lacking.into_iter().map(|function| format!("{name}#{function}")));
                }
            }
            ComponentItem::ComponentFunc(_) if linker.clone().root().func_new(name, |_, _, _, _| Ok(())).is_ok() => {
                missing.push(name.to_owned())
            }
            _ => {}
        }
    }
    missing
}

fn lacking(linker: &Linker<GuestData>, instance: &str, functions: &[String]) -> Vec<String> {
    let mut linker = linker.clone();
    linker.allow_shadowing(false);
    let Ok(mut instance) = linker.instance(instance) else { return functions.to_vec() };
    functions.iter().filter(|function| instance.func_new(function, |_, _, _, _| Ok(())).is_ok()).cloned().collect()
}

/// The names under which the linker may have what is imported as `name`: the same, or another patch version of it.
fn compatible_names(name: &str) -> impl Iterator<Item = String> + '_ {
    const PATCHES: u32 = 32;
    let base = name
        .rsplit_once('.')
        .filter(|(base, patch)| patch.bytes().all(|b| b.is_ascii_digit()) && is_release(base))
        .map(|(base, _)| base);
    std::iter::once(name.to_owned())
        .chain(base.into_iter().flat_map(|base| (0..PATCHES).map(move |patch| format!("{base}.{patch}"))))
}

/// `namespace:package/interface@major.minor`, and no pre-release, which is compatible with nothing but itself.
fn is_release(base: &str) -> bool {
    base.rsplit_once('@').is_some_and(|(_, version)| version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_component_is_named_for_what_it_is() {
        assert!(
            check_component(b"\0asm\x01\0\0\0").unwrap_err().to_string().starts_with("a core module, not a component")
        );
        assert!(check_component(b"").unwrap_err().to_string().contains("empty"));
        assert!(check_component(b"(component)").unwrap_err().to_string().contains("text"));
        assert!(check_component(b"#!/bin/sh").unwrap_err().to_string().contains("magic"));
        assert!(check_component(b"\0asm\x0d\0\x01\0").is_ok());
    }

    #[test]
    fn another_patch_version_is_compatible() {
        let names: Vec<_> = compatible_names("wasi:http/types@0.2.3").collect();
        assert_eq!(names[0], "wasi:http/types@0.2.3");
        assert!(names.contains(&"wasi:http/types@0.2.12".to_owned()));
        assert_eq!(compatible_names("weir:flow/types@0.1.0-draft.2").count(), 1);
        assert_eq!(compatible_names("plain").count(), 1);
    }
}
