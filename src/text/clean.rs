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
/// letter or digit is settled.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    held: String,
}

impl Cleaner {
    /// What is settled once this text has come.
    pub(super) fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let spaces = self.held.match_indices(' ').map(|(at, _)| at);
        let settled = spaces.rev().find(|&at| self.held[..at].ends_with(char::is_alphanumeric)).unwrap_or(0);
        let rest = self.held.split_off(settled);
        cleaned(&std::mem::replace(&mut self.held, rest))
    }

    /// All that was held back, with the end of the text.
    pub(super) fn finish(mut self, text: &str) -> String {
        self.held.push_str(text);
        cleaned(&self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spaces_before_punctuation_go() {
        assert_eq!(cleaned("do n't , he 's \' here \' ."), "don't, he's\'here \'.");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_text_in_parts_is_cleaned_as_the_whole(parts in prop::collection::vec(
            prop::sample::select(vec![" ", ".", "'", "n't", "a", " '", "s", "m", "v", "re", ",", "  ", " a", "é"]), 0..24)
        ) {
            let mut cleaner = Cleaner::default();
            let mut text: String = parts.iter().map(|part| cleaner.push(part)).collect();
            text.push_str(&cleaner.finish(""));
            prop_assert_eq!(text, cleaned(&parts.concat()));
        }
    }
}
