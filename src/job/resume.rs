//! Whether a job may go on where its journal ends, and why not.

use super::journal::{Contents, Difference, Header, Holder};
use crate::error::ExitCode;
use std::fmt;
use std::path::{Path, PathBuf};

/// Differences that are listed; there are few settings.
const LISTED_MAX: usize = 20;

/// Where an input is not what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InputChange {
    /// This line of it, counted without blank ones from 1, is another.
    Line(u64),
    /// It ends before this line.
    Shorter(u64),
    /// It goes on behind this line, which was the last.
    Longer(u64),
    /// Its lines are the same, but not its blank lines, line ends or spaces.
    Blanks,
}

impl fmt::Display for InputChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputChange::Line(line) => write!(f, "request {line} (blank lines do not count) is the first that differs"),
            InputChange::Shorter(line) => write!(f, "request {line} and what follows are gone"),
            InputChange::Longer(line) => write!(f, "there are requests behind request {line}, which was the last"),
            InputChange::Blanks => f.write_str("its requests are the same, but its blank lines or line ends are not"),
        }
    }
}

/// Why a run does not begin with the files that are there.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Refusal {
    /// An output that is a link.
    #[error("{}: is a symbolic link; name the file itself, so that its journal lies beside it", .output.display())]
    Link {
        /// The output.
        output: PathBuf,
    },
    /// An output that is no file.
    #[error("{}: is no regular file; results go to a file, with the job's journal beside it", .output.display())]
    NotAFile {
        /// The output.
        output: PathBuf,
    },
    /// An output that no journal belongs to.
    #[error("{}: exists and is not this job's; it is left as it is. Name another output, or remove it", .output.display())]
    Foreign {
        /// The output.
        output: PathBuf,
    },
    /// The output of another job that is finished.
    #[error(
        "{}: holds the results of another job, which are left as they are. Name another output, or remove it and its \
         .journal\n{}", .output.display(), Listed(.differences, *.input)
    )]
    OtherJob {
        /// The output.
        output: PathBuf,
        /// Settings that differ.
        differences: Vec<Difference>,
        /// Whether the input differs.
        input: bool,
    },
    /// The output of a job that is not finished.
    #[error(
        "{}: belongs to a job of which {done} lines are done; --resume goes on with it. To begin anew, name another output, \
         or remove it and its .journal", .output.display()
    )]
    Unfinished {
        /// The output.
        output: PathBuf,
        /// Lines that have a record.
        done: u64,
    },
    /// An input that is not what it was.
    #[error(
        "{}: is not the input that the job was begun with: {change}. Restore it, or name another output", .input.display()
    )]
    Input {
        /// The input.
        input: PathBuf,
        /// Where it differs.
        change: InputChange,
    },
    /// Settings that are not what they were.
    #[error(
        "{}: was begun with other settings; the same ones go on, or name another output\n{}", .output.display(),
        Listed(.differences, false)
    )]
    Parameters {
        /// The output.
        output: PathBuf,
        /// Which.
        differences: Vec<Difference>,
    },
    /// A pipe, which cannot be read again.
    #[error("{}: --resume reads the input again from its beginning, which a pipe does not have; put it in a file", .input.display())]
    Pipe {
        /// The input.
        input: PathBuf,
    },
    /// A pipe, which cannot be read twice.
    #[error("{}: --strict reads the input before the job, and a pipe is read only once; put it in a file", .input.display())]
    StrictPipe {
        /// The input.
        input: PathBuf,
    },
    /// A model that continues nothing.
    #[error(
        "the model gives scores of {labels} labels and no tokens; `millstream score` asks it about the lines' texts"
    )]
    Classifier {
        /// How many.
        labels: usize,
    },
}

impl Refusal {
    /// What a command exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Refusal::Link { .. }
            | Refusal::NotAFile { .. }
            | Refusal::Foreign { .. }
            | Refusal::OtherJob { .. }
            | Refusal::Unfinished { .. } => ExitCode::CannotCreate,
            Refusal::Input { .. } => ExitCode::Data,
            Refusal::Parameters { .. } => ExitCode::Config,
            Refusal::Pipe { .. } | Refusal::StrictPipe { .. } | Refusal::Classifier { .. } => ExitCode::Usage,
        }
    }
}

/// What differs, one a line.
struct Listed<'a>(&'a [Difference], bool);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = self.1.then(|| "the input".to_string());
        let shown = self.0.iter().take(LISTED_MAX).map(Difference::to_string);
        let lines: Vec<String> = input.into_iter().chain(shown).map(|line| format!("  {line}")).collect();
        f.write_str(&lines.join("\n"))?;
        let left = self.0.len().saturating_sub(LISTED_MAX);
        if left > 0 { write!(f, "\n  and {left} more") } else { Ok(()) }
    }
}

/// Where a job goes on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resume {
    /// Lines that have a record and are not run again.
    pub done: u64,
    /// Lines that were begun and are run again.
    pub in_flight: u64,
    /// Bytes of the journal that were cut: its end had not reached the disk.
    pub torn_bytes: u64,
    /// Who worked on it and ended without a word.
    pub left: Option<Holder>,
}

impl Resume {
    /// Where the job of a journal goes on, with the input and settings that `now` has; what is called how in messages.
    ///
    /// # Errors
    /// An input or settings that are not what they were, or an input that cannot be read again.
    pub fn plan(
        contents: &Contents,
        now: &Header,
        line_hashes: &[u32],
        input: &Path,
        output: &Path,
    ) -> Result<Self, Refusal> {
        let (Some(before), Some(current)) = (&contents.header.input, &now.input) else {
            return Err(Refusal::Pipe { input: input.into() });
        };
        if before != current {
            let change = input_change(&contents.line_hashes, line_hashes);
            return Err(Refusal::Input { input: input.into(), change });
        }
        let differences = contents.header.differences(&now.parameters);
        if !differences.is_empty() {
            return Err(Refusal::Parameters { output: output.into(), differences });
        }
        let in_flight = contents.in_flight.len() as u64;
        Ok(Self { done: contents.done(), in_flight, torn_bytes: contents.torn_bytes, left: None })
    }
}

/// The first difference of two inputs by the hashes of their lines.
fn input_change(before: &[u32], now: &[u32]) -> InputChange {
    let differs = before.iter().zip(now).position(|(before, now)| before != now);
    match differs {
        Some(at) => InputChange::Line(at as u64 + 1),
        None if now.len() < before.len() => InputChange::Shorter(now.len() as u64 + 1),
        None if now.len() > before.len() => InputChange::Longer(before.len() as u64),
        None => InputChange::Blanks,
    }
}
