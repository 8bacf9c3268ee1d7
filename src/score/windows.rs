//! Rolling windows over a text that is longer than the context: every token is scored once.

use std::ops::Range;

/// One window: which tokens are scored, and how many of those before them are its context.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    /// Where its context begins; `None` for the prefix token alone, which stands before the first token.
    pub context: Range<usize>,
    /// Whether the prefix token stands before the context.
    pub prefixed: bool,
    /// The tokens that are scored.
    pub scored: Range<usize>,
}

/// The windows of a text of `tokens` tokens for a context of `max_len` positions, `stride` new tokens each but for the first, as
/// lm-evaluation-harness has them (`get_rolling_token_windows` with `context_len = max_len - stride + 1`): the first window scores
/// `max_len` tokens behind the prefix token, every later one at most `stride` behind all that there is room for.
///
/// # Panics
/// A stride of 0, or one over `max_len`.
pub fn rolling_windows(tokens: usize, max_len: usize, stride: usize) -> impl Iterator<Item = Window> {
    assert!((1..=max_len).contains(&stride), "a stride is from 1 to the length of the window");
    let mut scored = 0;
    std::iter::from_fn(move || {
        if scored >= tokens {
            return None;
        }
        if scored == 0 {
            scored = max_len.min(tokens);
            return Some(Window { context: 0..0, prefixed: true, scored: 0..scored });
        }
        let end = tokens.min(scored + stride);
        // What is fed is one token less than what is looked at: the last one is only scored.
        let window = Window { context: end - max_len - 1..scored, prefixed: false, scored: scored..end };
        scored = end;
        Some(window)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// lm_eval/utils.py, get_rolling_token_windows and make_disjoint_window, on token numbers; -1 is the prefix.
    fn harness(tokens: i64, max_len: i64, context_len: i64) -> Vec<(Vec<i64>, Vec<i64>)> {
        let list: Vec<i64> = (0..tokens).collect();
        let slice = |from: i64, to: i64| list[from.max(0) as usize..to.max(0) as usize].to_vec();
        let mut windows = vec![];
        let pred_len = max_len - context_len + 1;
        let first = max_len.min(tokens);
        windows.push(([vec![-1], slice(0, first - 1)].concat(), slice(0, first)));
        let mut predicted = first;
        while predicted < tokens {
            let window = pred_len.min(tokens - predicted);
            let end = predicted + window;
            windows.push((slice(end - max_len - 1, end - 1), slice(end - window, end)));
            predicted += window;
        }
        let disjoint = |(a, b): (Vec<i64>, Vec<i64>)| (a[..a.len() - (b.len() - 1)].to_vec(), b);
        windows.into_iter().map(disjoint).collect()
    }

    #[test]
    fn windows_are_those_of_the_harness() {
        for (tokens, max_len) in [(1, 4), (4, 4), (5, 4), (9, 4), (10, 4), (100, 16), (15, 16), (17, 16)] {
            for stride in 1..=max_len {
                let ours = rolling_windows(tokens, max_len, stride).map(|window| {
                    let prefix = if window.prefixed { vec![-1] } else { vec![] };
                    let numbers = |range: Range<usize>| range.map(|at| at as i64).collect::<Vec<_>>();
                    assert!(window.context.len() + window.scored.len() + prefix.len() <= max_len + 1);
                    ([prefix, numbers(window.context)].concat(), numbers(window.scored))
                });
                let theirs = harness(tokens as i64, max_len as i64, (max_len - stride + 1) as i64);
                assert_eq!(ours.collect::<Vec<_>>(), theirs, "{tokens} tokens, {max_len} positions, stride {stride}");
            }
        }
        assert_eq!(rolling_windows(0, 4, 4).count(), 0);
    }
}
