//! Jobs: a line in, a request; a result, a line out; a journal between them, so that nothing that is done is done again.

mod capture;
mod chat_result;
mod fault;
mod fields;
pub mod journal;
mod ledger;
mod limits;
mod line;
mod messages;
mod output;
mod pending;
mod reader;
mod request;
mod result;
mod resume;
mod rules;
mod run;
mod runner;
mod sampling;
mod scan;
mod score_line;
mod task;

pub use fault::{Standing, note_fault, standing};
pub use ledger::{Begun, Ledger, Opening, Tally};
pub use limits::limits;
pub use line::{LineError, LineParser, Refused};
pub use output::{Edited, Mended, rebuild};
pub use reader::{LINE_BYTES_MAX, LineReader, RawLine};
pub use request::{Prompt, Request, RuleFields, SamplingFields, StopFields};
pub use result::{
    Choice, ErrorLine, FinishReason, Form, Logprobs, PromptLogprob, PromptLogprobs, ResultLine, TopLogprobs, Usage,
};
pub(crate) use result::{write_filtered, write_response};
pub use resume::{InputChange, Refusal, Resume};
pub(crate) use run::is_pipe;
pub use run::{Job, OpenJob};
pub use runner::{Interrupt, Pause, Progress, Summary, Unwatched};
pub use sampling::{MAX_TOKENS, SamplingError, Telling, generations};
pub use scan::{DuplicateId, JobError, Scan, Survey, scan, survey};
pub use score_line::{Piece, ScoreRequest};
pub use task::Task;

/// The request of a line as it was read from the file.
pub fn line_request(parser: &mut LineParser, line: &RawLine<'_>) -> Result<Request, Refused> {
    match line.text {
        Some(text) => parser.parse(text),
        None => {
            let (bytes, offset) = (line.bytes, line.offset);
            Err(Refused { custom_id: None, error: LineError::TooLong { bytes, offset, limit: LINE_BYTES_MAX } })
        }
    }
}

#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod tests;
