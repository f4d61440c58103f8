//! `weir token`: the tokens of a server, in their file.
//!
//! All of it works on the file, with or without a server that runs; one that does sees every change within two seconds.

mod change;
mod create;
mod list;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use weir_engine::Clock;
use weir_http::tokens::{NoRandomness, Timestamp, TokenFileError, TokenName};

use crate::config::{self, DEFAULT_FILE};
use crate::error::Failure;

/// Make, list, rotate and revoke the tokens of a server
#[derive(Debug, Args)]
#[command(after_help = "\
Whoever is on the server's machine needs none. From elsewhere the lease API and the admin API want a token: its rights say
what it may do, its scopes where. It is shown once, when it is made; the file keeps a hash of it.

Examples:
  weir token create payments --scope payments                   may take leases under `payments`
  weir token create grafana --right read --all-scopes
  weir token create deploy --right read --right rules --scope model --expires 90d
  weir token list
  weir token rotate payments --keep-old 1h                      another text; the old one is good for an hour more
  weir token revoke payments

A client shows it with --token-file FILE, or in the variable WEIR_TOKEN.")]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token; prints it, this once
    Create(create::CreateArgs),
    /// List the tokens, without their secrets
    List(list::ListArgs),
    /// Give a token another secret; its name, rights, scopes and leases stay
    Rotate(change::RotateArgs),
    /// Take a token away
    Revoke(change::RevokeArgs),
}

pub(crate) fn run(args: &TokenArgs) -> Result<(), Failure> {
    match &args.verb {
        Verb::Create(args) => create::run(args),
        Verb::List(args) => list::run(args),
        Verb::Rotate(args) => change::rotate(args),
        Verb::Revoke(args) => change::revoke(args),
    }
}

/// Where the tokens are.
#[derive(Debug, Args)]
struct FileArgs {
    /// The file of tokens [default: what `[server] tokens` of the configuration says]
    #[arg(long, env = "WEIR_TOKENS", value_name = "FILE")]
    tokens: Option<PathBuf>,

    /// The configuration that names it [default: ./weir.toml]
    #[arg(short, long, env = "WEIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl FileArgs {
    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(tokens) = &self.tokens {
            return Ok(tokens.clone());
        }
        let default = PathBuf::from(DEFAULT_FILE);
        let config = self.config.as_ref().or(default.exists().then_some(&default));
        let named = config.map(|config| config::tokens(config)).transpose()?.flatten();
        named.ok_or_else(|| {
            Failure::usage(anyhow::anyhow!("which file of tokens?")).hint(
                "name it with --tokens FILE (WEIR_TOKENS), or as `tokens` in [server] of the configuration: -c FILE",
            )
        })
    }
}

/// Why the file was not changed.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error(transparent)]
    File(#[from] TokenFileError),
    #[error("there is a token `{name}` already")]
    Exists { name: TokenName },
    #[error("there is no token `{name}`")]
    NoSuch { name: TokenName },
    #[error("the token `{name}` has expired: another secret would be of no use")]
    Expired { name: TokenName },
    #[error("there are {most} tokens, which is the most")]
    Full { most: usize },
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::File(error) => error.into(),
            ChangeError::Exists { .. } => Self::failed(error)
                .hint("`weir token rotate` gives it another secret, `weir token revoke` takes it away"),
            ChangeError::NoSuch { .. } => Self::failed(error).hint("`weir token list` shows those there are"),
            ChangeError::Expired { .. } => Self::failed(error).hint("revoke it, and create it anew"),
            ChangeError::Full { .. } | ChangeError::Random(_) => Self::failed(error),
        }
    }
}

impl From<TokenFileError> for Failure {
    fn from(error: TokenFileError) -> Self {
        match error {
            TokenFileError::Io { .. } => Self::failed(error),
            _ => Self::usage(error),
        }
    }
}

fn now() -> Timestamp {
    Timestamp::of_unix_millis(Clock::system().unix_millis())
}
