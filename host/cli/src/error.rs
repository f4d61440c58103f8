//! A failure: what went wrong, what to do about it, and the exit code.

use std::io;
use std::process::ExitCode;

use crate::output;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    error: anyhow::Error,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It was asked wrongly: a bad file, name or number. Exit code 2, as clap's.
    Usage,
    /// It was asked well, and failed. Exit code 1.
    Failed,
    /// It was asked whether there are differences, and there are. Exit code 3.
    Differs,
}

impl Failure {
    /// Asked wrongly.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { kind: Kind::Usage, error: error.into(), hint: None }
    }

    /// Asked well, and failed.
    pub(crate) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self { kind: Kind::Failed, error: error.into(), hint: None }
    }

    /// Asked whether there are differences: there are, and all of it is said already.
    pub(crate) fn differs() -> Self {
        Self { kind: Kind::Differs, error: anyhow::anyhow!("there are differences"), hint: None }
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
        if self.kind == Kind::Differs {
            return ExitCode::from(3);
        }
        output::talk(&format!("error: {:#}", self.error));
        if let Some(hint) = &self.hint {
            output::talk(&format!("hint: {hint}"));
        }
        match self.kind {
            Kind::Usage => ExitCode::from(2),
            Kind::Failed | Kind::Differs => ExitCode::FAILURE,
        }
    }

    /// Whoever read our output has had enough of it.
    fn is_broken_pipe(&self) -> bool {
        self.error.chain().any(|cause| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        })
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed(error)
    }
}
