//! Encoding where only some added tokens are parsed: those that the caller places, and those that are not barred.
//!
//! The steps are those of the tokenizers crate, in its order (added tokens of the raw text, normaliser, added tokens of the normalised
//! text, pre-tokenizer, model), so that with nothing barred the ids are its own. A barred id never comes of a text, even where the
//! model's own vocabulary has its spelling.

use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashSet;
use std::ops::Range;
use tokenizers::normalizer::Range as Within;
use tokenizers::{
    AddedToken, Encoding, Model, NormalizedString, Normalizer, OffsetType, PreTokenizedString, PreTokenizer, Token,
};

/// What the tokenizers crate says went wrong.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A part of a text: what is not parsed yet, or one token.
type Part = (NormalizedString, Option<Vec<Token>>);

/// Added tokens that texts do not spell, and the others.
pub(super) struct Barred {
    ids: HashSet<u32>,
    raw: Matcher,
    normalized: Matcher,
}

/// Finds tokens in texts: the leftmost, of those the longest.
struct Matcher {
    search: Option<AhoCorasick>,
    tokens: Vec<(u32, AddedToken)>,
}

/// Tokens and where they lie; between them nothing.
type Places = Vec<(Option<u32>, Range<usize>)>;

impl Barred {
    /// Bars the added tokens that `bars` names.
    pub(super) fn new(library: &tokenizers::Tokenizer, bars: impl Fn(u32, &AddedToken) -> bool) -> Result<Self> {
        let mut added: Vec<(u32, AddedToken)> = library.get_added_tokens_decoder().into_iter().collect();
        added.sort_unstable_by_key(|(id, _)| *id);
        let (barred, open): (Vec<_>, Vec<_>) = added.into_iter().partition(|(id, token)| bars(*id, token));
        let (normalized, raw): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, token)| token.normalized);
        let mut spellings = Vec::with_capacity(normalized.len());
        for (_, token) in &normalized {
            let mut content = NormalizedString::from(token.content.as_str());
            if let Some(normalizer) = library.get_normalizer() {
                normalizer.normalize(&mut content)?;
            }
            spellings.push(content.get().to_owned());
        }
        let contents = raw.iter().map(|(_, token)| token.content.clone()).collect();
        Ok(Self {
            ids: barred.into_iter().map(|(id, _)| id).collect(),
            raw: Matcher::new(contents, raw)?,
            normalized: Matcher::new(spellings, normalized)?,
        })
    }

    /// The encoding of `text` in which these bytes are these tokens; nothing is added to it.
    pub(super) fn encode(
        &self,
        library: &tokenizers::Tokenizer,
        text: &str,
        placed: &[(Range<usize>, u32)],
    ) -> Result<Encoding> {
        let tokens = library.get_added_vocabulary().get_added_tokens_decoder();
        let mut parts = PreTokenizedString::from(text);
        parts.split(|_, whole| {
            let mut places = Places::new();
            for (range, id) in placed {
                place(&mut places, text, range.clone(), *id, tokens.get(id));
            }
            Ok(cut(&whole, fill(places, text.len())))
        })?;
        parts.split(|_, part| {
            let places = self.raw.find(part.get());
            Ok(cut(&part, places))
        })?;
        parts.split(|_, mut part| {
            if let Some(normalizer) = library.get_normalizer() {
                normalizer.normalize(&mut part)?;
            }
            let places = self.normalized.find(part.get());
            Ok(cut(&part, places))
        })?;
        if let Some(pre_tokenizer) = library.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut parts)?;
        }
        parts.tokenize(|part| self.model_tokens(library, part.get()))?;
        parts.into_encoding(None, 0, OffsetType::None)
    }

    /// The model's tokens of a piece, none of them barred: where it makes one of a spelling, the piece is parted inside it.
    fn model_tokens(&self, library: &tokenizers::Tokenizer, piece: &str) -> Result<Vec<Token>> {
        let mut tokens = Vec::new();
        let mut left = vec![piece];
        while let Some(piece) = left.pop() {
            let found = library.get_model().tokenize(piece)?;
            // A token for what the model does not know has another spelling than what it stands for.
            let spells = |token: &Token| {
                let spelling = library.get_model().id_to_token(token.id);
                spelling.is_some_and(|spelling| piece.get(token.offsets.0..token.offsets.1) == Some(&spelling))
            };
            let Some(spelled) = found.iter().find(|token| self.ids.contains(&token.id) && spells(token)) else {
                tokens.extend(found);
                continue;
            };
            let (begin, end) = spelled.offsets;
            let inside = (begin + 1..end.min(piece.len())).find(|&at| piece.is_char_boundary(at));
            // One character has no inside; then the piece is parted around it, and alone it cannot be written.
            let at = match inside {
                Some(at) => at,
                None if begin > 0 => begin,
                None if end < piece.len() => end,
                None => return Err(format!("no other token spells {piece:?}, which is special").into()),
            };
            let (before, behind) = piece.split_at(at);
            left.push(behind);
            left.push(before);
        }
        Ok(tokens)
    }
}

impl Matcher {
    fn new(contents: Vec<String>, tokens: Vec<(u32, AddedToken)>) -> Result<Self> {
        if tokens.is_empty() {
            return Ok(Self { search: None, tokens });
        }
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(contents)?;
        Ok(Self { search: Some(search), tokens })
    }

    fn find(&self, text: &str) -> Places {
        let mut places = Places::new();
        let matches = self.search.iter().flat_map(|search| search.find_iter(text));
        for found in matches.filter(|found| !found.is_empty()) {
            let (id, token) = &self.tokens[found.pattern().as_usize()];
            let inside_a_word = text[..found.start()].chars().next_back().is_some_and(is_word)
                || text[found.end()..].chars().next().is_some_and(is_word);
            if !(token.single_word && inside_a_word) {
                place(&mut places, text, found.range(), *id, Some(token));
            }
        }
        fill(places, text.len())
    }
}

/// Adds a token with the spaces that it takes to itself.
fn place(places: &mut Places, text: &str, range: Range<usize>, id: u32, token: Option<&AddedToken>) {
    let from = places.last().map_or(0, |(_, last)| last.end);
    let mut begin = range.start;
    if token.is_some_and(|token| token.lstrip) {
        begin = text[..begin].trim_end().len();
    }
    // The token before may have taken the same spaces.
    let begin = begin.max(from);
    let mut end = range.end;
    if token.is_some_and(|token| token.rstrip) {
        end = text.len() - text[end..].trim_start().len();
    }
    if from < begin {
        places.push((None, from..begin));
    }
    places.push((Some(id), begin..end));
}

/// Adds what lies behind the last token.
fn fill(mut places: Places, len: usize) -> Places {
    let from = places.last().map_or(0, |(_, last)| last.end);
    if from < len {
        places.push((None, from..len));
    }
    places
}

fn cut(whole: &NormalizedString, places: Places) -> Vec<Part> {
    let part = |(id, range): (Option<u32>, Range<usize>)| {
        let part = whole.slice(Within::Normalized(range)).expect("tokens lie on the borders of characters");
        let token = id.map(|id| vec![Token::new(id, part.get().to_owned(), (0, part.get().len()))]);
        (part, token)
    };
    places.into_iter().map(part).collect()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
