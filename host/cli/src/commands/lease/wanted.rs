//! What is asked of the limiter, as arguments.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use clap::Args;
use weir_engine::{MAX_BATCH, MAX_WEIGHT, NameError, ScopedKey};
use weir_http::api::{AcquireBody, CheckBody, DurationText, FlowControlBody, TargetBody};

use super::flow_control::flow_control;
use crate::client::IngressArgs;

/// What is asked for beside the key.
#[derive(Debug, Clone, Args)]
pub(crate) struct WantedArgs {
    /// Its cost, where a limit counts cost
    #[arg(long, value_name = "N", default_value = "1", value_parser = units)]
    pub(crate) cost: NonZeroU32,

    /// Another key in the same step: all are granted, or none; repeat it for up to 15
    #[arg(long = "also", value_name = "SCOPE[/L1[/L2]]", value_parser = key)]
    pub(crate) also: Vec<ScopedKey>,

    /// An inline key under the scope, with limits of its own: plan:concurrency=5,rate=3/1m; with --also up to 15
    #[arg(long = "flow-control", value_name = "KEY:LIMITS", value_parser = flow_control)]
    pub(crate) flow_controls: Vec<FlowControlBody>,

    /// Who is served first of those who wait: 255 first, 0 last
    #[arg(long, value_name = "P", default_value_t = weir_engine::DEFAULT_PRIORITY)]
    pub(crate) priority: u8,

    /// Between whom waiting is shared fairly [default: the limit key]
    #[arg(long, value_name = "NAME")]
    pub(crate) fairness_key: Option<String>,

    /// The share of its fairness key, 1 to 1000
    #[arg(long, value_name = "N", value_parser = weight)]
    pub(crate) weight: Option<NonZeroU16>,
}

/// How many leases are asked for in one step.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct BatchArgs {
    /// How many leases, each of its own, 1 to 1000
    #[arg(long, value_name = "N", default_value = "1", value_parser = batch)]
    pub(crate) count: NonZeroU32,

    /// With how many of them it is content [default: all]
    #[arg(long, value_name = "N", value_parser = batch)]
    pub(crate) least: Option<NonZeroU32>,
}

/// What is asked for beside the key by who takes a lease, and where: the same for `weir run` and `weir lease acquire`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TakeArgs {
    #[command(flatten)]
    wanted: WantedArgs,

    /// How long it may wait for its turn; 0s: not at all [default: 60s, or what the rules say]
    #[arg(long, visible_alias = "wait", value_name = "DURATION", value_parser = weir_engine::parse_duration)]
    max_wait: Option<Duration>,

    /// How long the lease lasts unless it is extended, 100ms to 1h
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = weir_engine::parse_duration)]
    pub(crate) lease_time: Duration,

    #[command(flatten)]
    pub(crate) ingress: IngressArgs,
}

impl TakeArgs {
    /// The body of a request for one lease under `key`.
    pub(crate) fn body(&self, key: &ScopedKey) -> AcquireBody {
        AcquireBody {
            what: self.wanted.body(key),
            max_wait: self.max_wait.map(DurationText),
            lease_time: Some(DurationText(self.lease_time)),
            ..AcquireBody::default()
        }
    }
}

/// A key on the command line.
pub(crate) fn key(text: &str) -> Result<ScopedKey, NameError> {
    text.parse()
}

/// A number of leases.
fn batch(text: &str) -> Result<NonZeroU32, String> {
    let leases = text.parse().ok().filter(|leases: &NonZeroU32| leases.get() <= MAX_BATCH);
    leases.ok_or_else(|| format!("a batch is a number from 1 to {MAX_BATCH}"))
}

/// A cost.
fn units(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| format!("it is a number from 1 to {}", u32::MAX))
}

fn weight(text: &str) -> Result<NonZeroU16, String> {
    let weight = text.parse().ok().filter(|weight: &NonZeroU16| weight.get() <= MAX_WEIGHT);
    weight.ok_or_else(|| format!("a weight is a number from 1 to {MAX_WEIGHT}"))
}

impl WantedArgs {
    /// The body of a request under `key`.
    pub(crate) fn body(&self, key: &ScopedKey) -> CheckBody {
        let target = |key: &ScopedKey| TargetBody {
            scope: key.scope().to_owned(),
            limit_key: key.limit_key().map(str::to_owned),
        };
        let TargetBody { scope, limit_key } = target(key);
        CheckBody {
            scope,
            limit_key,
            cost: Some(self.cost),
            targets: self.also.iter().map(target).collect(),
            flow_controls: self.flow_controls.clone(),
            priority: Some(self.priority),
            fairness_key: self.fairness_key.clone(),
            weight: self.weight,
        }
    }
}
