//! Why a conversation has no rendering.

use crate::error::Shown;
use crate::text::TokenizerError;

/// Why a template cannot be used with any conversation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TemplateFault {
    /// It cannot be compiled.
    #[error("{file}:{line}: {why}")]
    Syntax {
        /// The template.
        file: String,
        /// Where.
        line: usize,
        /// What the compiler says.
        why: String,
    },
    /// It names too many tokens.
    #[error("{file}: names more than {limit} tokens")]
    TooManyTokens {
        /// The template.
        file: String,
        /// How many may be named.
        limit: usize,
    },
}

/// What is wrong with a template, with a conversation, or with one for the other. Places are lines of the template.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The model has no template.
    #[error(
        "messages: the model has no chat template; give prompt (text) or token_ids, or add a chat_template.jinja to its folder"
    )]
    NoTemplate,
    /// The model has no template of this name.
    #[error("chat_template is {name}, must be the name of one of the model's templates: {}", .names.join(", "))]
    NoSuchTemplate {
        /// The name.
        name: Shown,
        /// Those there are.
        names: Vec<String>,
    },
    /// Several templates, and none for every conversation.
    #[error("the model has no default chat template; name one of them in chat_template: {}", .names.join(", "))]
    NoDefault {
        /// Those there are.
        names: Vec<String>,
    },
    /// The template cannot be used.
    #[error("{0}; the model's chat template cannot be used, give prompt or token_ids")]
    Template(#[from] TemplateFault),
    /// The template refuses the conversation.
    #[error("the chat template refuses the messages: {message} ({file}:{line})")]
    Raised {
        /// The template.
        file: String,
        /// Where.
        line: usize,
        /// What it says.
        message: String,
    },
    /// The template does something that cannot be done.
    #[error("{file}:{line}: {why}; the chat template cannot render these messages")]
    Failed {
        /// The template.
        file: String,
        /// Where.
        line: usize,
        /// What the engine says.
        why: String,
    },
    /// The template does not come to an end.
    #[error("{file}:{line}: the chat template takes more than {fuel} steps")]
    Endless {
        /// The template.
        file: String,
        /// Where it was stopped.
        line: usize,
        /// Steps that it may take.
        fuel: u64,
    },
    /// The template writes too much.
    #[error("{file}: the rendering has more than {limit} bytes")]
    TooLong {
        /// The template.
        file: String,
        /// Bytes that it may have.
        limit: usize,
    },
    /// The final message cannot be continued.
    #[error("continue_final_message: {why}")]
    NothingToContinue {
        /// Why not.
        why: &'static str,
    },
    /// The rendering cannot be encoded.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl ChatError {
    /// The short name that an error record has.
    pub fn code(&self) -> &'static str {
        match self {
            ChatError::NoTemplate => "no_chat_template",
            ChatError::NoSuchTemplate { .. } | ChatError::NothingToContinue { .. } => "invalid_value",
            ChatError::Raised { .. } => "refused_by_template",
            ChatError::NoDefault { .. }
            | ChatError::Template(_)
            | ChatError::Failed { .. }
            | ChatError::Endless { .. }
            | ChatError::TooLong { .. } => "chat_template",
            ChatError::Tokenizer(_) => "tokenizer",
        }
    }
}
