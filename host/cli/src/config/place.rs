//! Where in a text something stands. It is looked for only when a file is refused: what was read knows its tables, and not
//! each of their fields.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Fault;

/// Where the value of a field stands that belongs to the table of a list that begins with `table`: that table where it has none.
pub(super) fn of_field(text: &str, table: &Range<usize>, field: &str) -> Range<usize> {
    let Ok(root) = DeTable::parse(text) else { return table.clone() };
    for list in root.get_ref().values() {
        let DeValue::Array(tables) = list.get_ref() else { continue };
        let found = tables.iter().find(|entry| entry.span().start == table.start);
        if let Some(DeValue::Table(entry)) = found.map(Spanned::get_ref) {
            return entry.get(field).map_or_else(|| table.clone(), Spanned::span);
        }
    }
    table.clone()
}

/// What is wrong where a list is written as one table, or the one table as a list: the first such place.
pub(super) fn shape(text: &str) -> Option<Fault> {
    let root = DeTable::parse(text).ok()?;
    let faults = root.get_ref().iter().filter_map(|(name, value)| {
        let name_text: &str = name.get_ref();
        let problem = match (name_text, value.get_ref()) {
            ("server", DeValue::Array(_)) => "server: there is one alone: write [server]".to_owned(),
            ("component" | "rule" | "egress", DeValue::Table(_)) => {
                format!("{name_text}: there may be several: write [[{name_text}]]")
            }
            _ => return None,
        };
        Some((name.span(), problem))
    });
    faults.min_by_key(|(span, _)| span.start)
}
