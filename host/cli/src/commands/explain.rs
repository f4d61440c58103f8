//! `weir explain`: why a request would be granted or not, and when.

mod page;

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use weir_engine::ScopedKey;
use weir_http::api::DurationText;

use super::lease::{key, units};
use crate::client::{AdminArgs, Client};
use crate::error::Failure;
use crate::output;

/// Why a request would be granted or not, and when
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is taken. For each counter of the request: every rule that matches and how it stands, what is used, what is in the
way and what would change that. The time is predicted from who holds and waits now; `about`: from how long leases were held.

Examples:
  weir explain tenant-a
  weir explain model/gpt --cost 4000
  weir explain tenant/7 --priority 200 --max-wait 5s
  weir explain model/gpt --json | jq .forecast")]
pub(crate) struct ExplainArgs {
    /// What it asks for: scope[/l1[/l2]]
    #[arg(value_name = "SCOPE[/L1[/L2]]", value_parser = key)]
    key: ScopedKey,

    /// Its cost
    #[arg(long, value_name = "N", default_value = "1", value_parser = units)]
    cost: NonZeroU32,

    /// Its priority: 255 is served first, 0 last
    #[arg(long, value_name = "P", default_value_t = weir_engine::DEFAULT_PRIORITY)]
    priority: u8,

    /// How long it would wait [default: 60s, or what the rules say]
    #[arg(long, value_name = "DURATION", value_parser = weir_engine::parse_duration)]
    max_wait: Option<Duration>,

    /// Between whom waiting is shared fairly [default: the limit key]
    #[arg(long, value_name = "NAME")]
    fairness_key: Option<String>,

    /// The share of its fairness key, 1 to 1000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(weir_engine::MAX_WEIGHT)))]
    weight: Option<u16>,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let mut fields = vec![
        ("scope", args.key.scope().to_owned()),
        ("cost", args.cost.to_string()),
        ("priority", args.priority.to_string()),
    ];
    fields.extend(args.key.limit_key().map(|key| ("limit-key", key.to_owned())));
    fields.extend(args.max_wait.map(|wait| ("max-wait", DurationText(wait).to_string())));
    fields.extend(args.fairness_key.clone().map(|key| ("fairness-key", key)));
    fields.extend(args.weight.map(|weight| ("weight", weight.to_string())));
    let explanation = Client::new(&args.admin)?.explain(fields)?;
    if args.admin.json {
        return output::json(&explanation);
    }
    output::data(&page::page(&args.key, args.cost, args.priority, &explanation))
}
