//! `weir rules watch`: every change of the book, as it comes.
//!
//! It asks for the book as soon as it has another version. Changes that follow each other faster than they are asked for
//! are shown as one. When the server goes away it tries again, less and less often, and shows what has changed meanwhile.

use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use weir_http::api::BookView;

use super::difference::{self, Difference};
use crate::client::{AdminArgs, Client, ClientError};
use crate::error::Failure;
use crate::output;

/// How long one request waits for a change.
const WAIT: Duration = Duration::from_secs(30);
/// How soon to try again when the server has gone.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long to wait between two tries at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Show every change of the book, until Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "\
One line for each rule that changes, behind the version of the book. When the server restarts, it tries again until it is
back, and shows what differs then.

Examples:
  weir rules watch
  weir rules watch --json | jq -r .pattern     one JSON object a line")]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// One line of JSON.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    book_version: u64,
    #[serde(flatten)]
    difference: &'a Difference,
}

pub(crate) fn run(args: &WatchArgs) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let mut book = client.rules()?;
    output::talk(&format!("book version {}, {} rules; Ctrl-C ends this", book.version, book.rules.len()));
    // What went wrong last, while it does.
    let mut lost: Option<String> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let next = match &lost {
            // Another server may count its versions anew: the book is compared, whatever its version.
            Some(_) => client.rules().map(Some),
            None => client.rules_after(book.version, WAIT),
        };
        match next {
            Ok(next) => {
                if lost.take().is_some() {
                    output::talk("the server answers again");
                }
                pause = FIRST_PAUSE;
                if let Some(next) = next {
                    say(args.admin.json, &book, &next)?;
                    book = next;
                }
            }
            Err(ClientError::Problem(problem)) if problem.status < 500 => {
                return Err(ClientError::Problem(problem).into());
            }
            Err(error) => {
                let error = error.to_string();
                if lost.as_ref() != Some(&error) {
                    output::talk(&format!("{error}; trying again"));
                }
                lost = Some(error);
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn say(json: bool, before: &BookView, after: &BookView) -> Result<(), Failure> {
    for difference in &difference::between(&difference::rules(before), &difference::rules(after)) {
        let book_version = after.version;
        if json {
            output::json_line(&Line { book_version, difference })?;
        } else {
            let Difference { kind, pattern, .. } = difference;
            output::data(&format!("{book_version} {kind} {pattern}: {}", difference.words()))?;
        }
    }
    Ok(())
}
