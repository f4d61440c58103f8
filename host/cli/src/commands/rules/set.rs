//! `weir rules set PATTERN`: idempotent, and keeps every field that is not named.

use std::time::Duration;

use clap::{ArgGroup, Args};
use weir_engine::{Concurrency, Limits, Pattern, Rate};
use weir_http::api::{
    ChangeBody, ConcurrencyText, DurationText, LimitsBody, LimitsPatch, PatchBody, PatternText, RateText,
};

use crate::client::{AdminArgs, Client};
use crate::error::Failure;
use crate::output;

/// Create a rule, or change the fields that are named; the others stay
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("field").required(true).multiple(true)))]
#[command(after_help = "\
Rates: LIMIT/PERIOD[:smooth][:burst=N][:cost]
  3/1m                     at most 3 in any minute
  100/1s:smooth:burst=10   evenly spread, 10 at once
  10000/1m:cost            counts cost (such as tokens), not calls

Examples:
  weir rules set tenant-a --concurrency 5 --max-wait 30s
  weir rules set 'model/*' --rate 3/1m --rate 10000/1m:cost
  weir rules set tenant-a --unlimited
  weir rules set tenant-a --concurrency 0            close the scope: nothing new is admitted
  weir rules set 'tenant/*' --concurrency 5          each tenant
  weir rules set tenant --concurrency 50             and all tenants together: every depth of a name binds
  weir rules set '*' --total --concurrency 200       all scopes together, besides what other patterns say of each
  weir rules set model/gpt --shadow-concurrency 1    how much would that refuse? `weir counters` tells")]
pub(crate) struct SetArgs {
    /// What the rule governs: scope[/l1[/l2]], each part exact or `*`
    #[arg(value_parser = super::pattern)]
    pattern: Pattern,

    /// How much may be held at once: N, or N:cost; 0 closes
    #[arg(long, value_name = "N", group = "field")]
    concurrency: Option<Concurrency>,

    /// No limit on what is held at once
    #[arg(long, conflicts_with = "concurrency", group = "field")]
    unlimited: bool,

    /// How much may start in a period; repeat it for up to 4, which replace those of the rule
    #[arg(long = "rate", value_name = "RATE", group = "field")]
    rates: Vec<Rate>,

    /// No rates
    #[arg(long, conflicts_with = "rates", group = "field")]
    no_rates: bool,

    /// For whoever reads the list
    #[arg(long, value_name = "TEXT", group = "field")]
    description: Option<String>,

    /// How long a request may wait, such as 30s; 0s: not at all
    #[arg(long, value_name = "DURATION", value_parser = weir_engine::parse_duration, group = "field")]
    max_wait: Option<Duration>,

    /// How many may wait at one counter
    #[arg(long, value_name = "N", group = "field")]
    max_waiters: Option<u32>,

    /// How long a pushback may close a counter, such as 30s; 0s: not at all
    #[arg(long, value_name = "DURATION", value_parser = weir_engine::parse_duration, group = "field")]
    max_pushback: Option<Duration>,

    /// One counter for all that match, a pool, instead of one for each; other patterns may bind each besides
    #[arg(long, group = "field")]
    total: bool,

    /// A counter for each that matches, instead of one for all
    #[arg(long, conflicts_with = "total", group = "field")]
    no_total: bool,

    /// Count what this concurrency would refuse, and refuse nothing; the --shadow options replace all shadow limits
    #[arg(long, value_name = "N", group = "field")]
    shadow_concurrency: Option<Concurrency>,

    /// Count what this rate would refuse; repeat it for up to 4
    #[arg(long = "shadow-rate", value_name = "RATE", group = "field")]
    shadow_rates: Vec<Rate>,

    /// No shadow limits
    #[arg(long, conflicts_with_all = ["shadow_concurrency", "shadow_rates"], group = "field")]
    no_shadow: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) fn run(args: &SetArgs) -> Result<(), Failure> {
    let client = Client::new(&args.admin)?;
    let fields = fields(args)?;
    let says_total = args.total || args.no_total;
    let before = if says_total { client.rule(&args.pattern)? } else { None };
    let patch = PatchBody { pattern: PatternText(args.pattern.clone()), fields };
    let applied = client.apply(ChangeBody { patch: Some(patch), ..ChangeBody::default() })?;
    let outcome = match applied.differences.first() {
        None => "unchanged",
        Some(difference) if difference.kind == "added" => "created",
        Some(_) => "changed",
    };
    let rule = client.rule(&args.pattern)?;
    if let Some(before) = before.filter(|before| before.body.total != args.total) {
        output::talk(&turned(&args.pattern, before.body.total));
    }
    super::say(args.admin.json, outcome, &args.pattern, rule.as_ref())
}

/// What became of a rule whose `total` was turned: whoever wanted it besides has lost the one that was there.
fn turned(pattern: &Pattern, was_total: bool) -> String {
    let (was, is) = if was_total { ("all that match together", "each") } else { ("each that matches", "all together") };
    format!("note: a pattern has one rule: the limits of {pattern} were for {was}, and are for {is} now")
}

fn fields(args: &SetArgs) -> Result<LimitsPatch, Failure> {
    let some = |duration: Option<Duration>| duration.map(|duration| Some(DurationText(duration)));
    let shadow = Limits { concurrency: args.shadow_concurrency, rates: args.shadow_rates.clone(), ..Limits::default() };
    // What can be said to be wrong without the rest of the rule is said before anything is sent.
    let limits = Limits {
        concurrency: args.concurrency,
        rates: args.rates.clone(),
        max_waiters: args.max_waiters,
        max_wait: args.max_wait,
        max_pushback: args.max_pushback,
    };
    limits.validate().and_then(|()| shadow.validate()).map_err(Failure::usage)?;
    Ok(LimitsPatch {
        concurrency: if args.unlimited {
            Some(None)
        } else {
            args.concurrency.map(|limit| Some(ConcurrencyText(limit)))
        },
        rates: (args.no_rates || !args.rates.is_empty()).then(|| args.rates.iter().cloned().map(RateText).collect()),
        max_waiters: args.max_waiters.map(Some),
        max_wait: some(args.max_wait),
        max_pushback: some(args.max_pushback),
        shadow_limits: if args.no_shadow {
            Some(None)
        } else {
            (!shadow.is_empty()).then(|| Some(LimitsBody::from(&shadow)))
        },
        total: (args.total || args.no_total).then_some(args.total),
        description: args.description.clone(),
        disabled: None,
    })
}
