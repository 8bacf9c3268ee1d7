//! What one line of a job asks for, with every value in its range.

use crate::text::Conversation;

/// What is to be continued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Prompt {
    /// Text, which the model's tokenizer turns into ids. Special tokens spelt in it are parsed.
    Text(String),
    /// Text in which nothing is special.
    PlainText(String),
    /// A conversation, which the model's chat template turns into text.
    Chat(Box<Conversation>),
    /// Token ids; each stands for a logit of the model.
    TokenIds(Vec<u32>),
}

/// How tokens are drawn; `None` where the request leaves it to the job or the model.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct SamplingFields {
    /// 0 takes the largest logit.
    pub temperature: Option<f32>,
    /// 0 keeps all.
    pub top_k: Option<u32>,
    /// 1 keeps all.
    pub top_p: Option<f32>,
    /// 0 keeps all.
    pub min_p: Option<f32>,
    /// The request's own seed.
    pub seed: Option<u64>,
}

/// What changes the logits that tokens are drawn from.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RuleFields {
    /// Over 0, up to 2; `None` where the request leaves it to the model.
    pub repetition_penalty: Option<f32>,
    /// From -2 to 2.
    pub presence_penalty: f32,
    /// From -2 to 2.
    pub frequency_penalty: f32,
    /// Each from -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
    /// Only these are drawn.
    pub allowed_token_ids: Option<Vec<u32>>,
    /// Texts that are not written.
    pub bad_words: Vec<String>,
    /// Tokens before which nothing ends the text.
    pub min_tokens: u32,
}

/// Texts that end the text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StopFields {
    /// At most 64, of 1 to 1024 bytes.
    pub texts: Vec<String>,
    /// Leaves in the text what ended it.
    pub include: bool,
}

/// One request of a job.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// The name under which its result is written; unique in the job.
    pub custom_id: String,
    /// What is to be continued.
    pub prompt: Prompt,
    /// Tokens at most; at least 1.
    pub max_tokens: Option<u32>,
    /// How tokens are drawn.
    pub sampling: SamplingFields,
    /// How many continuations; at least 1.
    pub n: u32,
    /// Tokens that end the text, beside the model's own.
    pub stop_token_ids: Vec<u32>,
    /// Goes on past the model's own end tokens.
    pub ignore_eos: bool,
    /// Texts that end the text.
    pub stops: StopFields,
    /// What changes the logits that tokens are drawn from.
    pub rules: RuleFields,
    /// Whether log-probabilities of generated tokens are told, and those of how many likeliest tokens beside each.
    pub logprobs: Option<u32>,
    /// The same for the tokens of the prompt.
    pub prompt_logprobs: Option<u32>,
}
