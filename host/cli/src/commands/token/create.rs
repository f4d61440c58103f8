//! `weir token create NAME`.

use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use serde::Serialize;
use weir_http::tokens::{
    AllowedScope, MAX_EXPIRY, MAX_SCOPES, MAX_TOKENS, Right, Token, TokenEntry, TokenFile, TokenId, TokenName,
};

use super::list::TokenView;
use super::{ChangeError, FileArgs, now};
use crate::error::Failure;
use crate::output;

/// Make a token; prints it, this once
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").required(true).multiple(true)))]
#[command(after_help = "\
Rights: `lease` acquires, extends, settles, releases and checks leases; `read` looks at rules, counters, explanations and
metrics; `rules` changes the rule book; `operate` pauses, resumes, pins, unpins, resets and drains counters. Rules whose
scope is `*` concern all scopes.

Examples:
  weir token create payments --scope payments > payments.token
  weir token create ops --right read --right rules --right operate --all-scopes --expires 90d")]
pub(super) struct CreateArgs {
    /// Its name: leases that it takes belong to this
    #[arg(value_name = "NAME")]
    name: TokenName,

    /// What it may do; repeat it for more
    #[arg(long = "right", value_name = "RIGHT", default_value = "lease")]
    rights: Vec<RightName>,

    /// A scope that it is for; repeat it for more
    #[arg(long = "scope", value_name = "SCOPE", group = "where")]
    scopes: Vec<AllowedScope>,

    /// It is for all scopes
    #[arg(long, conflicts_with = "scopes", group = "where")]
    all_scopes: bool,

    /// How long it is good, such as 90d [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = expiry)]
    expires: Option<Duration>,

    #[command(flatten)]
    file: FileArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RightName {
    Lease,
    Read,
    Rules,
    Operate,
}

impl From<RightName> for Right {
    fn from(name: RightName) -> Self {
        match name {
            RightName::Lease => Self::Lease,
            RightName::Read => Self::Read,
            RightName::Rules => Self::Rules,
            RightName::Operate => Self::Operate,
        }
    }
}

fn expiry(text: &str) -> Result<Duration, String> {
    let duration = weir_engine::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() || duration > MAX_EXPIRY {
        return Err("a token is good for longer than nothing, and for at most 100 years".to_owned());
    }
    Ok(duration)
}

/// A token with its secret: shown once.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Shown<'a> {
    pub(super) token: String,
    #[serde(flatten)]
    pub(super) view: TokenView<'a>,
}

pub(super) fn run(args: &CreateArgs) -> Result<(), Failure> {
    if args.scopes.len() > MAX_SCOPES {
        return Err(Failure::usage(anyhow::anyhow!("{} scopes: at most {MAX_SCOPES}", args.scopes.len()))
            .hint("--all-scopes is for all of them"));
    }
    let mut scopes = args.scopes.clone();
    if args.all_scopes {
        scopes.push(AllowedScope::All);
    }
    let created = now();
    let (token, entry) = TokenFile::change(&args.file.path()?, |file| {
        if file.get(&args.name).is_some() {
            return Err(ChangeError::Exists { name: args.name.clone() });
        }
        if file.tokens.len() >= MAX_TOKENS {
            return Err(ChangeError::Full { most: MAX_TOKENS });
        }
        let token = Token::new(TokenId::random()?)?;
        let entry = TokenEntry {
            name: args.name.clone(),
            id: token.id(),
            sha256: token.digest(),
            rights: args.rights.iter().map(|right| (*right).into()).collect(),
            scopes,
            created,
            expires: args.expires.map(|expires| created.after(expires)),
            previous: None,
        };
        file.tokens.push(entry.clone());
        Ok((token, entry))
    })?;
    show(&token, &entry, args.json)
}

/// Prints a token, as nobody will again.
pub(super) fn show(token: &Token, entry: &TokenEntry, json: bool) -> Result<(), Failure> {
    let view = TokenView::of(entry, now());
    if json {
        return output::json(&Shown { token: token.text(), view });
    }
    output::data(&token.text())?;
    output::talk(&format!(
        "the token `{}` ({}; scopes {}) is shown this once: keep it where only its user can read it",
        entry.name,
        view.rights(),
        view.scopes()
    ));
    Ok(())
}
