//! The attempts of one call: a turn, an attempt, and back-off before the next.

use super::body::{Kept, NotKept};
use super::retry::{self, Retry};
use super::way::Way;
use crate::ctx::Identity;
use crate::egress::leased;
use crate::outcome;
use crate::view::{FlowView, Home};
use http::{Request, Response};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpView};
use weir_engine::{Engine, Lease, Outcome, Refusal, Started};

/// Everything that the attempts of a call need, but for what is sent.
pub(super) struct Attempts {
    pub(super) flow: Engine,
    pub(super) identity: Arc<Identity>,
    pub(super) home: Home,
    pub(super) ask: weir_engine::Request,
    pub(super) retry: Retry,
    pub(super) attempt_timeout: Option<Duration>,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not get its turn.
    Refused(Refusal),
    /// So many wait already.
    NoRoomToWait(usize),
    /// Its body cannot be kept.
    NoRoomForBody,
    /// Its body is too large to be kept.
    BodyTooLarge,
    /// The last attempt failed.
    Transport(Error),
}

impl From<NotKept> for Failure {
    fn from(why: NotKept) -> Self {
        match why {
            NotKept::TooLarge => Self::BodyTooLarge,
            NotKept::NoRoom => Self::NoRoomForBody,
            NotKept::Broken(error) => Self::Transport(error),
        }
    }
}

impl Attempts {
    /// Sends the request until there is an answer, or no retry is left.
    ///
    /// # Cancel safety
    /// A wait leaves its waitlist, an attempt gives its lease back and its connection up, and back-off holds nothing.
    pub(super) async fn run<T: FlowView + WasiHttpView + 'static>(
        mut self,
        way: &Way<'_, T>,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, Failure> {
        if self.retry.retries == 0 {
            let lease = self.turn().await?;
            return match self.attempt(way, request, options).await {
                Ok(response) => Ok(leased(response, lease)),
                Err(error) => Err(failed(error, lease)),
            };
        }
        let (head, body) = request.into_parts();
        let body = Kept::read(body, &self.identity).await?;
        let mut delays = self.retry.delays();
        loop {
            let lease = self.turn().await?;
            let request = Request::from_parts(head.clone(), body.again());
            let delay = match self.attempt(way, request, options).await {
                Ok(response) => {
                    let (answer, body) = response.into_parts();
                    let now = SystemTime::now();
                    let pause = outcome::pause(&answer.headers, now);
                    let delay = if retry::may_pass(answer.status) { delays.next(pause) } else { None };
                    let Some(delay) = delay else {
                        return Ok(leased(Response::from_parts(answer, body), lease));
                    };
                    drop(body);
                    lease.release(outcome::upstream(&answer, now));
                    delay
                }
                Err(error) => {
                    let delay = if retry::may_get_through(&error) { delays.next(None) } else { None };
                    let Some(delay) = delay else { return Err(failed(error, lease)) };
                    tracing::debug!(target: "weir_wasm", component = %self.identity.name, "a call is sent again: {error}");
                    lease.release(Outcome::Failed);
                    delay
                }
            };
            tokio::time::sleep(delay).await;
        }
    }

    /// Waits until an attempt may run.
    async fn turn(&mut self) -> Result<Lease, Failure> {
        // For each attempt anew: what it rode on may have ended, or carry another.
        self.ask.lend_from = self.home.lend_to_call(&self.ask, &self.home.stack);
        match self.flow.acquire_now(&self.ask).map_err(Failure::Refused)? {
            Started::Granted(lease) => Ok(lease),
            Started::Waiting(acquire) => {
                // Whoever waits holds a slot of the component: not with all of them.
                let _room = self.identity.wait(acquire.ticket()).map_err(Failure::NoRoomToWait)?;
                acquire.await.map_err(Failure::Refused)
            }
        }
    }

    async fn attempt<T: FlowView + WasiHttpView + 'static>(
        &self,
        way: &Way<'_, T>,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, Error> {
        let sending = way.send(request, options);
        match self.attempt_timeout {
            None => sending.await,
            Some(timeout) => tokio::time::timeout(timeout, sending).await.unwrap_or(Err(Error::HttpResponseTimeout)),
        }
    }
}

fn failed(error: Error, lease: Lease) -> Failure {
    lease.release(Outcome::Failed);
    Failure::Transport(error)
}
