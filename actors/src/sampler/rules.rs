//! What changes a row of logits before a token is drawn from it: penalties, biases, and tokens that may not come.
//!
//! The order is vLLM's: tokens that are not allowed, bad words and end tokens that come too early are masked; biases are added;
//! then tokens seen before are penalised, first by repetition, then by frequency, then by presence. Arithmetic is f32.

use super::SamplingFault;
use super::history::History;

/// Entries that each list of [`LogitRules`] may have.
pub const RULES_MAX: usize = 1024;

/// Token sequences that bad words may come to: each word stands at the start of a text and behind a space.
pub const BAD_WORDS_MAX: usize = 2 * RULES_MAX;

/// Tokens of one bad word.
pub const BAD_WORD_TOKENS_MAX: usize = 2048;

/// What changes a row of logits before a token is drawn. Shared by all that carry it; ids beyond the vocabulary change nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct LogitRules {
    /// Divides positive and multiplies negative logits of tokens in the prompt or the output; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Taken off the logits of tokens in the output.
    pub presence_penalty: f32,
    /// Taken off the logits of tokens in the output, once for each time they came.
    pub frequency_penalty: f32,
    /// Added to the logits of single tokens.
    pub bias: Vec<(u32, f32)>,
    /// Only these tokens are drawn; `None` allows all.
    pub allowed: Option<Vec<u32>>,
    /// Sequences whose last token is not drawn where the output ends with those before it.
    pub bad_words: Vec<Vec<u32>>,
    /// Tokens of output before which [`LogitRules::end_token_ids`] are not drawn.
    pub min_tokens: u32,
    /// The tokens that would end the sequence.
    pub end_token_ids: Vec<u32>,
}

impl Default for LogitRules {
    /// Rules that change nothing.
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            bias: vec![],
            allowed: None,
            bad_words: vec![],
            min_tokens: 0,
            end_token_ids: vec![],
        }
    }
}

impl LogitRules {
    /// Whether no row is changed by them.
    pub fn is_neutral(&self) -> bool {
        let ends_early = self.min_tokens > 0 && !self.end_token_ids.is_empty();
        let masks = self.allowed.is_some() || !self.bad_words.is_empty() || ends_early;
        !masks && self.bias.is_empty() && !self.penalises()
    }

    /// Whether logits depend on the tokens before them.
    pub(super) fn penalises(&self) -> bool {
        self.repeats() || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Whether logits depend on the tokens of the prompt.
    pub(super) fn repeats(&self) -> bool {
        self.repetition_penalty != 1.0
    }

    /// The most tokens of output that a bad word looks back on.
    pub(super) fn look_back(&self) -> usize {
        self.bad_words.iter().map(|word| word.len().saturating_sub(1)).max().unwrap_or(0)
    }

    /// Whether rows can be changed this way.
    ///
    /// # Errors
    /// The first value out of its range, or list over its limit.
    pub fn check(&self) -> Result<(), SamplingFault> {
        let repetition = self.repetition_penalty;
        if !(repetition > 0.0 && repetition <= 2.0) {
            return Err(SamplingFault::RepetitionPenalty { got: repetition });
        }
        for (name, got) in [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)]
        {
            if !(-2.0..=2.0).contains(&got) {
                return Err(SamplingFault::Penalty { name, got });
            }
        }
        if let Some(&(token, got)) = self.bias.iter().find(|(_, bias)| !(-100.0..=100.0).contains(bias)) {
            return Err(SamplingFault::Bias { token, got });
        }
        let lists = [
            ("logit_bias", self.bias.len(), RULES_MAX),
            ("allowed_token_ids", self.allowed.as_ref().map_or(0, Vec::len), RULES_MAX),
            ("bad_words", self.bad_words.len(), BAD_WORDS_MAX),
        ];
        if let Some(&(name, got, most)) = lists.iter().find(|(_, got, most)| got > most) {
            return Err(SamplingFault::TooMany { name, got, most });
        }
        if self.allowed.as_ref().is_some_and(Vec::is_empty) {
            return Err(SamplingFault::NothingAllowed);
        }
        let word = self.bad_words.iter().map(Vec::len).find(|len| !(1..=BAD_WORD_TOKENS_MAX).contains(len));
        word.map_or(Ok(()), |got| Err(SamplingFault::BadWord { got }))
    }

    /// Fills `row` with the logits that a token is drawn from, given the tokens so far.
    pub(super) fn apply(&self, raw: &[f32], history: &History, row: &mut Vec<f32>) {
        row.clear();
        match &self.allowed {
            None => row.extend_from_slice(raw),
            Some(allowed) => {
                row.resize(raw.len(), f32::NEG_INFINITY);
                for &id in allowed {
                    if let (Some(to), Some(from)) = (row.get_mut(id as usize), raw.get(id as usize)) {
                        *to = *from;
                    }
                }
            }
        }
        let banned = self.bad_words.iter().filter_map(|word| {
            let (last, before) = word.split_last()?;
            history.ends_with(before).then_some(last)
        });
        let early: &[u32] = if history.outputs() < self.min_tokens { &self.end_token_ids } else { &[] };
        for &id in banned.chain(early) {
            if let Some(logit) = row.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        for &(id, bias) in &self.bias {
            if let Some(logit) = row.get_mut(id as usize) {
                *logit = bounded(*logit + bias);
            }
        }
        for seen in history.seen() {
            if let Some(logit) = row.get_mut(seen.token as usize) {
                *logit = bounded(self.penalised(*logit, seen.outputs));
            }
        }
    }

    /// The logit of a token that came in the prompt, or `outputs` times since.
    fn penalised(&self, logit: f32, outputs: u32) -> f32 {
        let repetition = self.repetition_penalty;
        let repeated = if logit > 0.0 { logit / repetition } else { logit * repetition };
        let frequent = repeated - self.frequency_penalty * outputs as f32;
        if outputs > 0 { frequent - self.presence_penalty } else { frequent }
    }
}

/// Keeps a huge logit finite; one that is masked stays so.
fn bounded(logit: f32) -> f32 {
    if logit == f32::NEG_INFINITY { logit } else { logit.clamp(f32::MIN, f32::MAX) }
}
