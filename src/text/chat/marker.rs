//! Puts marks into the literals of templates: for whole tokens, and for what stands around a role in those that are made of one.

use super::conversation::ROLES;
use super::marks::{Alphabet, Mark, escaped};
use super::source::Literal;
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashMap;

/// Puts marks into the literals of templates.
pub(super) struct Marker {
    search: AhoCorasick,
    tokens: Vec<(String, u32)>,
    openings: Vec<String>,
    closings: Vec<String>,
    /// The marks so far.
    pub(super) alphabet: Alphabet,
}

impl Marker {
    /// For these tokens: their spelling and ids.
    ///
    /// # Errors
    /// What the search says of them.
    pub(super) fn new(special: &HashMap<String, u32>) -> Result<Self, String> {
        let mut tokens: Vec<(String, u32)> = special.iter().map(|(content, id)| (content.clone(), *id)).collect();
        tokens.sort_unstable_by_key(|(_, id)| *id);
        let contents = tokens.iter().map(|(content, _)| content);
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(contents);
        let (mut openings, mut closings, mut of_roles) = (vec![], vec![], HashMap::new());
        for (content, id) in &tokens {
            if let Some((opening, closing)) = around_a_role(content) {
                openings.push(opening.to_owned());
                closings.push(closing.to_owned());
                of_roles.insert(content.clone(), *id);
            }
        }
        for list in [&mut openings, &mut closings] {
            // The longest first.
            list.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
            list.dedup();
        }
        let search = search.map_err(|error| error.to_string())?;
        Ok(Self { search, tokens, openings, closings, alphabet: Alphabet::new(of_roles) })
    }

    /// A literal with marks; an error where there is no room for another.
    pub(super) fn mark(&mut self, literal: Literal<'_>) -> Result<String, ()> {
        let (begin, mut text, end) = self.role_marks(literal)?;
        let mut marked = String::from_iter(begin);
        while let Some(found) = self.search.find(text).filter(|found| !found.is_empty()) {
            marked.push_str(&escaped(&text[..found.start()]));
            let (content, id) = &self.tokens[found.pattern().as_usize()];
            marked.push(self.alphabet.character(&Mark::Token { id: *id, content: content.clone() }).ok_or(())?);
            text = &text[found.end()..];
        }
        marked.push_str(&escaped(text));
        marked.extend(end);
        Ok(marked)
    }

    /// Marks at the ends of a literal that a role stands beside, and what is between them.
    fn role_marks<'s>(&mut self, literal: Literal<'s>) -> Result<(Option<char>, &'s str, Option<char>), ()> {
        /// Bytes of code in which the role must be named.
        const NEAR: usize = 48;
        let Literal { mut text, before, after } = literal;
        let near = |code: &str| code.contains("role");
        // The border of a character at a byte or behind it.
        let border =
            |code: &str, at: usize| (at..=code.len()).find(|&at| code.is_char_boundary(at)).unwrap_or(code.len());
        let (mut begin, mut end) = (None, None);
        let closing = self.closings.iter().find(|closing| text.starts_with(closing.as_str()));
        if let Some(closing) = closing.filter(|_| near(&before[border(before, before.len().saturating_sub(NEAR))..])) {
            begin = Some(self.alphabet.character(&Mark::Closing(closing.clone())).ok_or(())?);
            text = &text[closing.len()..];
        }
        let opening = self.openings.iter().find(|opening| text.ends_with(opening.as_str()));
        if let Some(opening) = opening.filter(|_| near(&after[..border(after, NEAR.min(after.len()))])) {
            end = Some(self.alphabet.character(&Mark::Opening(opening.clone())).ok_or(())?);
            text = &text[..text.len() - opening.len()];
        }
        Ok((begin, text, end))
    }
}

/// What stands before and behind the role in a token that is made of one, as `<|` and `|>` in `<|user|>`.
fn around_a_role(content: &str) -> Option<(&str, &str)> {
    let letters = |text: &str| text.chars().any(char::is_alphanumeric);
    let lower = content.to_ascii_lowercase();
    ROLES.iter().find_map(|role| {
        let at = lower.find(role)?;
        let (opening, closing) = (&content[..at], &content[at + role.len()..]);
        let whole = !opening.is_empty() && !closing.is_empty() && !letters(opening) && !letters(closing);
        whole.then_some((opening, closing))
    })
}
