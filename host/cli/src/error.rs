//! A failure: what went wrong, what to do about it, and the exit code.

use std::io;
use std::process::ExitCode;

use crate::output;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// None: there is nothing more to say.
    error: Option<anyhow::Error>,
    hint: Option<String>,
}

impl Failure {
    /// Asked wrongly: a bad file, name or number. Exit code 2, as clap's.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: Some(error.into()), hint: None }
    }

    /// Asked well, and failed. Exit code 1.
    pub(crate) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 1, error: Some(error.into()), hint: None }
    }

    /// Refused for now: later it may be granted. Exit code 4.
    pub(crate) fn not_now(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 4, error: Some(error.into()), hint: None }
    }

    /// Ends with this code; all of it is said already.
    pub(crate) fn quiet(code: u8) -> Self {
        Self { code, error: None, hint: None }
    }

    /// Asked whether there are differences: there are. Exit code 3.
    pub(crate) fn differs() -> Self {
        Self::quiet(3)
    }

    /// Ends with another code.
    pub(crate) fn code(self, code: impl FnOnce(u8) -> u8) -> Self {
        Self { code: code(self.code), ..self }
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells the user, and answers the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if self.is_broken_pipe() {
            return ExitCode::SUCCESS;
        }
        if let Some(error) = &self.error {
            output::talk(&format!("error: {error:#}"));
        }
        if let Some(hint) = &self.hint {
            output::talk(&format!("hint: {hint}"));
        }
        ExitCode::from(self.code)
    }

    /// Whoever read our output has had enough of it.
    fn is_broken_pipe(&self) -> bool {
        self.error.iter().flat_map(|error| error.chain()).any(|cause| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        })
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed(error)
    }
}
