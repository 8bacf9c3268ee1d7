//! The `tojson` of chat templates: what Python's `json.dumps` writes, without the escapes that Jinja adds for HTML.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Levels that are written.
const NESTING_MAX: usize = 256;
/// Bytes written for one unit of fuel.
const BYTES_A_FUEL: usize = 16;

/// `value | tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<String, Error> {
    let flag = |name| options.get::<Option<bool>>(name).map(|flag| flag.unwrap_or(false));
    let (ascii, sorted) = (flag("ensure_ascii")?, flag("sort_keys")?);
    let indent = match options.get::<Option<Value>>("indent")? {
        Some(indent) if !indent.is_none() => Some(match indent.as_usize() {
            Some(spaces) => " ".repeat(spaces.min(64)),
            None => indent.as_str().unwrap_or_default().to_owned(),
        }),
        Some(_) | None => None,
    };
    let pair = match options.get::<Option<Value>>("separators")? {
        Some(pair) if !pair.is_none() => {
            let text = |at: usize| pair.get_item_by_index(at).map(|part| part.to_string());
            (text(0)?, text(1)?)
        }
        Some(_) | None => ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned()),
    };
    options.assert_all_used()?;
    let mut writer = Writer { state, out: String::new(), paid: 0, ascii, sorted, indent, pair };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'w, 's, 'e> {
    state: &'w State<'s, 'e>,
    out: String,
    /// Bytes that were paid for.
    paid: usize,
    ascii: bool,
    sorted: bool,
    indent: Option<String>,
    /// Between items, and behind a key.
    pair: (String, String),
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, level: usize) -> Result<(), Error> {
        if level > NESTING_MAX {
            return Err(invalid(format!("tojson: nested deeper than {NESTING_MAX} levels")));
        }
        // What is shared may be written very often: it is paid for as it is written.
        let due = (self.out.len() - self.paid) / BYTES_A_FUEL;
        self.state.consume_fuel(due as u64 + 1)?;
        self.paid += due * BYTES_A_FUEL;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => self.out.push_str(&value.to_string()),
            ValueKind::Number => self.out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, level)?,
            ValueKind::Map => self.map(value, level)?,
            ValueKind::Undefined => return Err(invalid("tojson: an undefined value is not JSON".into())),
            kind @ (ValueKind::Bytes | ValueKind::Plain | ValueKind::Invalid | _) => {
                return Err(invalid(format!("tojson: a value of type {kind} is not JSON")));
            }
        }
        Ok(())
    }

    fn list(&mut self, list: &Value, level: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut any = false;
        for item in list.try_iter()?.checked() {
            self.item(&mut any, level + 1);
            self.value(&item?, level + 1)?;
        }
        self.close(']', any, level);
        Ok(())
    }

    fn map(&mut self, map: &Value, level: usize) -> Result<(), Error> {
        let mut keys = Vec::new();
        for key in map.try_iter()?.checked() {
            keys.push(key?);
        }
        if self.sorted {
            keys.sort();
        }
        self.out.push('{');
        let mut any = false;
        for key in keys {
            self.item(&mut any, level + 1);
            let name = if key.is_none() {
                "null".to_owned()
            } else if key.kind() == ValueKind::Bool {
                key.is_true().to_string()
            } else {
                key.to_string()
            };
            self.string(&name);
            self.out.push_str(&self.pair.1);
            self.value(&map.get_item(&key)?, level + 1)?;
        }
        self.close('}', any, level);
        Ok(())
    }

    fn item(&mut self, any: &mut bool, level: usize) {
        if std::mem::replace(any, true) {
            self.out.push_str(&self.pair.0);
        }
        self.line(level);
    }

    fn close(&mut self, bracket: char, any: bool, level: usize) {
        if any {
            self.line(level);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, level: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..level).for_each(|_| self.out.push_str(indent));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                control if control < ' ' => self.unit(control as u16),
                wide if self.ascii && !wide.is_ascii() => {
                    wide.encode_utf16(&mut [0; 2]).iter().for_each(|&unit| self.unit(unit));
                }
                plain => self.out.push(plain),
            }
        }
        self.out.push('"');
    }

    fn unit(&mut self, unit: u16) {
        self.out.push_str(&format!("\\u{unit:04x}"));
    }
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// A number as Python writes it: the shortest digits that mean it, with an exponent below 1e-4 and from 1e16 on.
fn float(number: f64) -> String {
    if !number.is_finite() {
        return (if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        })
        .to_owned();
    }
    let short = format!("{number:e}");
    let (digits, exponent) = short.split_once('e').unwrap_or((&short, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{number}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn numbers_are_spelled_as_python_does() {
        let check = |number: f64, expect: &str| assert_eq!(float(number), expect);
        check(1.0, "1.0");
        check(-0.0, "-0.0");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1e15, "1000000000000000.0");
        check(1e16, "1e+16");
        check(2.5e20, "2.5e+20");
        check(1e-4, "0.0001");
        check(1.5e-5, "1.5e-05");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
    }
}
