//! Reads JSON that came from outside: one value, no key twice in an object, nesting bounded, and a fault says where.
//!
//! `serde_json` alone keeps the last of two equal keys, so a checker and a loader could read different files.

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::Cell;

/// Levels of arrays and objects that are read.
pub(crate) const NESTING_MAX: u32 = 128;
/// Values that are read, where nothing else is said: each takes some seventy bytes, whatever it takes in the text.
const VALUES_MAX: u32 = 1 << 20;

/// Where a text is not the JSON that was asked for, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonFault {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What is wrong there.
    pub what: String,
}

impl std::fmt::Display for JsonFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl From<serde_json::Error> for JsonFault {
    fn from(error: serde_json::Error) -> Self {
        // serde_json ends its messages with the place, which this type holds by itself.
        let text = error.to_string();
        let what = match text.rfind(" at line ") {
            Some(end) => text[..end].to_string(),
            None => text,
        };
        Self { line: error.line(), column: error.column(), what }
    }
}

/// Parses the whole of `text`. A byte order mark before it is skipped.
pub(crate) fn parse(text: &str) -> Result<Value, JsonFault> {
    parse_text(text, VALUES_MAX)
}

fn parse_text(text: &str, values_max: u32) -> Result<Value, JsonFault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = serde_json::Deserializer::from_str(text);
    // The seed below counts the levels itself, so the recursion stays bounded.
    reader.disable_recursion_limit();
    let values = Cell::new(values_max);
    let value = Strict { left: NESTING_MAX, values: &values, values_max }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Parses the whole of `bytes` as UTF-8 and then as JSON.
pub(crate) fn parse_bytes(bytes: &[u8]) -> Result<Value, JsonFault> {
    parse_bounded(bytes, VALUES_MAX)
}

/// As [`parse_bytes`], of at most so many values.
pub(crate) fn parse_bounded(bytes: &[u8], values_max: u32) -> Result<Value, JsonFault> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse_text(text, values_max),
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            let line = 1 + good.iter().filter(|&&b| b == b'\n').count();
            let column = 1 + good.iter().rev().take_while(|&&b| b != b'\n').count();
            Err(JsonFault { line, column, what: format!("byte 0x{:02x} is not UTF-8", bytes[good.len()]) })
        }
    }
}

/// Reads any value, counting levels and values down and refusing equal keys.
#[derive(Clone, Copy)]
struct Strict<'c> {
    left: u32,
    values: &'c Cell<u32>,
    values_max: u32,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1);
        let left = left.ok_or_else(|| E::custom(format_args!("nested deeper than {NESTING_MAX} levels")))?;
        Ok(Self { left, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let Some(left) = self.values.get().checked_sub(1) else {
            return Err(D::Error::custom(format_args!("more than {} values", self.values_max)));
        };
        self.values.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(deeper)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            let value = entries.next_value_seed(deeper)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Reads the whole of `bytes` as JSON and keeps nothing: every string is whole, every number is one, nesting is bounded.
pub(crate) fn sound(bytes: &[u8]) -> Result<(), JsonFault> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    reader.disable_recursion_limit();
    Sound { left: NESTING_MAX }.deserialize(&mut reader)?;
    Ok(reader.end()?)
}

/// Walks over any value.
#[derive(Clone, Copy)]
struct Sound {
    left: u32,
}

impl Sound {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1);
        Ok(Self { left: left.ok_or_else(|| E::custom(format_args!("nested deeper than {NESTING_MAX} levels")))? })
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while items.next_element_seed(deeper)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        // A key is a string, and read as one.
        while entries.next_key_seed(Sound { left: 0 })?.is_some() {
            entries.next_value_seed(deeper)?;
        }
        Ok(())
    }
}

/// What a value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn the_second_of_two_equal_keys_is_placed() {
        assert_eq!(fault("{\"a\": 1,\r\n \"a\": 2}"), "line 2, column 4: duplicate key \"a\"");
        assert_eq!(fault(r#"{"x": {"k": 1, "\u006b": 2}}"#), "line 1, column 23: duplicate key \"k\"");
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse(&nested(128)).is_ok());
        assert_eq!(fault(&nested(129)), "line 1, column 130: nested deeper than 128 levels");
        assert_eq!(fault(&nested(10_000)), "line 1, column 129: nested deeper than 128 levels");
    }

    #[test]
    fn values_have_a_bound() {
        let text = b"{\"a\": [1, {\"b\": 2}], \"c\": 3}";
        assert!(parse_bounded(text, 6).is_ok());
        let fault = parse_bounded(text, 5).unwrap_err().to_string();
        assert_eq!(fault, "line 1, column 26: more than 5 values");
        let ids = format!("[{}0]", "0,".repeat(1 << 20));
        assert!(parse(&ids).unwrap_err().to_string().ends_with(": more than 1048576 values"));
    }

    #[test]
    fn what_is_walked_over_is_whole() {
        let fault = |text: &str| sound(text.as_bytes()).map_err(|fault| fault.what);
        assert_eq!(fault(r#"{"a": [1, -2.5, "\ud83d\ude00", null, true, {"b": {}}]}"#), Ok(()));
        assert_eq!(fault(r#"{"a": {"b": "\udc00"}}"#), Err("lone leading surrogate in hex escape".into()));
        assert_eq!(fault(r#"{"a": 1e400}"#), Err("number out of range".into()));
        assert_eq!(fault("{} x"), Err("trailing characters".into()));
        assert_eq!(fault(&"[".repeat(200)), Err("nested deeper than 128 levels".into()));
    }

    #[test]
    fn marks_line_ends_and_long_numbers_are_read() {
        assert_eq!(parse("\u{feff}{\r\n\"a\": 1e3}\r\n").unwrap()["a"], 1e3);
        assert_eq!(fault("{\"a\": 1e400}"), "line 1, column 11: number out of range");
        assert_eq!(fault("{\"a\": NaN}"), "line 1, column 7: expected value");
        assert_eq!(fault("{} {}"), "line 1, column 4: trailing characters");
        assert_eq!(parse_bytes(b"{\n\"\xff\"}").unwrap_err().to_string(), "line 2, column 2: byte 0xff is not UTF-8");
    }
}
