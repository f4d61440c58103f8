//! Bugs that a test build can switch on, one at a time, to see that the suite finds them. Each is modelled on a defect
//! that a system of this kind has had; `docs/proof.md` says which, and what finds it.
//!
//! The switch is the environment variable `WEIR_PLANTED`, read once, and only where the feature `planted` is built in:
//! without it [`is`] is `false` to the compiler, and nothing is left of the bugs.

/// Which bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is described where it is planted, and in docs/proof.md")]
pub enum Bug {
    ExpiryForgotten,
    RefusalChargesRate,
    ReleaseWakesNobody,
    CancelWakesNobody,
    WindowForgetsEarly,
    StaleReleaseEndsAnother,
    SoonerRefillLost,
    NeverFitsWaitsOn,
    EvictionForgivesQuota,
    BarrierIgnored,
    LineOvertaken,
    SettleKeepsHeld,
    RefundTwice,
    PoolForgottenByWaiters,
    PauseForNewcomersOnly,
    PushbackOfOnePart,
    FenceRepeats,
    OwnNumbersIgnored,
    LostWake,
    GrantWithoutOwnerLeaks,
    EarlierTimerLost,
    RetryDropped,
    CancelLeavesWaiter,
    OtherPartsLeak,
    KeyIgnoresRequest,
    KeyEndsWithLease,
    KeysPileUp,
    ExtendRevives,
    BatchLosesRest,
    DropKeepsLease,
    EndedRequestKeepsLeases,
    KeptEndsWithHead,
    NeverLent,
    StaleHandleEndsAnother,
    LeavingWaiterStays,
    BookedForgotten,
    ExtensionForgotten,
    PauseForgotten,
    RestartRepeatsFence,
    KeyForgotten,
    SettleByOldRule,
    PacesShareHistory,
    ForeignLeaseFound,
    StartLentAgain,
    BlockNotAwaited,
    PoolBeginsEmpty,
    WeightIgnored,
    PriorityIgnored,
    PatienceNever,
}

/// Whether a bug is switched on.
#[cfg(feature = "planted")]
#[must_use]
pub fn is(bug: Bug) -> bool {
    static ON: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let on = ON.get_or_init(|| std::env::var("WEIR_PLANTED").ok());
    on.as_deref().is_some_and(|on| on == format!("{bug:?}"))
}

/// Whether a bug is switched on: never, in this build.
#[cfg(not(feature = "planted"))]
#[inline(always)]
#[must_use]
pub const fn is(_: Bug) -> bool {
    false
}
