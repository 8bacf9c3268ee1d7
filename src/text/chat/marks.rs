//! The characters that stand for what a template itself writes.
//!
//! Before a template is compiled every token that its source spells is replaced by one character of the last private plane, a mark;
//! what comes from outside is rewritten so that it holds no such character. So a mark in a rendering was written by the template, a
//! token that is spelled out was not, and no string operation of the template can make one of the other.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// The first character that is a mark; up to [`ESCAPE`] every one may be.
const FIRST: char = '\u{10e000}';
/// Stands before a character from outside that would be a mark.
const ESCAPE: char = '\u{10fffc}';
/// Where the final message goes on: what a rendering is cut at.
pub(super) const CUT: char = '\u{10fffd}';
/// What follows an [`ESCAPE`] lies this far below the character it stands for.
const SHIFT: u32 = 0x2_0000;
/// Marks of one model; a template that is written by people names a few dozen tokens.
pub(super) const MARKS_MAX: usize = 4096;

/// What a mark stands for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Mark {
    /// A token.
    Token {
        /// Its id.
        id: u32,
        /// How it is spelled.
        content: String,
    },
    /// What stands before a role in a token that the template makes of it, such as `<|` in `<|user|>`.
    Opening(String),
    /// What stands behind the role.
    Closing(String),
}

/// The marks of one model's templates.
#[derive(Debug, Default)]
pub(super) struct Alphabet {
    marks: Vec<Mark>,
    places: HashMap<Mark, char>,
    /// Tokens that are made of a role, by spelling.
    of_roles: HashMap<String, u32>,
}

/// The text that a template makes of a conversation, and which tokens in it are its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rendering {
    /// The text, tokens spelled out.
    pub(in crate::text) text: String,
    /// The tokens that the template wrote, by their bytes in the text, in order.
    pub(in crate::text) tokens: Vec<(Range<usize>, u32)>,
}

impl Alphabet {
    /// Tokens that templates may make of a role: their spelling, and ids.
    pub(super) fn new(of_roles: HashMap<String, u32>) -> Self {
        Self { marks: Vec::new(), places: HashMap::new(), of_roles }
    }

    /// The character of a mark; `None` where there are too many.
    pub(super) fn character(&mut self, mark: &Mark) -> Option<char> {
        if let Some(&character) = self.places.get(mark) {
            return Some(character);
        }
        let place = u32::try_from(self.marks.len()).ok().filter(|_| self.marks.len() < MARKS_MAX)?;
        let character = char::from_u32(u32::from(FIRST) + place)?;
        self.marks.push(mark.clone());
        self.places.insert(mark.clone(), character);
        Some(character)
    }

    /// The marks of `text` spelled out.
    pub(super) fn spell(&self, text: &str) -> Rendering {
        let mut spelled = Rendering { text: String::with_capacity(text.len()), tokens: Vec::new() };
        let mut rest = text;
        while let Some(at) = rest.find(is_private) {
            spelled.text.push_str(&rest[..at]);
            let mut characters = rest[at..].chars();
            let first = characters.next().unwrap_or(ESCAPE);
            rest = characters.as_str();
            if first == ESCAPE {
                // An escape that lost what it stood for to the template's cutting stands for nothing.
                if let Some(original) = characters.next().and_then(unescaped) {
                    spelled.text.push(original);
                    rest = characters.as_str();
                }
                continue;
            }
            rest = &rest[self.spell_mark(first, rest, &mut spelled)..];
        }
        spelled.text.push_str(rest);
        spelled
    }

    /// Spells one mark; the bytes behind it that belong to it.
    fn spell_mark(&self, mark: char, rest: &str, spelled: &mut Rendering) -> usize {
        let begin = spelled.text.len();
        match self.mark(mark) {
            Some(Mark::Token { id, content }) => {
                spelled.text.push_str(content);
                spelled.tokens.push((begin..spelled.text.len(), *id));
            }
            Some(Mark::Opening(opening)) => {
                spelled.text.push_str(opening);
                if let Some((role, id, used)) = self.of_role(opening, rest) {
                    spelled.text.push_str(&role);
                    spelled.tokens.push((begin..spelled.text.len(), id));
                    return used;
                }
            }
            Some(Mark::Closing(closing)) => spelled.text.push_str(closing),
            None => {}
        }
        0
    }

    /// The token of an opening and what follows it: its spelling behind the opening, its id, and the bytes that it takes.
    fn of_role(&self, opening: &str, rest: &str) -> Option<(String, u32, usize)> {
        let at = rest.find(is_private)?;
        let closing = rest[at..].chars().next()?;
        let Mark::Closing(text) = self.mark(closing)? else { return None };
        let role = format!("{}{text}", &rest[..at]);
        let id = *self.of_roles.get(&format!("{opening}{role}"))?;
        Some((role, id, at + closing.len_utf8()))
    }

    fn mark(&self, character: char) -> Option<&Mark> {
        self.marks.get(u32::from(character).checked_sub(u32::from(FIRST))? as usize)
    }
}

impl Rendering {
    /// The text, tokens spelled out.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn is_private(character: char) -> bool {
    character >= FIRST
}

/// A text from outside without characters that are marks.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_private) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_private(character) {
            escaped.push(ESCAPE);
            escaped.extend(char::from_u32(u32::from(character) - SHIFT));
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// What a character behind an [`ESCAPE`] stands for.
fn unescaped(character: char) -> Option<char> {
    char::from_u32(u32::from(character) + SHIFT).filter(|&original| is_private(original))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mark_is_its_token_and_a_spelling_is_text() {
        let mut alphabet = Alphabet::new(HashMap::new());
        let end = Mark::Token { id: 7, content: "<|end|>".into() };
        let mark = alphabet.character(&end).expect("room");
        assert_eq!(alphabet.character(&end), Some(mark), "one token has one mark");
        let spelled = alphabet.spell(&format!("a<|end|>b{mark}c"));
        assert_eq!((spelled.text.as_str(), spelled.tokens), ("a<|end|>b<|end|>c", vec![(9..16, 7)]));
    }

    #[test]
    fn a_token_is_made_of_a_role_between_its_marks_only() {
        let mut alphabet = Alphabet::new([("<|user|>".to_string(), 3)].into());
        let open = alphabet.character(&Mark::Opening("<|".into())).expect("room");
        let close = alphabet.character(&Mark::Closing("|>".into())).expect("room");
        let check = |text: String, spelled: &str, tokens: Vec<(Range<usize>, u32)>| {
            let got = alphabet.spell(&text);
            assert_eq!((got.text.as_str(), got.tokens), (spelled, tokens));
        };
        check(format!("{open}user{close}x"), "<|user|>x", vec![(0..8, 3)]);
        check(format!("{open}tool{close}x"), "<|tool|>x", vec![]);
        check(format!("{open}user|>{close}"), "<|user|>|>", vec![]);
        check("<|user|>".into(), "<|user|>", vec![]);
    }

    #[test]
    fn marks_have_a_bound() {
        let mut alphabet = Alphabet::new(HashMap::new());
        let token = |id: usize| Mark::Token { id: id as u32, content: format!("<{id}>") };
        assert!((0..MARKS_MAX).all(|id| alphabet.character(&token(id)).is_some()));
        assert_eq!(alphabet.character(&token(MARKS_MAX)), None);
    }

    proptest! {
        /// Whatever comes from outside holds no mark, and is spelled as it came.
        #[test]
        fn texts_from_outside_come_back(text in prop::collection::vec(
            prop_oneof![any::<char>(), (0x10d000u32..0x10ffff).prop_map(|at| char::from_u32(at).unwrap_or('x'))], 0..40)
        ) {
            let text = String::from_iter(text);
            let inside = escaped(&text);
            prop_assert!(inside.chars().all(|c| c < FIRST || c == ESCAPE));
            prop_assert_eq!(Alphabet::default().spell(&inside).text, text);
        }
    }
}
