//! Regular expressions of a tokenizer that may give up on a text.
//!
//! Most run in time proportional to the text. Those that look around or back are searched with backtracking, which is given up after
//! [`STEPS_MAX`] steps; the tokenizers crate then goes on without a word, as if nothing had matched. Only a repetition of a repetition
//! comes to so many steps, so only such expressions are tried on a text before it is encoded.

use crate::error::Shown;
use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value;

/// Steps of one search.
const STEPS_MAX: usize = 1_000_000;

/// The expressions of one tokenizer that may give up.
#[derive(Debug, Default)]
pub(super) struct Regexes(Vec<Regex>);

impl Regexes {
    /// Those in these parts of a `tokenizer.json`.
    pub(super) fn of<'v>(parts: impl IntoIterator<Item = &'v Value>) -> Self {
        let mut patterns = Vec::new();
        for part in parts {
            collect(part, &mut patterns);
        }
        patterns.retain(|pattern| repeats_a_repetition(pattern));
        let compiled =
            patterns.iter().filter_map(|pattern| RegexBuilder::new(pattern).backtrack_limit(STEPS_MAX).build().ok());
        Self(compiled.collect())
    }

    /// Why a text cannot be encoded, if one of them gives up on it.
    pub(super) fn check(&self, text: &str) -> Result<(), String> {
        for regex in &self.0 {
            if regex.find_iter(text).any(|found| found.is_err()) {
                let regex = Shown::quoted(regex.as_str());
                return Err(format!("the tokenizer's regular expression {regex} takes more than {STEPS_MAX} steps"));
            }
        }
        Ok(())
    }
}

/// All `{"Regex": pattern}` below a value.
fn collect<'v>(value: &'v Value, patterns: &mut Vec<&'v str>) {
    match value {
        Value::Object(map) => {
            patterns.extend(map.get("Regex").and_then(Value::as_str));
            map.values().for_each(|value| collect(value, patterns));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, patterns)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a group that holds an endless repetition is itself repeated without end.
fn repeats_a_repetition(pattern: &str) -> bool {
    let mut open: Vec<bool> = vec![false];
    let mut closed = None;
    let mut in_class = 0usize;
    let mut rest = pattern.chars();
    while let Some(next) = rest.next() {
        let group = closed.take();
        let endless = match next {
            '\\' => {
                rest.next();
                false
            }
            '[' => {
                in_class += 1;
                false
            }
            ']' => {
                in_class = in_class.saturating_sub(1);
                false
            }
            _ if in_class > 0 => false,
            '(' => {
                open.push(false);
                false
            }
            ')' => {
                let inner = open.pop().unwrap_or(false);
                if let Some(outer) = open.last_mut() {
                    *outer |= inner;
                }
                closed = Some(inner);
                false
            }
            '*' | '+' => true,
            '{' => rest.as_str().split('}').next().is_some_and(|bounds| bounds.ends_with(',')),
            _ => false,
        };
        if endless {
            if group == Some(true) {
                return true;
            }
            if let Some(group) = open.last_mut() {
                *group = true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_of_repetitions_are_found() {
        let check = |pattern: &str, expect: bool| assert_eq!(repeats_a_repetition(pattern), expect, "{pattern}");
        check("(a+)+$", true);
        check("(?:(?:a*)b)*", true);
        check("(a{2,}){3,}", true);
        check(r"(\(+)*", true);
        check("(a+)?b+", false);
        check(r"(\+)+[(a+)]+", false);
        check(
            r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            false,
        );
    }
}
