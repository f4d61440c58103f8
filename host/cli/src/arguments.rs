//! The command line, and the environment that stands in for it.
//!
//! Every option that has a variable takes its value from there too. The parser blames the option either way; who never
//! wrote it would look for it in vain.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, CommandFactory as _, Error, Parser as _};

use crate::commands::Weir;

/// What was asked for. Ends the program where that makes no sense, and after help.
pub(crate) fn parse() -> Weir {
    let line: Vec<OsString> = std::env::args_os().collect();
    Weir::try_parse_from(&line).unwrap_or_else(|mut error| {
        blame_variable(&mut error, &line);
        error.exit()
    })
}

/// Names the variable that a wrong value comes from.
fn blame_variable(error: &mut Error, line: &[OsString]) {
    let (Some(ContextValue::String(option)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return;
    };
    let mut weir = Weir::command();
    weir.build();
    let from = |arg: &&Arg| {
        let set = arg.get_env().and_then(std::env::var_os);
        arg.to_string() == *option && set.is_some_and(|set| set == value.as_str()) && !is_written(arg, line)
    };
    let variable = all_of(&weir).find(from).and_then(Arg::get_env).map(|name| name.to_string_lossy().into_owned());
    if let Some(variable) = variable {
        let blamed = format!("{variable}, which stands for {option}");
        error.insert(ContextKind::InvalidArg, ContextValue::String(blamed));
    }
}

/// The options of a command, and of all below it.
fn all_of(command: &Command) -> Box<dyn Iterator<Item = &Arg> + '_> {
    Box::new(command.get_arguments().chain(command.get_subcommands().flat_map(all_of)))
}

/// Whether an option stands in the line: `--long`, `--long=value`, `-s` or `-svalue`.
fn is_written(arg: &Arg, line: &[OsString]) -> bool {
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    line.iter().filter_map(|word| word.to_str()).any(|word| {
        let is_long = |long: &String| {
            word.strip_prefix(long.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        long.as_ref().is_some_and(is_long) || short.as_ref().is_some_and(|short| word.starts_with(short.as_str()))
    })
}
