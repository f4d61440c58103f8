//! The `[[component]]` entries of a file.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use weir_engine::ScopedKey;
use weir_http::api::DurationText;
use weir_wasm::{ComponentConfig, Egress, check_outbound};

use super::size::MemorySize;
use super::{ComponentEntry, Fault, Source};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ComponentTable {
    name: Spanned<String>,
    path: Spanned<PathBuf>,
    route: Option<Spanned<String>>,
    scope: Option<Spanned<String>>,
    ingress_scope: Option<Spanned<String>>,
    #[serde(default)]
    allow_scopes: Vec<Spanned<String>>,
    #[serde(default)]
    allow_outbound: Vec<Spanned<String>>,
    #[serde(default)]
    isolate: bool,
    max_instances: Option<NonZeroUsize>,
    max_waiting_in_guest: Option<usize>,
    memory: Option<MemorySize>,
    cpu: Option<Spanned<DurationText>>,
    deadline: Option<Spanned<DurationText>>,
    environment: Option<Spanned<BTreeMap<String, String>>>,
}

/// Checks entries for themselves and beside each other; paths are relative to `folder`.
pub(super) fn check(folder: &Path, tables: Vec<ComponentTable>, egress: &Egress) -> Result<Vec<ComponentEntry>, Fault> {
    let mut components: Vec<ComponentEntry> = Vec::new();
    for table in tables {
        let name_span = table.name.span();
        let route_span = table.route.as_ref().map_or(name_span.clone(), Spanned::span);
        let entry = component(folder, table, egress)?;
        if components.iter().any(|other| other.config.name == entry.config.name) {
            return Err((name_span, format!("name: another component is named `{}`", entry.config.name)));
        }
        if let Some(other) = components.iter().find(|other| other.route == entry.route) {
            return Err((
                route_span,
                format!("route: the component `{}` has the route `{}` too", other.config.name, entry.route),
            ));
        }
        components.push(entry);
    }
    Ok(components)
}

fn component(folder: &Path, table: ComponentTable, egress: &Egress) -> Result<ComponentEntry, Fault> {
    let name = scope("name", &table.name)?;
    let path = folder.join(table.path.get_ref());
    if !path.is_file() {
        let what = if path.is_dir() { "it is a directory, and must be a file:" } else { "there is no file" };
        return Err((table.path.span(), format!("path: {what} {}", path.display())));
    }
    let route = match &table.route {
        Some(route) => route.get_ref().parse().map_err(|error| (route.span(), format!("route: {error}")))?,
        None => format!("/{name}/...").parse().map_err(|error| (table.name.span(), format!("route: {error}")))?,
    };
    let ComponentConfig { mut limits, .. } = ComponentConfig::new(&name);
    limits.memory = table.memory.map_or(limits.memory, |memory| memory.0);
    limits.cpu = table.cpu.map_or(Ok(limits.cpu), |text| some_time("cpu", &text))?;
    limits.deadline = table.deadline.map_or(Ok(limits.deadline), |text| some_time("deadline", &text))?;
    let allowed =
        |text: &Spanned<String>| if text.get_ref() == "*" { Ok("*".to_owned()) } else { scope("allow-scopes", text) };
    let config = ComponentConfig {
        scope: table.scope.as_ref().map_or(Ok(name.clone()), |text| scope("scope", text))?,
        name,
        allow_scopes: table.allow_scopes.iter().map(allowed).collect::<Result<_, _>>()?,
        allow_outbound: table.allow_outbound.iter().map(outbound).collect::<Result<_, _>>()?,
        egress: egress.clone(),
        isolate: table.isolate,
        max_instances: table.max_instances.map(NonZeroUsize::get),
        max_waiting_in_guest: table.max_waiting_in_guest,
        limits,
        env: table.environment.map_or(Ok(Vec::new()), environment)?,
    };
    let ingress_scope = table.ingress_scope.as_ref().map(|text| scope("ingress-scope", text)).transpose()?;
    Ok(ComponentEntry { source: Source::File(path), config, route, ingress_scope })
}

/// A time that must not be 0.
fn some_time(field: &str, text: &Spanned<DurationText>) -> Result<Duration, Fault> {
    let time = text.get_ref().0;
    if time.is_zero() { Err((text.span(), format!("{field}: it is 0, and must be more"))) } else { Ok(time) }
}

/// Whom a component may call.
fn outbound(text: &Spanned<String>) -> Result<String, Fault> {
    match check_outbound(text.get_ref()) {
        Ok(()) => Ok(text.get_ref().clone()),
        Err(error) => Err((text.span(), format!("allow-outbound: {error}"))),
    }
}

/// Variables that a guest can tell apart.
fn environment(table: Spanned<BTreeMap<String, String>>) -> Result<Vec<(String, String)>, Fault> {
    let span = table.span();
    let fault = |problem: &str| Err((span.clone(), format!("environment: {problem}")));
    for (name, value) in table.get_ref() {
        if name.is_empty() || name.contains(['=', '\0']) {
            return fault("a name is empty, or has a `=` or a NUL in it");
        }
        if value.contains('\0') {
            return fault(&format!("the value of `{name}` has a NUL in it"));
        }
    }
    Ok(table.into_inner().into_iter().collect())
}

/// A text that must be a scope.
fn scope(field: &str, text: &Spanned<String>) -> Result<String, Fault> {
    match ScopedKey::new(text.get_ref(), None) {
        Ok(_) => Ok(text.get_ref().clone()),
        Err(error) => Err((text.span(), format!("{field}: {error}"))),
    }
}
