//! The token that a client shows.
//!
//! It comes from a file or from the environment, never from an argument: everybody on a machine sees the arguments of its
//! processes. It does not go over the network in clear text unless that is asked for.

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderValue, Request, Response, Uri};
use ureq::middleware::MiddlewareNext;
use ureq::{Body, SendBody};
use weir_http::is_this_machine;
use weir_http::tokens::{NotAToken, Token};

use crate::error::Failure;

/// The variable that has the token itself.
const VARIABLE: &str = "WEIR_TOKEN";

/// Who asks.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenArgs {
    /// A file that holds the token to show [else: the variable WEIR_TOKEN; there is no option for the token itself, because `ps` would show it]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Send the token to another machine unencrypted
    #[arg(long, env = "WEIR_INSECURE", value_parser = FalseyValueParser::new())]
    insecure: bool,
}

/// Why a token cannot be shown.
#[derive(Debug, thiserror::Error)]
enum TokenArgsError {
    #[error("{}: cannot read the token: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{origin}: {error}")]
    NotAToken { origin: String, error: NotAToken },
    #[error("the token is not sent to {url}: over plain http everybody on the way could read it")]
    Plain { url: String },
}

impl TokenArgs {
    /// The header that shows the token to `url`; none where there is no token.
    pub(super) fn header(&self, url: &Uri) -> Result<Option<HeaderValue>, Failure> {
        let Some(token) = self.token()? else { return Ok(None) };
        if !self.insecure && !url.host().is_some_and(is_this_machine) {
            let plain = TokenArgsError::Plain { url: url.to_string() };
            return Err(Failure::usage(plain).hint(
                "put a proxy with TLS on this machine in front of it, or take the risk with --insecure (WEIR_INSECURE=1)",
            ));
        }
        // Letters, digits and `_` always are a header value.
        let mut header = HeaderValue::try_from(format!("Bearer {}", token.text())).map_err(Failure::failed)?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    fn token(&self) -> Result<Option<Token>, Failure> {
        let (origin, text) = match (&self.token_file, env::var(VARIABLE)) {
            (Some(path), _) => {
                let read = fs::read_to_string(path);
                let text = read.map_err(|error| TokenArgsError::Unreadable { path: path.clone(), error });
                (path.display().to_string(), text.map_err(Failure::usage)?)
            }
            (None, Ok(text)) if !text.is_empty() => (VARIABLE.to_owned(), text),
            (None, Err(env::VarError::NotUnicode(_))) => {
                return Err(Failure::usage(TokenArgsError::NotAToken {
                    origin: VARIABLE.to_owned(),
                    error: NotAToken,
                }));
            }
            (None, _) => return Ok(None),
        };
        let token = text.trim().parse().map_err(|error| TokenArgsError::NotAToken { origin, error });
        token.map(Some).map_err(|error| Failure::usage(error).hint("`weir token create` prints one"))
    }
}

/// Shows the token with every request. A redirect to another host does not take it along.
pub(super) fn show(
    header: HeaderValue,
) -> impl Fn(Request<SendBody<'_>>, MiddlewareNext<'_>) -> Result<Response<Body>, ureq::Error> + Send + Sync + 'static {
    move |mut request, next| {
        request.headers_mut().insert(AUTHORIZATION, header.clone());
        next.handle(request)
    }
}
