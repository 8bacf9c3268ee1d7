//! The fields of one event of a trace file, whatever the event is: what is not known is stepped over, at any depth up to the
//! parser's bound, and costs no memory.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A value as far as it matters here.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Scalar<'a> {
    /// The field is not there.
    Absent,
    /// A whole number that is not negative.
    Whole(u64),
    /// Any other number.
    Number(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// Something else, in words.
    Other(&'static str),
}

/// Fields of an event, and of its `args`, that the reader knows; the order is that of [`Field`].
const KEYS: [&str; 19] = [
    "ph", "cat", "ts", "dur", "tid", "edge", "counter", "step", "rows", "bytes", "cause", "outside", "messages",
    "value", "mark", "request", "tokens", "first", "gap",
];

/// A field by its place in the table of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Phase,
    Category,
    Start,
    Duration,
    Thread,
    Edge,
    Counter,
    Step,
    Rows,
    Bytes,
    Cause,
    Outside,
    Messages,
    Value,
    Mark,
    Request,
    Tokens,
    First,
    Gap,
}

impl Field {
    pub(super) fn key(self) -> &'static str {
        KEYS[self as usize]
    }
}

/// What an event says.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Fields<'a> {
    values: [Scalar<'a>; KEYS.len()],
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, field: Field) -> &Scalar<'a> {
        &self.values[field as usize]
    }

    pub(super) fn text(&self, field: Field) -> &str {
        match self.get(field) {
            Scalar::Text(text) => text,
            Scalar::Absent | Scalar::Whole(_) | Scalar::Number(_) | Scalar::Other(_) => "",
        }
    }

    fn empty() -> Self {
        Self { values: std::array::from_fn(|_| Scalar::Absent) }
    }
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Absent => f.write_str("nothing"),
            Scalar::Whole(number) => write!(f, "{number}"),
            Scalar::Number(number) => write!(f, "{number}"),
            Scalar::Text(text) => {
                write!(f, "\"{}\"", text.chars().take(80).flat_map(char::escape_debug).collect::<String>())
            }
            Scalar::Other(what) => f.write_str(what),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Other("true or false"))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Other("null"))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an object"))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(FieldsVisitor)
    }
}

/// Reads an event, or its `args`, which have no `args` of their own.
struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Fields::empty())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Fields::empty())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Fields::empty())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Fields::empty())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Fields::empty())
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Fields::empty())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Fields::empty())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::empty();
        while let Some(key) = entries.next_key::<Key>()? {
            match key {
                Key::Known(index) => fields.values[index] = entries.next_value()?,
                Key::Args => {
                    // What stands in `args` goes to the same table; no key stands in both.
                    let args: Fields<'de> = entries.next_value()?;
                    for (own, value) in fields.values.iter_mut().zip(args.values) {
                        if value != Scalar::Absent {
                            *own = value;
                        }
                    }
                }
                Key::Unknown => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

enum Key {
    Known(usize),
    Args,
    Unknown,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                let known = KEYS.iter().position(|key| *key == text);
                Ok(known.map_or(if text == "args" { Key::Args } else { Key::Unknown }, Key::Known))
            }
        }
        reader.deserialize_identifier(KeyVisitor)
    }
}
