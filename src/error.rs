//! The one error at the door of the library, and the exit code that a command gives for it.
//!
//! Every message says where, which field, the value it had (cut at 80 characters), what is allowed, and how to mend it.

use crate::checkpoint::{CheckpointError, ConfigError};
use crate::job::JobError;
use crate::text::TokenizerError;
use std::fmt;

/// What a command returns to its shell; the numbers follow `sysexits.h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ExitCode {
    /// 64: the command line is wrong.
    Usage,
    /// 65: what a file holds is wrong.
    Data,
    /// 66: a file is missing.
    MissingInput,
    /// 69: a peer is gone.
    PeerLost,
    /// 70: a fault of the engine itself.
    Bug,
    /// 73: an output cannot be made.
    CannotCreate,
    /// 74: reading or writing failed.
    Io,
    /// 75: paused; the same command with `--resume` goes on.
    Paused,
    /// 78: the configuration is wrong.
    Config,
}

impl ExitCode {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            ExitCode::Usage => 64,
            ExitCode::Data => 65,
            ExitCode::MissingInput => 66,
            ExitCode::PeerLost => 69,
            ExitCode::Bug => 70,
            ExitCode::CannotCreate => 73,
            ExitCode::Io => 74,
            ExitCode::Paused => 75,
            ExitCode::Config => 78,
        }
    }
}

/// Why the library refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the weights of a model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Of a model's `config.json` or `generation_config.json`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Of a model's tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Of a job as a whole; a bad line is a record of its own.
    #[error(transparent)]
    Job(#[from] JobError),
    /// Of building or running an engine.
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    /// Several at once, one a line.
    #[error("{}", Lines(.0))]
    Many(Vec<Error>),
}

impl Error {
    /// Ok where there are no faults, the fault itself where there is one, else all of them.
    pub fn all(mut faults: Vec<Error>) -> Result<(), Error> {
        match faults.len() {
            0 => Ok(()),
            1 => Err(faults.remove(0)),
            _ => Err(Error::Many(faults)),
        }
    }

    /// What a command exits with. Of several faults the first decides.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Error::Checkpoint(error) => error.exit_code(),
            Error::Config(error) => error.exit_code(),
            Error::Tokenizer(error) => error.exit_code(),
            Error::Job(error) => error.exit_code(),
            Error::Engine(error) => error.exit_code(),
            Error::Many(faults) => faults.first().map_or(ExitCode::Bug, Error::exit_code),
        }
    }
}

/// The code for a file that could not be read.
pub(crate) fn read_exit_code(source: &std::io::Error) -> ExitCode {
    if source.kind() == std::io::ErrorKind::NotFound { ExitCode::MissingInput } else { ExitCode::Io }
}

/// One fault a line.
struct Lines<'a>(&'a [Error]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

/// A value from outside as a message shows it: quoted, control characters escaped, cut at 80 characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shown(String);

/// Characters of a value that a message shows.
const SHOWN_MAX: usize = 80;

impl Shown {
    /// A string, in quotes.
    pub fn quoted(value: &str) -> Self {
        let mut text: String = value.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
        if value.chars().nth(SHOWN_MAX).is_some() {
            text.push('…');
        }
        Self(format!("\"{text}\""))
    }

    /// A value as it would be written in JSON.
    pub fn json(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::String(text) => Self::quoted(text),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => {
                let text = value.to_string();
                let cut: String = text.chars().take(SHOWN_MAX).collect();
                if cut.len() < text.len() { Self(cut + "…") } else { Self(text) }
            }
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_values_are_cut_and_escaped() {
        assert_eq!(Shown::quoted("a\n\u{1b}[2J").to_string(), r#""a\n\u{1b}[2J""#);
        assert_eq!(Shown::quoted(&"é".repeat(81)).to_string(), format!("\"{}…\"", "é".repeat(80)));
        assert_eq!(Shown::json(&serde_json::json!([1, "x"])).to_string(), r#"[1,"x"]"#);
    }

    #[test]
    fn many_faults_are_one_a_line_and_the_first_decides_the_code() {
        let fault = |name: &str| Error::Config(ConfigError::Missing { file: name.into() });
        assert!(Error::all(vec![]).is_ok());
        let many = Error::all(vec![fault("a"), fault("b")]).unwrap_err();
        assert_eq!(many.to_string().lines().count(), 2);
        assert_eq!(many.exit_code().code(), 66);
        assert_eq!(Error::all(vec![fault("a")]).unwrap_err().to_string(), fault("a").to_string());
    }
}
