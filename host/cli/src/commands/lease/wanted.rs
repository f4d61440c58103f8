//! What is asked of the limiter, as arguments.

use std::num::{NonZeroU16, NonZeroU32};

use clap::Args;
use weir_engine::{MAX_WEIGHT, NameError, ScopedKey};
use weir_http::api::{CheckBody, TargetBody};

/// What is asked for beside the key.
#[derive(Debug, Clone, Args)]
pub(crate) struct WantedArgs {
    /// Its cost, where a limit counts cost
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) cost: NonZeroU32,

    /// Another key in the same step: all are granted, or none; repeat it for up to 15
    #[arg(long = "also", value_name = "SCOPE[/L1[/L2]]", value_parser = key)]
    pub(crate) also: Vec<ScopedKey>,

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

/// A key on the command line.
pub(crate) fn key(text: &str) -> Result<ScopedKey, NameError> {
    text.parse()
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
            flow_controls: Vec::new(),
            priority: Some(self.priority),
            fairness_key: self.fairness_key.clone(),
            weight: self.weight,
        }
    }
}
