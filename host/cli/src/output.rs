//! Printing: data on standard output, talk on standard error.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::error::Failure;

/// Prints a line of data.
pub(crate) fn data(line: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

/// Prints a line of talk. Where standard error is closed there is nobody to tell.
pub(crate) fn talk(line: &str) {
    let _nobody = writeln!(io::stderr().lock(), "{line}");
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    data(&serde_json::to_string_pretty(value).map_err(Failure::failed)?)
}

/// Prints a value as one line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    data(&serde_json::to_string(value).map_err(Failure::failed)?)
}

/// A table without lines, so that other programs can read it too.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

/// Prints a table, without the blanks that fill its last column.
pub(crate) fn print(table: &Table) -> Result<(), Failure> {
    data(&plain(table))
}

/// A table as text.
pub(crate) fn plain(table: &Table) -> String {
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

/// What stands in a cell that has nothing to show.
pub(crate) const NOTHING: &str = "-";
