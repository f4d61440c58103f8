//! Logs: by `tracing`, on standard error.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::error::Failure;

/// How to log.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// What to log, such as `debug` or `warn,weir_http=debug`
    #[arg(long, env = "WEIR_LOG", value_name = "FILTER", global = true)]
    log: Option<String>,

    /// How to write it
    #[arg(long, env = "WEIR_LOG_FORMAT", value_name = "FORMAT", default_value = "text", global = true)]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line of text for each event
    Text,
    /// One JSON object for each event
    Json,
}

/// Starts to log; `default` is the filter where none is given.
pub(crate) fn start(args: &LogArgs, default: &str) -> Result<(), Failure> {
    let filter = args.log.as_deref().unwrap_or(default);
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(anyhow::anyhow!("--log (WEIR_LOG): `{filter}` is not a filter: {error}"))
            .hint("write a level, or `target=level` pairs: --log warn,weir_http=debug")
    })?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let started = match args.log_format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().try_init(),
    };
    started.map_err(|error| Failure::failed(anyhow::anyhow!("cannot log: {error}")))
}
