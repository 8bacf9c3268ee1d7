//! Text from outside, as it may stand in a page or a picture.

/// `text` as the content or a quoted attribute of HTML and XML. What XML has no character for becomes U+FFFD.
pub(super) fn markup(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// `json` as the content of a script element: no tag can begin in it, and its meaning is the same.
pub(super) fn script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_what_it_stands_in() {
        assert_eq!(markup("</script> & \"x\" 'y'\u{1b}"), "&lt;/script&gt; &amp; &quot;x&quot; &#39;y&#39;\u{fffd}");
        let json = serde_json::json!({"name": "</script><!-- &amp;"}).to_string();
        let safe = script(&json);
        assert!(!safe.contains(['<', '>', '&']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).ok(), serde_json::from_str(&json).ok());
    }
}
