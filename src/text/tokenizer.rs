//! The tokenizer of a checkpoint, checked at load: what it says later can be trusted.
//!
//! Three numbers are kept apart: ids the tokenizer knows, rows of the embedding, and width of the logits.

use super::added::Barred;
use super::chat::{ChatError, ChatTemplates, Conversation, Rendering, Tokens};
use super::clean::cleaned;
use super::error::TokenizerError;
use super::folder::{self, Settings};
use super::outline::{Added, Outline, agrees, unique};
use super::regexes::Regexes;
use crate::json;
use std::collections::HashMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizers::{DecoderWrapper, Encoding, Model, ModelWrapper};

/// Bytes of a `tokenizer.json` that are read. The largest on the hub are near 35 MiB.
pub const TOKENIZER_BYTES_MAX: u64 = 256 << 20;

/// Bytes of a text that is encoded. A line of a job has no more.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// A tokenizer. Clones share it.
#[derive(Clone)]
pub struct Tokenizer(Arc<Inner>);

struct Inner {
    file: PathBuf,
    library: tokenizers::Tokenizer,
    /// One more than the largest id.
    vocabulary_len: u32,
    /// Ids below it that stand for nothing.
    holes: u32,
    /// Whether the decoder joins the bytes of its tokens, so that a token has bytes of its own.
    byte_level: bool,
    /// Which byte a character of a byte-level token stands for.
    bytes_of: HashMap<char, u8>,
    /// Whether spaces before punctuation are taken out of texts.
    clean_up: bool,
    /// Bars special tokens.
    special: Barred,
    /// Expressions that may give up on a text.
    regexes: Regexes,
    /// `None` where the folder has none.
    chat: Option<ChatTemplates>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({}, {} ids)", self.0.file.display(), self.0.vocabulary_len)
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model folder, its settings and its chat templates; `None` where there is none: such a model takes
    /// token ids only.
    ///
    /// # Errors
    /// Files that cannot be read, or are not what they should be. A chat template that cannot be compiled is a fault of the
    /// conversations that need it; see [`ChatTemplates::faults`].
    pub fn from_folder(dir: &Path) -> Result<Option<Self>, TokenizerError> {
        let file = dir.join("tokenizer.json");
        let Some(text) = read(&file)? else { return Ok(None) };
        Self::new(&file, &text, folder::read(dir)?).map(Some)
    }

    /// Whether a model folder has chat templates, without compiling them.
    pub fn has_chat_templates(dir: &Path) -> Result<bool, TokenizerError> {
        Ok(!folder::read(dir)?.templates.is_empty())
    }

    /// Reads a `tokenizer.json` by itself; `None` where there is none.
    pub fn from_file(file: &Path) -> Result<Option<Self>, TokenizerError> {
        read(file)?.map(|text| Self::from_bytes(file, &text)).transpose()
    }

    /// Parses a `tokenizer.json`; `file` is what messages call it.
    pub fn from_bytes(file: &Path, text: &[u8]) -> Result<Self, TokenizerError> {
        Self::new(file, text, Settings::default())
    }

    fn new(file: &Path, text: &[u8], settings: Settings) -> Result<Self, TokenizerError> {
        let corrupt = |why: String| TokenizerError::Corrupt { file: file.into(), why };
        let outline: Outline = serde_json::from_slice(text).map_err(|error| corrupt(error.to_string()))?;
        // What is no JSON at all makes the library panic where it reads a decoder; what is, and no decoder, too.
        json::sound(text).map_err(|fault| corrupt(fault.to_string()))?;
        unique(file, &outline.added_tokens)?;
        let read = || tokenizers::Tokenizer::from_bytes(text);
        let mut library = held(read, "a part of it is of no known form").map_err(corrupt)?;
        // Settings of a training run, stored by accident; a prompt is never cut or filled up in silence.
        library.with_truncation(None).map_err(|error| corrupt(error.to_string()))?;
        library.with_padding(None);
        for Added { id, content } in &outline.added_tokens {
            agrees(file, &library, *id, content)?;
        }
        let vocab = library.get_vocab(true);
        let vocabulary_len = vocab.values().max().map_or(0, |&largest| largest.saturating_add(1));
        // What is added to every text: a token that the template does not have, or an id that nothing has.
        let added = held(|| library.post_process(Encoding::default(), None, true), TEMPLATE).map_err(corrupt)?;
        if let Some(id) = added.get_ids().iter().find(|&&id| id >= vocabulary_len) {
            return Err(corrupt(format!("its post_processor adds id {id}, and ids end before {vocabulary_len}")));
        }
        let mut known: Vec<u32> = vocab.into_values().collect();
        known.sort_unstable();
        known.dedup();
        let holes = vocabulary_len - known.len() as u32;
        let byte_level = library.get_decoder().is_some_and(joins_bytes);
        // In texts of byte-pair encoders the spaces are the model's own.
        let clean_up = settings.clean_up_spaces && !matches!(library.get_model(), ModelWrapper::BPE(_));
        let special = Barred::new(&library, |_, token| token.special).map_err(|error| corrupt(error.to_string()))?;
        let chat = if settings.templates.is_empty() {
            None
        } else {
            let tokens = Tokens { library: &library, control: settings.control, named: settings.named };
            Some(ChatTemplates::new(settings.templates, tokens).map_err(corrupt)?)
        };
        let regexes = Regexes::of([&outline.normalizer, &outline.pre_tokenizer, &outline.decoder]);
        let (file, bytes_of) = (file.to_path_buf(), byte_alphabet());
        let inner =
            Inner { file, library, vocabulary_len, holes, byte_level, bytes_of, clean_up, special, regexes, chat };
        Ok(Self(Arc::new(inner)))
    }

    /// The chat templates of the model; `None` where it has none.
    pub fn chat_templates(&self) -> Option<&ChatTemplates> {
        self.0.chat.as_ref()
    }

    /// One more than the largest id. Logits from here on belong to no token and must not be drawn.
    pub fn vocabulary_len(&self) -> u32 {
        self.0.vocabulary_len
    }

    /// Ids below [`Tokenizer::vocabulary_len`] that stand for nothing; they decode to nothing.
    pub fn holes(&self) -> u32 {
        self.0.holes
    }

    /// Refuses a model whose embedding has fewer rows than there are ids.
    pub fn check_rows(&self, rows: u32) -> Result<(), TokenizerError> {
        if self.0.vocabulary_len <= rows {
            return Ok(());
        }
        let largest = self.0.vocabulary_len - 1;
        Err(TokenizerError::BeyondEmbedding { file: self.0.file.clone(), largest, rows })
    }

    /// The ids of a prompt. Special tokens spelt in it are parsed, and those that the tokenizer adds are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.ids(text, |library| library.encode_fast(text, true))
    }

    /// The ids of a prompt in which nothing is special; those tokens that the tokenizer adds are added.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.ids(text, |library| library.post_process(self.0.special.encode(library, text, &[])?, None, true))
    }

    /// The ids of a text as it stands in the middle of another: nothing is added to it.
    pub fn encode_bare(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.ids(text, |library| library.encode_fast(text, false))
    }

    /// The ids of a conversation. Special are only the tokens that the chat template writes; nothing is added to them.
    ///
    /// # Errors
    /// A model without a template; what the template refuses or cannot do.
    pub fn encode_chat(&self, conversation: &Conversation) -> Result<Vec<u32>, ChatError> {
        Ok(self.encode_rendering(&self.render_chat(conversation)?)?)
    }

    /// The text of a conversation, before it is encoded.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_chat`].
    pub fn render_chat(&self, conversation: &Conversation) -> Result<Rendering, ChatError> {
        self.0.chat.as_ref().ok_or(ChatError::NoTemplate)?.rendering(conversation)
    }

    /// The ids of a rendering of this tokenizer's own templates.
    pub fn encode_rendering(&self, Rendering { text, tokens }: &Rendering) -> Result<Vec<u32>, TokenizerError> {
        let barred = self.0.chat.as_ref().map_or(&self.0.special, |chat| &chat.barred);
        self.ids(text, |library| barred.encode(library, text, tokens))
    }

    fn ids(
        &self,
        text: &str,
        encode: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<Encoding>,
    ) -> Result<Vec<u32>, TokenizerError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenizerError::TextTooLong { bytes: text.len(), limit: TEXT_BYTES_MAX });
        }
        let failed = |why| TokenizerError::Encode { file: self.0.file.clone(), why };
        self.0.regexes.check(text).map_err(failed)?;
        Ok(held(|| encode(&self.0.library), "a part of the tokenizer gives up").map_err(failed)?.get_ids().to_vec())
    }

    /// The text of one id by itself, special tokens spelt out: what a person reads beside its log-probability. One that is no text by
    /// itself is `bytes:\xf0\x9f`; one that stands for nothing is empty.
    pub fn spelling(&self, id: u32) -> String {
        if let Some(bytes) = self.piece(id).filter(|bytes| !bytes.is_empty()) {
            let spelt = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
            return String::from_utf8(bytes).unwrap_or_else(|error| format!("bytes:{}", spelt(error.as_bytes())));
        }
        let text = held(|| self.0.library.decode(&[id], false), "its decoder gives up").unwrap_or_default();
        if text.contains('\u{fffd}') { self.0.library.id_to_token(id).unwrap_or(text) } else { text }
    }

    /// The text of the ids, without special tokens. Ids that stand for nothing are skipped.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let text = self.decode_as_it_is(ids)?;
        Ok(if self.0.clean_up { cleaned(&text) } else { text })
    }

    /// The same with all of its spaces.
    pub(super) fn decode_as_it_is(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let text = held(|| self.0.library.decode(ids, true), "its decoder gives up");
        text.map_err(|why| TokenizerError::Decode { file: self.0.file.clone(), why })
    }

    /// Whether spaces before punctuation are taken out of texts.
    pub(super) fn cleans_up(&self) -> bool {
        self.0.clean_up
    }

    /// What an id is for the text around it, where the decoder does not work byte by byte.
    pub(super) fn part(&self, id: u32) -> IdPart {
        let added = self.0.library.get_added_vocabulary();
        let token = added.simple_id_to_token(id).or_else(|| self.0.library.get_model().id_to_token(id));
        match token.filter(|token| !added.is_special_token(token)) {
            None => IdPart::Nothing,
            Some(token) if is_byte(&token) => IdPart::Byte,
            Some(_) => IdPart::Text,
        }
    }

    /// The bytes that one id adds to a text; `None` where the decoder does not work byte by byte.
    pub fn piece(&self, id: u32) -> Option<Vec<u8>> {
        if !self.0.byte_level {
            return None;
        }
        let added = self.0.library.get_added_vocabulary();
        let token = added.simple_id_to_token(id).or_else(|| self.0.library.get_model().id_to_token(id));
        let Some(token) = token.filter(|token| !added.is_special_token(token)) else {
            return Some(Vec::new());
        };
        let bytes: Option<Vec<u8>> = token.chars().map(|c| self.0.bytes_of.get(&c).copied()).collect();
        Some(bytes.unwrap_or_else(|| token.into_bytes()))
    }
}

/// Why nothing can be encoded where the library gives up on an empty text.
const TEMPLATE: &str = "its post_processor adds a token that is not among its special_tokens";

/// What the library makes of it, or why not: it panics on some of what it does not expect, and then `panicked` says where.
fn held<T>(call: impl FnOnce() -> tokenizers::Result<T>, panicked: &str) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(made) => made.map_err(|error| error.to_string()),
        Err(_) => Err(panicked.into()),
    }
}

/// What an id adds to a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IdPart {
    /// Nothing: it is special, or stands for nothing.
    Nothing,
    /// A byte, which may be part of a character.
    Byte,
    /// Text.
    Text,
}

/// Whether a token is one byte as byte-fallback spells it.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|token| token.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// The bytes of a tokenizer file; `None` where there is none.
fn read(file: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    let failed = |source| TokenizerError::Io { file: file.into(), source };
    let open = match std::fs::File::open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let bytes = open.metadata().map_err(failed)?.len();
    if bytes > TOKENIZER_BYTES_MAX {
        return Err(TokenizerError::TooLarge { file: file.into(), bytes });
    }
    let mut text = Vec::new();
    open.take(TOKENIZER_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Whether a decoder maps each token to bytes and joins them, and does nothing else.
fn joins_bytes(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteLevel(_) => true,
        DecoderWrapper::Sequence(sequence) => {
            matches!(sequence.get_decoders(), [DecoderWrapper::ByteLevel(_)])
        }
        DecoderWrapper::BPE(_)
        | DecoderWrapper::WordPiece(_)
        | DecoderWrapper::Metaspace(_)
        | DecoderWrapper::CTC(_)
        | DecoderWrapper::Replace(_)
        | DecoderWrapper::Fuse(_)
        | DecoderWrapper::Strip(_)
        | DecoderWrapper::ByteFallback(_) => false,
    }
}

/// The alphabet of byte-level tokens: printable bytes stand for themselves, the others for characters from 256 on, in order.
fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255u8).filter(|&byte| !printable(byte));
    let shifted = others.enumerate().map(|(at, byte)| (char::from_u32(256 + at as u32).expect("below 512"), byte));
    shifted.chain((0..=255u8).filter(|&byte| printable(byte)).map(|byte| (char::from(byte), byte))).collect()
}
