//! Chat templates: from a conversation to the text that a model was trained on, and to its token ids.
//!
//! A template comes with a model and is not trusted: it runs sealed, with bounded steps, depth and output. What it writes of special
//! tokens is told from what texts spell by marks (see `marks`), so that no text of a conversation becomes a special token. Renderings
//! are those of transformers' `apply_chat_template`.

mod clock;
mod conversation;
mod environment;
mod error;
mod json;
mod marker;
mod marks;
mod methods;
mod source;

pub use conversation::{Conversation, ROLES};
pub use error::{ChatError, TemplateFault};
pub use marks::Rendering;

use super::added::Barred;
use crate::error::Shown;
use conversation::{mark_end, normal, template_map, template_value, unmarked, unmarked_map};
use marker::Marker;
use marks::{Alphabet, CUT, MARKS_MAX, escaped};
use minijinja::{Environment, Value};
use source::{Literal, literals, rewritten};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A template as a checkpoint holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TemplateSource {
    /// `default`, `tool_use` and so on.
    pub(super) name: String,
    /// What messages call it.
    pub(super) file: String,
    /// It.
    pub(super) source: String,
}

/// What a tokenizer has of its own tokens for templates.
pub(super) struct Tokens<'t> {
    /// The tokenizer.
    pub(super) library: &'t tokenizers::Tokenizer,
    /// Spellings of tokens that are special though the tokenizer does not say so; `None` leaves it to what templates write.
    pub(super) control: Option<Vec<String>>,
    /// `bos_token` and the like.
    pub(super) named: BTreeMap<String, String>,
}

/// The templates of a model.
pub struct ChatTemplates {
    templates: BTreeMap<String, Template>,
    environment: Environment<'static>,
    alphabet: Alphabet,
    /// Variables that every template has.
    named: Vec<(String, Value)>,
    pub(super) barred: Barred,
}

/// One of them.
struct Template {
    file: String,
    source: String,
    /// Whether it goes through the parts of a content.
    reads_parts: bool,
    fault: Option<TemplateFault>,
}

impl std::fmt::Debug for ChatTemplates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.templates.keys()).finish()
    }
}

impl ChatTemplates {
    /// Compiles templates for a tokenizer. One that cannot be compiled is a fault of the conversations that need it.
    ///
    /// # Errors
    /// Of the tokenizer, in words.
    pub(super) fn new(sources: Vec<TemplateSource>, tokens: Tokens<'_>) -> Result<Self, String> {
        let special = special_tokens(&sources, &tokens);
        let ids: HashSet<u32> = special.values().copied().collect();
        let barred = Barred::new(tokens.library, |id, _| ids.contains(&id)).map_err(|error| error.to_string())?;
        let mut marker = Marker::new(&special)?;
        let mut environment = environment::sealed();
        let mut templates = BTreeMap::new();
        for TemplateSource { name, file, source } in sources {
            let fault = match rewritten(&source, |literal| marker.mark(literal)) {
                Err(()) => Some(TemplateFault::TooManyTokens { file: file.clone(), limit: MARKS_MAX }),
                Ok(marked) => match environment.add_template_owned(name.clone(), marked) {
                    Ok(()) => None,
                    Err(error) => Some(environment::syntax_fault(&file, &error)),
                },
            };
            let reads_parts = reads_parts(&source);
            templates.insert(name, Template { file, source, reads_parts, fault });
        }
        let named = tokens.named.into_iter().map(|(name, token)| {
            let marked = marker.mark(Literal { text: &token, before: "", after: "" });
            // Where there is no room for its mark it is a text.
            (name, Value::from(marked.unwrap_or_else(|()| escaped(&token).into_owned())))
        });
        let named = named.collect();
        Ok(Self { templates, environment, named, alphabet: marker.alphabet, barred })
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }

    /// What is wrong with templates that cannot be used.
    pub fn faults(&self) -> impl Iterator<Item = &TemplateFault> {
        self.templates.values().filter_map(|template| template.fault.as_ref())
    }

    /// The text of a conversation, tokens spelled out.
    ///
    /// # Errors
    /// What the template refuses or cannot do.
    pub fn render(&self, conversation: &Conversation) -> Result<String, ChatError> {
        Ok(self.rendering(conversation)?.text)
    }

    /// The text of a conversation, and where the template wrote tokens.
    ///
    /// # Errors
    /// As [`ChatTemplates::render`].
    pub fn rendering(&self, conversation: &Conversation) -> Result<Rendering, ChatError> {
        let (name, template) = self.pick(conversation)?;
        if let Some(fault) = &template.fault {
            return Err(fault.clone().into());
        }
        let message = |message| unmarked_map(&normal(message, template.reads_parts));
        let mut messages: Vec<_> = conversation.messages.iter().map(message).collect();
        let continued = match &conversation.continue_final_message {
            None => None,
            Some(field) => {
                let last = messages.last_mut().ok_or(ChatError::NothingToContinue { why: "there is no message" })?;
                Some(mark_end(last, field, &template.source).map_err(|why| ChatError::NothingToContinue { why })?)
            }
        };
        let list = |items: &Option<Vec<serde_json::Value>>| match items {
            Some(items) => items.iter().map(|item| template_value(&unmarked(item))).collect(),
            None => Value::from(()),
        };
        let arguments = unmarked_map(&conversation.arguments);
        let arguments = arguments.iter().map(|(name, value)| (name.clone(), template_value(value)));
        let own = [
            ("messages", messages.iter().map(template_map).collect()),
            ("tools", list(&conversation.tools)),
            ("documents", list(&conversation.documents)),
            ("add_generation_prompt", Value::from(conversation.add_generation_prompt)),
            (clock::NOW, Value::from(clock::seconds(conversation.now))),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let variables = Value::from_pairs(self.named.iter().cloned().chain(arguments).chain(own));
        let rendering = environment::render(&self.environment, name, &template.file, variables)?;
        match continued {
            None => Ok(self.alphabet.spell(&rendering)),
            Some(text) => self.cut(&rendering, &text),
        }
    }

    /// The template of a conversation.
    fn pick(&self, conversation: &Conversation) -> Result<(&str, &Template), ChatError> {
        let names = || self.templates.keys().cloned().collect();
        let find = |name: &str| self.templates.get_key_value(name).map(|(name, template)| (name.as_str(), template));
        match &conversation.template {
            Some(name) => {
                find(name).ok_or_else(|| ChatError::NoSuchTemplate { name: Shown::quoted(name), names: names() })
            }
            None => {
                let of_tools = conversation.tools.as_ref().and_then(|_| find("tool_use"));
                of_tools.or_else(|| find("default")).ok_or_else(|| ChatError::NoDefault { names: names() })
            }
        }
    }

    /// A rendering cut where its final message ends.
    fn cut(&self, rendering: &str, text: &str) -> Result<Rendering, ChatError> {
        let gone = ChatError::NothingToContinue { why: "the chat template does not write the final message as it is" };
        let Some((before, behind)) = rendering.rsplit_once(CUT).filter(|_| rendering.contains(text.trim())) else {
            return Err(gone);
        };
        // Without the space the template has trimmed the message, so its own spaces do not count.
        let before = if behind.starts_with(' ') { before } else { before.trim_end() };
        Ok(self.alphabet.spell(before))
    }
}

/// Tokens that no text spells: the special ones, and others that the templates write.
fn special_tokens(sources: &[TemplateSource], tokens: &Tokens<'_>) -> HashMap<String, u32> {
    let written: Vec<&str> = sources
        .iter()
        .flat_map(|TemplateSource { source, .. }| {
            let found = literals(source);
            found.written.into_iter().chain(found.looked_for).map(|range| &source[range]).collect::<Vec<_>>()
        })
        .collect();
    let added = tokens.library.get_added_tokens_decoder().into_iter();
    let is_special = |content: &str| match &tokens.control {
        Some(control) => control.iter().any(|token| token == content),
        // A token of spaces only is ordinary text to a template.
        None => !content.trim().is_empty() && written.iter().any(|text| text.contains(content)),
    };
    added
        .filter(|(_, token)| token.special || is_special(&token.content))
        .map(|(id, token)| (token.content, id))
        .collect()
}

/// Whether a template goes through the parts of a content: a loop over something that is called so.
fn reads_parts(source: &str) -> bool {
    source.split("{%").skip(1).any(|block| {
        let tag = block.split("%}").next().unwrap_or_default().trim_start_matches(['-', '+']).trim_start();
        let Some((_, over)) = tag.strip_prefix("for ").and_then(|tag| tag.split_once(" in ")) else { return false };
        let over = over.split(['|']).next().unwrap_or_default().split(" if ").next().unwrap_or_default();
        let over = over.trim_end_matches(['-', '+']).trim();
        ["content", "content']", "content\"]"].iter().any(|name| over.ends_with(name))
    })
}
