//! `clean_up_tokenization_spaces`: spaces that tokenizers of words put before punctuation are taken out again.

/// What is replaced by itself without the spaces around it, in this order, each everywhere.
const SPACED: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// A text without those spaces, as transformers has it.
pub(super) fn cleaned(text: &str) -> String {
    SPACED.iter().fold(text.to_owned(), |text, (spaced, bare)| text.replace(spaced, bare))
}

/// The same of a text that comes in parts. Everything that is replaced begins with a space, so what stands before a space behind a
/// letter or digit is settled; but for ` n ' t`, of which the first replacement makes ` n't`, where the second takes the space in front.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    held: String,
}

impl Cleaner {
    /// What is settled once this text has come.
    pub(super) fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let spaces = self.held.match_indices(' ').map(|(at, _)| at);
        let settled = spaces.rev().find(|&at| is_settled(&self.held[..at], &self.held[at..])).unwrap_or(0);
        let rest = self.held.split_off(settled);
        cleaned(&std::mem::replace(&mut self.held, rest))
    }

    /// All that was held back, with the end of the text.
    pub(super) fn finish(mut self, text: &str) -> String {
        self.held.push_str(text);
        cleaned(&self.held)
    }
}

/// Whether what stands before a space does not depend on what comes.
fn is_settled(before: &str, behind: &str) -> bool {
    const NOT: &str = " ' t";
    let joins = before.ends_with(" n") && (behind.starts_with(NOT) || NOT.starts_with(behind));
    before.ends_with(char::is_alphanumeric) && !joins
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spaces_before_punctuation_go() {
        assert_eq!(cleaned("do n't , he 's \' here \' ."), "don't, he's\'here \'.");
    }

    #[test]
    fn a_replacement_that_makes_another_is_waited_for() {
        for whole in ["is n ' t it", "is n ' s", " n ' t n ' t", "in n 't n ' "] {
            let mut cleaner = Cleaner::default();
            let mut text: String = whole.chars().map(|part| cleaner.push(&part.to_string())).collect();
            text.push_str(&cleaner.finish(""));
            assert_eq!(text, cleaned(whole));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn a_text_in_parts_is_cleaned_as_the_whole(parts in prop::collection::vec(
            prop::sample::select(vec![
                " ", ".", "'", "n't", "a", " '", "s", "m", "v", "re", ",", "  ", " a", "é", " n", "t", " t", " ' ",
            ]), 0..24)
        ) {
            let mut cleaner = Cleaner::default();
            let mut text: String = parts.iter().map(|part| cleaner.push(part)).collect();
            text.push_str(&cleaner.finish(""));
            prop_assert_eq!(text, cleaned(&parts.concat()));
        }
    }
}
