//! `weir lease extend`, `settle` and `release`: what is done to a lease by its id.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use weir_engine::{Outcome, UNSAID_PUSHBACK};
use weir_http::api::DurationText;

use crate::client::{IngressArgs, LeaseClient};
use crate::error::Failure;
use crate::output;

/// Which lease, and where.
#[derive(Debug, Args)]
struct LeaseArg {
    /// Its id, as `weir lease acquire` prints it
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    ingress: IngressArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Move the end of a lease to a time from now; it never ends earlier than it would have
#[derive(Debug, Args)]
pub(crate) struct ExtendArgs {
    #[command(flatten)]
    lease: LeaseArg,

    /// How long it is to last from now, 100ms to 1h
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = weir_engine::parse_duration)]
    lease_time: Duration,
}

/// Say what the work has really cost: what is refunded is free at once, an overrun is booked
#[derive(Debug, Args)]
pub(crate) struct SettleArgs {
    #[command(flatten)]
    lease: LeaseArg,

    /// In units of cost
    #[arg(value_name = "COST")]
    cost: u32,
}

/// Give a lease back; doing it again is no error
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    lease: LeaseArg,

    /// The work failed
    #[arg(long)]
    failed: bool,

    /// What stands behind the limit asked for a pause, this long if that was said: the counter is closed until then
    #[arg(long, value_name = "DURATION", conflicts_with = "failed", num_args = 0..=1, require_equals = true, value_parser = weir_engine::parse_duration)]
    pushed_back: Option<Option<Duration>>,
}

pub(crate) fn extend(args: &ExtendArgs) -> Result<(), Failure> {
    let remaining = LeaseClient::new(&args.lease.ingress)?.extend(&args.lease.id, args.lease_time)?;
    let remaining = DurationText(remaining);
    if args.lease.json {
        output::json(&json!({ "remaining": remaining }))
    } else {
        output::data(&remaining.to_string())
    }
}

pub(crate) fn settle(args: &SettleArgs) -> Result<(), Failure> {
    let settled = LeaseClient::new(&args.lease.ingress)?.settle(&args.lease.id, args.cost)?;
    if args.lease.json {
        return output::json(&settled);
    }
    output::data(&format!("refunded {}, overrun {}", settled.refunded, settled.overrun))
}

pub(crate) fn release(args: &ReleaseArgs) -> Result<(), Failure> {
    let outcome = match (args.failed, args.pushed_back) {
        (true, _) => Outcome::Failed,
        (false, Some(after)) => Outcome::PushedBack(after.unwrap_or(UNSAID_PUSHBACK)),
        (false, None) => Outcome::Ok,
    };
    let released = LeaseClient::new(&args.lease.ingress)?.release(&args.lease.id, outcome)?;
    if args.lease.json {
        return output::json(&json!({ "released": released }));
    }
    output::data(if released { "released" } else { "it had ended already, or never was" })
}
