//! `weir token rotate` and `revoke`: what is done to a token by its name.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use weir_http::tokens::{Token, TokenFile, TokenName};

use super::{ChangeError, FileArgs, create, now};
use crate::error::Failure;
use crate::output;

/// Give a token another secret; its name, rights, scopes and leases stay
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// Which
    #[arg(value_name = "NAME")]
    name: TokenName,

    /// How long the old text is good besides the new one
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = weir_engine::parse_duration)]
    keep_old: Duration,

    #[command(flatten)]
    file: FileArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Take a token away: who shows it from then on is refused. Leases that it has taken end with their lease time
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// Which
    #[arg(value_name = "NAME")]
    name: TokenName,

    #[command(flatten)]
    file: FileArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn rotate(args: &RotateArgs) -> Result<(), Failure> {
    let now = now();
    let (token, entry, promised) = TokenFile::change(&args.file.path()?, |file| {
        let entry = file.tokens.iter_mut().find(|token| token.name == args.name);
        let entry = entry.ok_or_else(|| ChangeError::NoSuch { name: args.name.clone() })?;
        if entry.has_expired(now) {
            return Err(ChangeError::Expired { name: args.name.clone() });
        }
        let token = Token::new(entry.id)?;
        let promised = entry.previous.as_ref().map(|previous| previous.until).filter(|until| *until > now);
        entry.rotate(&token, now, args.keep_old);
        Ok((token, entry.clone(), promised))
    })?;
    if let Some(until) = promised {
        output::talk(&format!(
            "warning: a token keeps one old text: the one from before the last rotation was to be good until {until}, and ends now"
        ));
    }
    create::show(&token, &entry, args.json)
}

pub(super) fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    TokenFile::change(&args.file.path()?, |file| {
        let before = file.tokens.len();
        file.tokens.retain(|token| token.name != args.name);
        if file.tokens.len() == before { Err(ChangeError::NoSuch { name: args.name.clone() }) } else { Ok(()) }
    })?;
    if args.json {
        return output::json(&json!({ "revoked": args.name }));
    }
    output::data(&format!("revoked {}", args.name))
}
