//! How a command ends badly, and the exit code that says so.

use super::printer::Printer;
use crate::cache::CacheError;
use crate::engine::EngineError;
use crate::pipeline::Problems;

#[derive(Debug)]
pub(super) enum CliError {
    /// Wrong usage, pipeline or input data: 2.
    Input { message: String, help: Option<String> },
    /// All problems of a pipeline file: 2.
    Problems(Problems),
    /// A stage failed, or the machine did: 1.
    Failed(String),
    /// As `Failed`, where everything has been said already.
    FailedQuietly,
    /// As `Input`, where everything has been said already.
    InputQuietly,
    /// An integrity check could not be made, or what is to be shown is damaged: 3.
    Unchecked(String),
    /// An integrity check failed; the findings are printed already: 3.
    Integrity,
    /// Interrupted: 130.
    Interrupted,
    /// stdout was closed by its reader (`| head`): nothing left to say.
    ClosedPipe,
}

impl CliError {
    pub(super) fn input(message: impl Into<String>) -> Self {
        Self::Input { message: message.into(), help: None }
    }

    pub(super) fn input_with_help(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Input { message: message.into(), help: Some(help.into()) }
    }

    /// Says what is wrong on stderr, and gives the exit code.
    pub(super) fn report(self, printer: &Printer) -> u8 {
        match self {
            Self::Input { message, help } => {
                printer.error(&message, help.as_deref());
                2
            }
            Self::Problems(problems) => {
                printer.problems(&problems);
                2
            }
            Self::Failed(message) => {
                printer.error(&message, None);
                1
            }
            Self::Unchecked(message) => {
                printer.error(&message, None);
                3
            }
            Self::FailedQuietly => 1,
            Self::InputQuietly => 2,
            Self::Integrity => 3,
            Self::Interrupted => 130,
            Self::ClosedPipe => 0,
        }
    }
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Input { message, .. } | Self::Failed(message) | Self::Unchecked(message) => f.write_str(message),
            other => write!(f, "{other:?}"),
        }
    }
}

impl From<Problems> for CliError {
    fn from(problems: Problems) -> Self {
        Self::Problems(problems)
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Input(message) => Self::input(message),
            EngineError::Interrupted => Self::Interrupted,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<CacheError> for CliError {
    fn from(error: CacheError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::ClosedPipe } else { Self::Failed(error.to_string()) }
    }
}
