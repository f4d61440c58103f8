//! `weir token list`.

use clap::Args;
use serde::Serialize;
use weir_http::tokens::{AllowedScope, Right, Timestamp, TokenEntry, TokenFile, TokenId, TokenName};

use super::{FileArgs, now};
use crate::error::Failure;
use crate::output;

/// List the tokens, without their secrets
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    file: FileArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What may be shown of a token: nothing of its secret, nor its hash.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct TokenView<'a> {
    name: &'a TokenName,
    id: TokenId,
    rights: Vec<Right>,
    scopes: &'a [AllowedScope],
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    expired: bool,
    /// Until when the secret before the last rotation is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_until: Option<Timestamp>,
}

#[derive(Serialize)]
struct TokensView<'a> {
    tokens: Vec<TokenView<'a>>,
}

impl<'a> TokenView<'a> {
    pub(super) fn of(token: &'a TokenEntry, now: Timestamp) -> Self {
        let old_until = token.previous.as_ref().map(|previous| previous.until);
        Self {
            name: &token.name,
            id: token.id,
            rights: token.rights.iter().copied().collect(),
            scopes: &token.scopes,
            created: token.created,
            expires: token.expires,
            expired: token.has_expired(now),
            old_until: old_until.filter(|until| *until > now),
        }
    }

    pub(super) fn rights(&self) -> String {
        self.rights.iter().map(|right| right.as_str()).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn scopes(&self) -> String {
        if self.scopes.is_empty() {
            return output::NOTHING.to_owned();
        }
        self.scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    fn expires(&self) -> String {
        let expires = self.expires.map_or_else(|| output::NOTHING.to_owned(), |expires| expires.to_string());
        if self.expired { format!("{expires} (expired)") } else { expires }
    }
}

pub(super) fn run(args: &ListArgs) -> Result<(), Failure> {
    let file = TokenFile::read(&args.file.path()?)?;
    let now = now();
    let tokens: Vec<TokenView<'_>> = file.tokens.iter().map(|token| TokenView::of(token, now)).collect();
    if args.json {
        return output::json(&TokensView { tokens });
    }
    if tokens.is_empty() {
        output::talk("no tokens: `weir token create` makes one");
        return Ok(());
    }
    let mut table = output::table(&["NAME", "ID", "RIGHTS", "SCOPES", "CREATED", "EXPIRES", "OLD UNTIL"]);
    for token in &tokens {
        table.add_row([
            token.name.to_string(),
            token.id.to_string(),
            token.rights(),
            token.scopes(),
            token.created.to_string(),
            token.expires(),
            token.old_until.map_or_else(|| output::NOTHING.to_owned(), |until| until.to_string()),
        ]);
    }
    output::print(&table)
}
