//! What one line of a job asks for, with every value in its range.

/// What is to be continued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Prompt {
    /// Text, which the model's tokenizer turns into ids.
    Text(String),
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
}
