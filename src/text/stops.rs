//! Texts that end a text: found wherever they stand, however tokens cut them.
//!
//! What is searched is the text as it is given out, whole characters only, so a stop may lie across tokens and across the bytes of a
//! character that comes in several. Of all matches the one that is complete first counts, and of those complete at the same
//! character the longest. What may still become a match is held back. The search is Knuth, Morris and Pratt's, a byte at a time:
//! its cost does not depend on how often a text nearly matches.

use std::sync::Arc;

/// Stop texts of one request.
pub const STOP_TEXTS_MAX: usize = 64;

/// Bytes of one of them.
pub const STOP_BYTES_MAX: usize = 1024;

/// Stop texts, prepared for the search. Clones share them.
#[derive(Clone, Debug)]
pub struct StopTexts(Arc<[StopText]>);

#[derive(Debug)]
struct StopText {
    text: String,
    /// For each count of bytes that match, the longest shorter one that matches too; by count less one.
    shorter: Vec<u16>,
}

/// A stop text that is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StopFault {
    /// More than are searched for.
    #[error("stop has {got} texts, at most {STOP_TEXTS_MAX} are searched for")]
    TooMany {
        /// How many there are.
        got: usize,
    },
    /// Empty, or too long.
    #[error("stop[{index}] has {bytes} bytes, it must have 1 to {STOP_BYTES_MAX}")]
    Length {
        /// Its place in the list.
        index: usize,
        /// Its length.
        bytes: usize,
    },
}

impl StopTexts {
    /// Prepares these texts.
    ///
    /// # Errors
    /// The first one that cannot be searched for.
    pub fn new(texts: &[String]) -> Result<Self, StopFault> {
        if texts.len() > STOP_TEXTS_MAX {
            return Err(StopFault::TooMany { got: texts.len() });
        }
        let length = |text: &String| !(1..=STOP_BYTES_MAX).contains(&text.len());
        if let Some(index) = texts.iter().position(length) {
            return Err(StopFault::Length { index, bytes: texts[index].len() });
        }
        Ok(Self(texts.iter().map(|text| StopText::new(text.clone())).collect()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl StopText {
    fn new(text: String) -> Self {
        let mut stop = Self { shorter: Vec::with_capacity(text.len()), text };
        let mut matched = 0;
        for place in 0..stop.text.len() {
            if place > 0 {
                matched = stop.advance(matched, stop.text.as_bytes()[place]);
            }
            stop.shorter.push(matched as u16);
        }
        stop
    }

    /// Bytes that match after one more byte; fewer than all matched before it.
    fn advance(&self, mut matched: usize, byte: u8) -> usize {
        let text = self.text.as_bytes();
        while matched > 0 && text[matched] != byte {
            matched = usize::from(self.shorter[matched - 1]);
        }
        matched + usize::from(text[matched] == byte)
    }
}

/// The search through one text.
#[derive(Debug)]
pub struct StopSearch {
    stops: StopTexts,
    /// Of each stop, how many bytes the end of the text matches.
    matched: Vec<usize>,
    /// Text that is not given out yet.
    held: String,
}

/// What is known after some text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Searched {
    /// No stop so far; this text is none of one.
    On(String),
    /// A stop is complete.
    Stopped {
        /// The text before it that was not given out yet.
        before: String,
        /// The stop.
        stop: String,
    },
}

impl StopSearch {
    /// A search at the start of a text.
    pub fn new(stops: &StopTexts) -> Self {
        Self { matched: vec![0; stops.0.len()], stops: stops.clone(), held: String::new() }
    }

    /// Goes on through `text`. Where `counts` is false, a stop that is complete in it is passed over.
    pub fn push(&mut self, text: &str, counts: bool) -> Searched {
        let from = self.held.len();
        self.held.push_str(text);
        for end in from..self.held.len() {
            if let Some(stop) = self.step(self.held.as_bytes()[end]).filter(|_| counts) {
                let stop = self.stops.0[stop].text.clone();
                let mut before = std::mem::take(&mut self.held);
                before.truncate(end + 1 - stop.len());
                self.matched.fill(0);
                return Searched::Stopped { before, stop };
            }
        }
        // What matches begins with the first byte of a stop, which begins a character.
        let kept = self.held.len() - self.matched.iter().max().copied().unwrap_or(0);
        let rest = self.held.split_off(kept);
        Searched::On(std::mem::replace(&mut self.held, rest))
    }

    /// What was held back, at the end of the text.
    pub fn finish(self) -> String {
        self.held
    }

    /// Takes one byte; the longest stop that it completes.
    fn step(&mut self, byte: u8) -> Option<usize> {
        let mut complete: Option<usize> = None;
        let len = |place: usize| self.stops.0[place].text.len();
        for (place, (stop, matched)) in self.stops.0.iter().zip(&mut self.matched).enumerate() {
            *matched = stop.advance(*matched, byte);
            if *matched == stop.text.len() {
                *matched = usize::from(stop.shorter[*matched - 1]);
                if complete.is_none_or(|best| len(best) < len(place)) {
                    complete = Some(place);
                }
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stops(texts: &[&str]) -> StopTexts {
        StopTexts::new(&texts.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("short texts")
    }

    /// The text given out and the stop, for a text that comes in these parts.
    fn search(stops: &StopTexts, parts: &[&str]) -> (String, Option<String>) {
        let (mut search, mut given) = (StopSearch::new(stops), String::new());
        for part in parts {
            match search.push(part, true) {
                Searched::On(text) => given.push_str(&text),
                Searched::Stopped { before, stop } => return (given + &before, Some(stop)),
            }
        }
        let rest = search.finish();
        (given + &rest, None)
    }

    #[test]
    fn the_stop_complete_first_counts_and_of_those_the_longest() {
        let check = |texts: &[&str], text: &str, before: &str, stop: Option<&str>| {
            assert_eq!(search(&stops(texts), &[text]), (before.into(), stop.map(Into::into)), "{texts:?} in {text:?}");
        };
        check(&["b", "abc"], "xabc", "xa", Some("b"));
        check(&["c", "abc", "bc"], "xabcd", "x", Some("abc"));
        check(&["aab"], "aaaab", "aa", Some("aab"));
        check(&["é"], "a\u{e8}é", "a\u{e8}", Some("é"));
        check(&["\u{fffd}"], "a\u{fffd}b", "a", Some("\u{fffd}"));
        check(&["xyz", "yw"], "axy", "axy", None);
        check(&[], "axy", "axy", None);
    }

    #[test]
    fn text_that_may_become_a_stop_is_held_back() {
        let mut search = StopSearch::new(&stops(&["\n\nUser:"]));
        let on = |text: &str| Searched::On(text.into());
        assert_eq!(search.push("Hi\n", true), on("Hi"));
        assert_eq!(search.push("\n", true), on(""));
        assert_eq!(search.push("\nUs", true), on("\n"));
        assert_eq!(search.push("e.", true), on("\n\nUse."));
        assert_eq!(search.finish(), "");
    }

    #[test]
    fn a_stop_in_text_that_does_not_count_is_passed_over() {
        let mut search = StopSearch::new(&stops(&["aba"]));
        assert_eq!(search.push("xaba", false), Searched::On("xab".into()));
        assert_eq!(search.push("ba", true), Searched::Stopped { before: String::new(), stop: "aba".into() });
    }

    #[test]
    fn j43_stops_that_cannot_be_searched_for() {
        let check = |texts: Vec<String>, expect: &str| {
            assert_eq!(StopTexts::new(&texts).expect_err(expect).to_string(), expect);
        };
        check(vec!["a".into(), String::new()], "stop[1] has 0 bytes, it must have 1 to 1024");
        check(vec!["é".repeat(2050)], "stop[0] has 4100 bytes, it must have 1 to 1024");
        check(vec!["a".into(); 1000], "stop has 1000 texts, at most 64 are searched for");
        let longest = "ab".repeat(512);
        let text = format!("{}c", "ab".repeat(600));
        assert_eq!(search(&stops(&[&longest]), &[&text]), (String::new(), Some(longest)));
    }

    /// Few characters, of one to four bytes, so that stops come often.
    fn any_text(most: usize) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!['a', 'b', 'é', 'è', '€', '🦀', '🦊']), 1..most)
            .prop_map(String::from_iter)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

        /// At every split of the text in two, and cut into its characters, what is found is what a plain search finds.
        #[test]
        fn every_split_of_a_text_gives_the_same(
            text in any_text(24),
            texts in prop::collection::vec(any_text(5), 0..4),
        ) {
            let boundaries: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
            let plain = boundaries.iter().find_map(|&end| {
                let ends = texts.iter().filter(|stop| text[..end].ends_with(*stop));
                Some((end, ends.max_by_key(|stop| stop.len())?))
            });
            let wanted = match plain {
                Some((end, stop)) => (text[..end - stop.len()].to_string(), Some(stop.clone())),
                None => (text.clone(), None),
            };
            let stops = StopTexts::new(&texts).expect("short texts");
            for &at in &boundaries {
                let (one, other) = text.split_at(at);
                prop_assert_eq!(&search(&stops, &[one, other]), &wanted, "split at {}", at);
            }
            let each: Vec<String> = text.chars().map(String::from).collect();
            let each: Vec<&str> = each.iter().map(String::as_str).collect();
            prop_assert_eq!(&search(&stops, &each), &wanted);
        }
    }
}
