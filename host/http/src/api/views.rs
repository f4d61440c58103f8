//! What is served, as it is shown.

use serde::{Deserialize, Serialize};

/// What is being served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ComponentsView {
    /// The components, in the order of the configuration.
    pub components: Vec<ComponentView>,
}

/// One component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ComponentView {
    /// Its name, as in `/weir/call/{name}/...`.
    pub name: String,
    /// Where plain requests reach it.
    pub route: String,
    /// The scope of its own acquires, outside of a scoped request.
    pub scope: String,
    /// The scope that its plain route is under, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_scope: Option<String>,
}
