//! What the lines of a job are for: to be continued, or to be scored.

use super::line::{LineError, LineParser, Refused};
use super::reader::{LINE_BYTES_MAX, RawLine};
use super::request::{Prompt, Request};
use super::score_line::ScoreRequest;

/// What a job does with its lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Task {
    /// Continues prompts.
    #[default]
    Generate,
    /// Says how likely continuations are; with a model that has labels, what it says of each line's text.
    Score {
        /// Whether they are taken as generated; see [`crate::score::Scoring`].
        as_generated: bool,
    },
}

/// What one line asks for.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Ask {
    /// Text to be continued.
    Generate(Box<Request>),
    /// Continuations to be scored, as generated or not.
    Score(ScoreRequest, bool),
    /// A text to be classified, under this name.
    Classify(String, Prompt),
}

impl Ask {
    /// The name under which its result is written.
    pub(super) fn custom_id(&self) -> &str {
        match self {
            Ask::Generate(request) => &request.custom_id,
            Ask::Score(request, _) => &request.custom_id,
            Ask::Classify(custom_id, _) => custom_id,
        }
    }
}

/// What a line of a job of this task asks for.
pub(super) fn ask(task: Task, parser: &mut LineParser, line: &RawLine<'_>) -> Result<Ask, Refused> {
    let Some(text) = line.text else {
        let (bytes, offset) = (line.bytes, line.offset);
        let error = LineError::TooLong { bytes, offset, limit: LINE_BYTES_MAX };
        return Err(Refused { custom_id: None, error });
    };
    match task {
        Task::Generate => parser.parse(text).map(|request| Ask::Generate(Box::new(request))),
        Task::Score { .. } if parser.has_labels() => {
            parser.parse_classify(text).map(|(custom_id, prompt)| Ask::Classify(custom_id, prompt))
        }
        Task::Score { as_generated } => parser.parse_score(text).map(|request| Ask::Score(request, as_generated)),
    }
}
