//! The JSON of the admin API, as types.
//!
//! The admin API, its command-line client and `weir.toml` share them, so that a rule is written the same way in all
//! three:
//!
//! ```json
//! { "pattern": "tenant/*", "concurrency": 5, "rates": ["3/1m", "10000/1m:cost"], "max-wait": "30s" }
//! ```
//!
//! Field names are kebab-case, unknown fields are refused, durations and rates are text (`"250ms"`, `"3/1m:smooth"`).
//! A rate may also be an object: `{ "limit": 3, "period": "1m", "mode": "smooth", "burst": 2, "counts": "cost" }`.

mod changes;
mod counters;
mod explain;
mod leases;
mod limits;
mod number;
mod object;
mod rules;
mod text;
mod views;

pub use changes::{BatchBody, ChangeBody, ChangeError, LimitsPatch, PatchBody};
pub(crate) use counters::readable;
pub use counters::{CounterView, CountersView, RateView, ShadowView, VerbBody, VerbError, VerbName};
pub use explain::{ExplainedConstraint, ExplainedView, ExplanationView, ForecastView, StandingView};
pub use leases::{
    AcquireBody, CheckBody, CheckView, ExtendBody, ExtendedView, FieldError, FlowControlBody, LeaseView, LeasesView,
    ReleasedView, SettleBody, SettledView, TargetBody,
};
pub use limits::LimitsBody;
pub use rules::{AppliedView, BookView, DifferenceView, RuleBody, RuleView, SpecError};
pub use text::{ConcurrencyText, DurationText, PatternText, RateText};
pub use views::{ComponentView, ComponentsView};
