//! Jobs: a line in, a request; a result, a line out.

mod fields;
mod line;
mod reader;
mod request;
mod result;
mod rules;
mod sampling;
mod scan;

pub use line::{LineError, LineParser, Refused};
pub use reader::{LINE_BYTES_MAX, LineReader, RawLine};
pub use request::{Prompt, Request, RuleFields, SamplingFields, StopFields};
pub use result::{
    Choice, ErrorLine, FinishReason, Logprobs, PromptLogprob, PromptLogprobs, ResultLine, TopLogprobs, Usage,
};
pub use sampling::{MAX_TOKENS, SamplingError, choice, generations};
pub use scan::{DuplicateId, JobError, Scan, scan};

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
