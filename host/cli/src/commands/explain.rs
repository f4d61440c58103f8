//! `weir explain`: why a request would be granted or not, and when.

mod page;

use std::time::Duration;

use clap::Args;
use weir_engine::ScopedKey;
use weir_http::api::{AcquireBody, DurationText};

use super::lease::{BatchArgs, WantedArgs, key};
use crate::client::{AdminArgs, Client};
use crate::error::Failure;
use crate::output;

/// Why a request would be granted or not, and when
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is taken. For each counter of the request: every rule that matches and how it stands, what is used, what is in the
way and what would change that. The time is predicted from who holds and waits now; `about`: from how long leases were held.
Where there are several keys, each counter says which of them it counts for.

Examples:
  weir explain tenant-a
  weir explain model/gpt --cost 4000
  weir explain tenant/7 --priority 200 --max-wait 5s
  weir explain model/gpt tenant/7                         both at once, as `weir lease acquire` takes them with --also
  weir explain llm --flow-control tenant-7:concurrency=2
  weir explain workers --count 10 --least 2               a batch, content with two
  weir explain model/gpt --json | jq .forecast")]
pub(crate) struct ExplainArgs {
    /// What it asks for: scope[/l1[/l2]]
    #[arg(value_name = "SCOPE[/L1[/L2]]", value_parser = key)]
    key: ScopedKey,

    /// Further keys in the same step, as with --also
    #[arg(value_name = "SCOPE[/L1[/L2]]", value_parser = key)]
    further: Vec<ScopedKey>,

    #[command(flatten)]
    wanted: WantedArgs,

    #[command(flatten)]
    batch: BatchArgs,

    /// How long it would wait [default: 60s, or what the rules say]
    #[arg(long, value_name = "DURATION", value_parser = weir_engine::parse_duration)]
    max_wait: Option<Duration>,

    #[command(flatten)]
    admin: AdminArgs,
}

impl ExplainArgs {
    fn body(&self) -> AcquireBody {
        let mut wanted = self.wanted.clone();
        wanted.also.extend_from_slice(&self.further);
        AcquireBody {
            what: wanted.body(&self.key),
            max_wait: self.max_wait.map(DurationText),
            count: Some(self.batch.count),
            least: self.batch.least,
            ..AcquireBody::default()
        }
    }
}

pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let body = args.body();
    // What is wrong with it needs no server to be said.
    let request = body.request().map_err(Failure::usage)?;
    let explanation = Client::new(&args.admin)?.explain(&body)?;
    if args.admin.json {
        return output::json(&explanation);
    }
    output::data(&page::page(&request, &explanation))
}
