//! The sealed environment that templates run in: no files, no other templates, bounded steps, depth and output.

use super::error::{ChatError, TemplateFault};
use super::{clock, json, methods};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use std::io;

/// Steps of one rendering; 64 bytes that are made count as one, so a rendering never holds more than 64 MiB.
const FUEL: u64 = 1 << 20;
/// Levels of macros, loops and calls.
const DEPTH_MAX: usize = 64;
/// Bytes of one rendering.
pub(super) const RENDERING_BYTES_MAX: usize = 4 << 20;

/// What `raise_exception` was given.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// An environment without templates.
pub(super) fn sealed() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the delimiters are those of Jinja"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH_MAX);
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter("tojson", json::tojson);
    // Whatever has a length and items is a sequence to Jinja: a text and a map as well.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    environment.add_function("strftime_now", clock::strftime_now);
    environment.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        let raised = Raised(message.to_string());
        Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(raised))
    });
    environment
}

/// The rendering of a template; `file` is what messages call it.
pub(super) fn render(
    environment: &Environment<'static>,
    name: &str,
    file: &str,
    variables: Value,
) -> Result<String, ChatError> {
    let failed = |error: Error| fault(file, &error);
    let mut out = Limited { bytes: Vec::new(), full: false };
    let done = environment.get_template(name).and_then(|template| template.render_captured_to(variables, &mut out));
    if out.full {
        return Err(ChatError::TooLong { file: file.into(), limit: RENDERING_BYTES_MAX });
    }
    done.map_err(failed)?;
    Ok(String::from_utf8_lossy(&out.bytes).into_owned())
}

/// Why a template cannot be compiled.
pub(super) fn syntax_fault(file: &str, error: &Error) -> TemplateFault {
    TemplateFault::Syntax { file: file.to_owned(), line: error.line().unwrap_or(1), why: said(error) }
}

/// What the template engine says.
fn said(error: &Error) -> String {
    match error.detail() {
        Some(detail) => cut(&format!("{}: {detail}", error.kind())),
        None => error.kind().to_string(),
    }
}

/// What a fault of a rendering means.
fn fault(file: &str, error: &Error) -> ChatError {
    let (file, line) = (file.to_owned(), error.line().unwrap_or(1));
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        if let Some(Raised(message)) = source.downcast_ref() {
            return ChatError::Raised { file, line, message: cut(message) };
        }
        cause = source.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return ChatError::Endless { file, line, fuel: FUEL };
    }
    ChatError::Failed { file, line, why: said(error) }
}

/// A text of a template as messages show it: one line, not long, since it may quote a conversation.
fn cut(text: &str) -> String {
    const SHOWN_MAX: usize = 160;
    let mut shown: String = text
        .chars()
        .take(SHOWN_MAX)
        .flat_map(|c| {
            let escaped: Vec<char> = if c.is_control() { c.escape_debug().collect() } else { vec![c] };
            escaped
        })
        .collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Takes what fits.
struct Limited {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for &mut Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > RENDERING_BYTES_MAX {
            self.full = true;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
