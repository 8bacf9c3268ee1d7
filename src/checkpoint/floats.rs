//! Numbers that JSON has no way to write: Python's `json` writes them bare, newer transformers as `{"__float__": "Infinity"}`. Here the
//! bare ones become the others before anything parses them.

use std::borrow::Cow;

/// What Python writes bare; a sign belongs to the number.
const BARE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// `text` with every bare number outside strings replaced. Text that is not JSON stays as it is, for the parser to refuse.
pub(super) fn wrap_bare(text: &[u8]) -> Cow<'_, [u8]> {
    let mut wrapped = Vec::new();
    let (mut kept, mut at, mut in_string) = (0, 0, false);
    while at < text.len() {
        let found = BARE.iter().find(|word| !in_string && text[at..].starts_with(word.as_bytes()));
        match (text[at], found) {
            (_, Some(word)) => {
                wrapped.extend_from_slice(&text[kept..at]);
                wrapped.extend_from_slice(format!("{{\"__float__\":\"{word}\"}}").as_bytes());
                at += word.len();
                kept = at;
            }
            (b'\\', None) if in_string => at += 2,
            (b'"', None) => (in_string, at) = (!in_string, at + 1),
            (_, None) => at += 1,
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    wrapped.extend_from_slice(&text[kept..]);
    Cow::Owned(wrapped)
}

#[cfg(test)]
mod tests {
    use super::wrap_bare;

    #[test]
    fn bare_numbers_are_wrapped_outside_of_strings_alone() {
        for (text, wanted) in [
            (r#"{"a": [0.0, Infinity]}"#, r#"{"a": [0.0, {"__float__":"Infinity"}]}"#),
            (r#"[-Infinity,NaN]"#, r#"[{"__float__":"-Infinity"},{"__float__":"NaN"}]"#),
            (r#"{"Infinity": "NaN \" Infinity", "b": 1}"#, r#"{"Infinity": "NaN \" Infinity", "b": 1}"#),
            (r#"{"__float__": "Infinity"}"#, r#"{"__float__": "Infinity"}"#),
            (r#""a\"#, r#""a\"#),
        ] {
            assert_eq!(String::from_utf8_lossy(&wrap_bare(text.as_bytes())), wanted);
        }
    }
}
