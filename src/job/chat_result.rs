//! A continuation in the form of OpenAI's chat completions.

use super::result::{Choice, FinishReason, Logprobs, PromptLogprobs, TopLogprobs, stop_reason};
use crate::engine::StopReason;
use serde::Serialize;

/// One answer.
#[derive(Serialize)]
pub(super) struct ChatChoice<'a> {
    index: u32,
    message: Answer<'a>,
    token_ids: &'a [u32],
    finish_reason: FinishReason,
    #[serde(serialize_with = "stop_reason")]
    stop_reason: &'a Option<StopReason>,
    logprobs: Option<Told<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_logprobs: Option<&'a [Option<PromptLogprobs>]>,
}

#[derive(Serialize)]
struct Answer<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<&'a str>,
}

/// How likely its tokens were.
#[derive(Serialize)]
struct Told<'a> {
    content: Vec<ToldToken<'a>>,
    refusal: Option<&'a str>,
}

#[derive(Serialize)]
struct ToldToken<'a> {
    #[serde(flatten)]
    own: Spelled<'a>,
    top_logprobs: Vec<Spelled<'a>>,
}

#[derive(Serialize)]
struct Spelled<'a> {
    token: &'a str,
    logprob: f32,
    bytes: Vec<u8>,
}

impl<'a> ChatChoice<'a> {
    /// The answer of a continuation.
    pub(super) fn of(choice: &'a Choice) -> Self {
        Self {
            index: choice.index,
            message: Answer { role: "assistant", content: choice.text.as_deref(), refusal: None },
            token_ids: &choice.token_ids,
            finish_reason: choice.finish_reason,
            stop_reason: &choice.stop_reason,
            logprobs: choice.logprobs.as_ref().map(told),
            prompt_logprobs: choice.prompt_logprobs.as_deref(),
        }
    }
}

fn told(logprobs: &Logprobs) -> Told<'_> {
    let each = logprobs.tokens.iter().zip(&logprobs.token_logprobs).zip(&logprobs.top_logprobs);
    let content = each.map(|((token, &logprob), TopLogprobs(top))| {
        // The likeliest first; the token itself only if it is one of them.
        let mut top: Vec<_> = top.iter().map(|(token, logprob)| Spelled::of(token, *logprob)).collect();
        top.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
        top.truncate(logprobs.top);
        ToldToken { own: Spelled::of(token, logprob), top_logprobs: top }
    });
    Told { content: content.collect(), refusal: None }
}

impl<'a> Spelled<'a> {
    fn of(token: &'a str, logprob: f32) -> Self {
        Self { token, logprob, bytes: bytes(token) }
    }
}

/// The bytes of a token as it is spelt: `bytes:\xf0\x9f` for one that is no text by itself.
fn bytes(spelled: &str) -> Vec<u8> {
    let parts = spelled.strip_prefix("bytes:\\x").map(|hex| hex.split("\\x"));
    let parsed = parts.and_then(|mut parts| {
        parts.try_fold(Vec::new(), |mut bytes, hex| {
            bytes.push(u8::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 2)?);
            Some(bytes)
        })
    });
    parsed.unwrap_or_else(|| spelled.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_those_of_the_token() {
        assert_eq!(bytes("bytes:\\xf0\\x9f"), [0xf0, 0x9f]);
        assert_eq!(bytes("é"), [0xc3, 0xa9]);
        assert_eq!(bytes("bytes:"), b"bytes:");
    }
}
