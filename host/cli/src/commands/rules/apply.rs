//! `weir rules apply FILE`: what a file would change of the book, and, when told to, the change.
//!
//! The difference is made from the book of one version, and the batch is applied only if the book still has that version:
//! what was shown is what is done, or nothing is.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use weir_http::api::{BatchBody, BookView, ChangeBody, RuleBody};

use super::difference::{self, Difference, Rules};
use crate::client::{AdminArgs, Client, ClientError};
use crate::error::Failure;
use crate::{config, output};

/// How often to look again when the book changes between looking and asking what would differ.
const TRIES: usize = 5;

/// Make the book what a file says
#[derive(Debug, Args)]
#[command(after_help = "\
FILE holds [[rule]] entries as weir.toml does; a whole weir.toml will do, of which only the rules count. Rules that are not
in FILE stay, unless --prune is given. Without --yes nothing is changed: the server only checks, and the difference is shown.

  + model/*: concurrency 2, rates 3/1m       would be added
  ~ tenant/*: concurrency 5 -> 6             would be changed
  - old: concurrency 1                       would be deleted

Examples:
  weir rules apply rules.toml                          what would change
  weir rules apply rules.toml --yes                    change it, all or nothing
  weir rules apply rules.toml --yes --prune            and delete what is not in the file
  weir rules apply rules.toml --yes --if-book-version 7
  weir rules apply rules.toml --dry-run --exit-code    3 if there are differences")]
pub(crate) struct ApplyArgs {
    /// A file of `[[rule]]` entries
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Delete the rules that are not in FILE
    #[arg(long)]
    prune: bool,

    /// Change the book
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,

    /// Change nothing: the default, said aloud
    #[arg(long)]
    dry_run: bool,

    /// End with 3 if there are differences
    #[arg(long)]
    exit_code: bool,

    /// Only if the book still has this version, such as that of a difference shown before
    #[arg(long, value_name = "VERSION")]
    if_book_version: Option<u64>,

    #[command(flatten)]
    admin: AdminArgs,
}

/// What was or would be done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report<'a> {
    applied: bool,
    book_version: u64,
    differences: &'a [Difference],
    /// Rules that are not in the file, and stay.
    kept: Vec<&'a str>,
}

/// What a file comes to beside a book.
struct Plan {
    differences: Vec<Difference>,
    kept: Vec<String>,
    batch: BatchBody,
}

pub(crate) fn run(args: &ApplyArgs) -> Result<(), Failure> {
    let wanted: Rules =
        config::written_rules(&args.file)?.into_iter().map(|body| (body.pattern.0.to_string(), body)).collect();
    if wanted.is_empty() && args.prune {
        let empty =
            anyhow::anyhow!("{}: there is no [[rule]], and --prune would delete every rule", args.file.display());
        return Err(Failure::usage(empty).hint("`weir rules delete PATTERN` deletes rules one by one"));
    }
    let client = Client::new(&args.admin)?;
    let (plan, version) = settle(args, &client, &wanted)?;
    if args.admin.json {
        let kept = plan.kept.iter().map(String::as_str).collect();
        let differences = &plan.differences;
        output::json(&Report { applied: args.yes, book_version: version, differences, kept })?;
    } else {
        show(args, &plan, version)?;
    }
    if args.exit_code && !plan.differences.is_empty() { Err(Failure::differs()) } else { Ok(()) }
}

/// Makes the plan, and has the server check or apply it; answers it with the version of the book.
fn settle(args: &ApplyArgs, client: &Client, wanted: &Rules) -> Result<(Plan, u64), Failure> {
    let mut tries = 0;
    loop {
        let plan = plan(&client.rules()?, wanted, args);
        tries += 1;
        match client.put(&plan.batch, !args.yes) {
            Ok(applied) => return Ok((plan, applied.version)),
            // Nothing was shown yet: the book of now is as good as that of a moment ago.
            Err(ClientError::Problem(problem))
                if problem.status == 412 && !args.yes && args.if_book_version.is_none() && tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn plan(book: &BookView, wanted: &Rules, args: &ApplyArgs) -> Plan {
    let present = difference::rules(book);
    let mut after = wanted.clone();
    let mut kept = Vec::new();
    if !args.prune {
        for (pattern, rule) in present.iter().filter(|(pattern, _)| !wanted.contains_key(*pattern)) {
            after.insert(pattern.clone(), rule.clone());
            kept.push(pattern.clone());
        }
    }
    let differences = difference::between(&present, &after);
    let change = |difference: &Difference| {
        let delete = |rule: &RuleBody| ChangeBody { delete: Some(rule.pattern.clone()), ..ChangeBody::default() };
        match (&difference.before, &difference.after) {
            (Some(before), None) => delete(before),
            (_, after) => ChangeBody { put: after.clone(), ..ChangeBody::default() },
        }
    };
    let batch = BatchBody {
        changes: differences.iter().map(change).collect(),
        if_book_version: Some(args.if_book_version.unwrap_or(book.version)),
    };
    Plan { differences, kept, batch }
}

fn show(args: &ApplyArgs, plan: &Plan, version: u64) -> Result<(), Failure> {
    for difference in &plan.differences {
        output::data(&format!("{} {}: {}", difference.sign(), difference.pattern, difference.words()))?;
    }
    if !plan.kept.is_empty() {
        output::talk(&format!("not in the file, kept without --prune: {}", plan.kept.join(" ")));
    }
    let differences = match plan.differences.len() {
        1 => "1 difference".to_owned(),
        count => format!("{count} differences"),
    };
    output::talk(&match (plan.differences.is_empty(), args.yes) {
        (true, _) => format!("no differences: the book stays at version {version}"),
        (false, true) => format!("applied {differences}: the book has version {version}"),
        (false, false) => format!("{differences} from book version {version}; nothing was changed: --yes applies them"),
    });
    Ok(())
}
