//! Python's methods of strings that templates call, beside those of minijinja-contrib.

use minijinja::value::from_args;
use minijinja::{Error, ErrorKind, State, Value};

/// Calls a method that a value does not have by itself.
pub(super) fn call(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match value.as_str().map(|text| string_method(text, method, args)) {
        Some(Err(error)) if error.kind() == ErrorKind::UnknownMethod => {}
        Some(done) => return done,
        None => {}
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let one = || from_args::<(&str,)>(args).map(|(one,)| one);
    // In these the argument may be left out; without it spaces are meant, more of them than Rust knows.
    let stripped = |from_start: bool, from_end: bool| {
        let (characters,): (Option<&str>,) = from_args(args)?;
        let strips = |c: char| characters.map_or(is_space(c), |characters| characters.contains(c));
        let text = if from_start { text.trim_start_matches(strips) } else { text };
        Ok(Value::from(if from_end { text.trim_end_matches(strips) } else { text }))
    };
    match method {
        "strip" => stripped(true, true),
        "lstrip" => stripped(true, false),
        "rstrip" => stripped(false, true),
        "removeprefix" => one().map(|prefix| Value::from(text.strip_prefix(prefix).unwrap_or(text))),
        "removesuffix" => one().map(|suffix| Value::from(text.strip_suffix(suffix).unwrap_or(text))),
        "partition" => one().map(|by| parted(text.split_once(by), by, [text, "", ""])),
        "rpartition" => one().map(|by| parted(text.rsplit_once(by), by, ["", "", text])),
        "rsplit" => {
            let (by, most): (Option<&str>, Option<i64>) = from_args(args)?;
            Ok(rsplit(text, by, most))
        }
        "index" => one().and_then(|part| place(text, text.find(part))),
        "rindex" => one().and_then(|part| place(text, text.rfind(part))),
        "casefold" => from_args::<()>(args).map(|()| Value::from(text.to_lowercase())),
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            let zeros = width.min(1 << 16).saturating_sub(text.chars().count());
            Ok(Value::from(format!("{sign}{}{digits}", "0".repeat(zeros))))
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

/// What Python's `str.isspace` holds for a space.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

fn parted(parts: Option<(&str, &str)>, by: &str, whole: [&str; 3]) -> Value {
    let parts = parts.map_or(whole, |(before, behind)| [before, by, behind]);
    parts.into_iter().map(Value::from).collect()
}

fn rsplit(text: &str, by: Option<&str>, most: Option<i64>) -> Value {
    let parts = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let mut found: Vec<&str> = Vec::new();
    let mut rest = if by.is_none() { text.trim_end_matches(is_space) } else { text };
    while found.len() + 1 < parts {
        let next = match by {
            Some(by) => rest.rsplit_once(by),
            None => rest
                .rfind(is_space)
                .map(|at| (rest[..at].trim_end_matches(is_space), rest[at..].trim_start_matches(is_space))),
        };
        let Some((before, last)) = next else { break };
        found.push(last);
        rest = before;
    }
    // Split at spaces, nothing is left before the first word.
    if by.is_some() || !rest.trim_start_matches(is_space).is_empty() {
        found.push(if by.is_none() { rest.trim_start_matches(is_space) } else { rest });
    }
    found.into_iter().rev().map(Value::from).collect()
}

/// A place as Python counts it, in characters.
fn place(text: &str, at: Option<usize>) -> Result<Value, Error> {
    let at = at.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "index: substring not found"))?;
    Ok(Value::from(text[..at].chars().count()))
}
