//! What becomes of a call: a response, or why there is none.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use wasip3::http::types::{ErrorCode, Request, Response};

use crate::bindings::weir::calls::calls;
use crate::request::nanoseconds;
use crate::{Call, FlowLimits, Refused, RetryDelay};

/// Why a call has no response. One of any status is a response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// An option is not valid, or the request does not fit the host's rule for its destination. Nothing was sent.
    #[error("invalid: {0}")]
    Invalid(String),
    /// It did not get its turn.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A call with retries has too large a body. Nothing was sent.
    #[error("a body of a call with retries may have {most} bytes, and this one has more")]
    BodyTooLarge {
        /// How many bytes it may have.
        most: u64,
    },
    /// The last attempt has no response.
    #[error("no response: {0}")]
    Transport(ErrorCode),
}

impl From<calls::CallError> for CallError {
    fn from(error: calls::CallError) -> Self {
        match error {
            calls::CallError::Invalid(wrong) => Self::Invalid(wrong),
            calls::CallError::Refused(refusal) => Self::Refused(refusal.into()),
            calls::CallError::BodyTooLarge(most) => Self::BodyTooLarge { most },
            calls::CallError::Transport(code) => Self::Transport(code),
        }
    }
}

impl From<RetryDelay> for calls::RetryDelay {
    fn from(delay: RetryDelay) -> Self {
        match delay {
            RetryDelay::Fixed(delay) => Self::Fixed(nanoseconds(delay)),
            RetryDelay::Exponential { first, factor } => {
                Self::Exponential(calls::ExponentialDelay { first: nanoseconds(first), factor })
            }
        }
    }
}

impl<R> Call<R> {
    fn options(&self) -> calls::CallOptions {
        let options = calls::CallOptions::new();
        // Limits without a key, and a limit key without a scope, are not to be forgotten: the host refuses an empty name.
        if self.key.is_some() || self.limits != FlowLimits::new() {
            options.set_key(self.key.as_deref().unwrap_or_default(), &(&self.limits).into());
        }
        if self.scope.is_some() || self.limit_key.is_some() {
            options.set_scope(self.scope.as_deref().unwrap_or_default(), self.limit_key.as_deref());
        }
        if let Some(cost) = self.cost {
            options.set_cost(cost);
        }
        if let Some(priority) = self.priority {
            options.set_priority(priority);
        }
        if let Some(max_wait) = self.max_wait {
            options.set_max_wait(nanoseconds(max_wait));
        }
        if let Some(retries) = self.retries {
            options.set_retries(retries);
        }
        if let Some(delay) = self.retry_delay {
            options.set_retry_delay(delay.into());
        }
        if let Some(longest) = self.longest_delay {
            options.set_longest_delay(nanoseconds(longest));
        }
        if let Some(timeout) = self.attempt_timeout {
            options.set_attempt_timeout(nanoseconds(timeout));
        }
        options
    }
}

/// Waits its turn, sends the request, and answers when the head of the response is there.
///
/// # Cancel safety
/// Dropping the future ends its wait, its back-off or its attempt, and gives back what it holds.
impl IntoFuture for Call<Request> {
    type Output = Result<Response, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let options = self.options();
            Ok(calls::call(self.request, Some(options)).await?)
        })
    }
}
