//! `weir lease acquire KEY`.

use clap::Args;
use weir_engine::{Outcome, ScopedKey};
use weir_http::api::{AcquireBody, LeaseView, LeasesView};

use super::wanted::{BatchArgs, TakeArgs, key};
use crate::client::{ClientError, LeaseClient};
use crate::error::Failure;
use crate::output;

/// Wait for a turn and take a lease; prints its id
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the id of each lease on a line of its own. Ctrl-C while it waits gives the place up, and nothing else happens.

Examples:
  weir lease acquire payments --max-wait 1m --lease-time 5m
  weir lease acquire model/gpt --cost 4000 --also tenant/7
  weir lease acquire llm --flow-control tenant-7:concurrency=2,rate=100/1m
  weir lease acquire workers --count 10 --least 1     as many as fit now, one at least
  weir lease acquire payments --json | jq -r '.leases[0].fence'")]
pub(crate) struct AcquireArgs {
    /// What it is to be under: scope[/l1[/l2]]
    #[arg(value_name = "SCOPE[/L1[/L2]]", value_parser = key)]
    key: ScopedKey,

    #[command(flatten)]
    take: TakeArgs,

    #[command(flatten)]
    batch: BatchArgs,

    /// The same request under the same key gets the same leases [default: one nobody else has]
    #[arg(long, value_name = "NAME")]
    idempotency_key: Option<String>,

    /// Print JSON, of a refusal too
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &AcquireArgs) -> Result<(), Failure> {
    let body = AcquireBody {
        count: Some(args.batch.count),
        least: args.batch.least,
        idempotency_key: args.idempotency_key.clone(),
        ..args.take.body(&args.key)
    };
    let client = LeaseClient::new(&args.take.ingress)?;
    let granted = match client.acquire(body) {
        Ok((granted, _)) => granted,
        Err(error) => {
            // The exit code tells the one from the other.
            if let (true, ClientError::Problem(problem)) = (args.json, &error) {
                output::json(problem)?;
            }
            return Err(error.into());
        }
    };
    let Err((error, untold)) = tell(args.json, &granted) else { return Ok(()) };
    if args.idempotency_key.is_some() {
        return Err(error.hint("the leases are kept: the same request under its --idempotency-key prints them"));
    }
    // Nobody knows their ids, so nobody else could.
    let failed: Vec<_> = untold.iter().filter_map(|lease| client.release(&lease.id, Outcome::Ok).err()).collect();
    Err(error.hint(match &failed[..] {
        [] => "the leases that could not be printed were released: acquire them again".to_owned(),
        [reason, ..] => format!(
            "{} of the {} leases that could not be printed could not be released, and end with their lease time: {reason}",
            failed.len(),
            untold.len()
        ),
    }))
}

/// Prints leases; where that fails, answers why, and those that nobody was told of.
fn tell(json: bool, granted: &LeasesView) -> Result<(), (Failure, &[LeaseView])> {
    let leases = granted.leases.as_slice();
    if json {
        return output::json(granted).map_err(|error| (error, leases));
    }
    leases
        .iter()
        .enumerate()
        .try_for_each(|(told, lease)| output::data(&lease.id).map_err(|error| (error, &leases[told..])))
}
