//! Columns of numbers as one block of base64, the widest numbers first, so that each column lies at a multiple of its own width.

use serde_json::{Map, Value, json};

/// Columns of one page. A script finds each by its name, its kind and its place among the bytes.
#[derive(Default)]
pub(super) struct Columns {
    wide: Vec<(&'static str, Vec<f64>)>,
    whole: Vec<(&'static str, Vec<u32>)>,
    short: Vec<(&'static str, Vec<u16>)>,
}

impl Columns {
    /// A column of 64-bit numbers.
    pub(super) fn wide(&mut self, name: &'static str, values: Vec<f64>) {
        self.wide.push((name, values));
    }

    /// A column of 32-bit whole numbers.
    pub(super) fn whole(&mut self, name: &'static str, values: Vec<u32>) {
        self.whole.push((name, values));
    }

    /// A column of 16-bit whole numbers.
    pub(super) fn short(&mut self, name: &'static str, values: Vec<u16>) {
        self.short.push((name, values));
    }

    /// Where the columns lie, and all their bytes as base64.
    pub(super) fn finish(self) -> (Value, String) {
        let (mut bytes, mut index) = (vec![], Map::new());
        let mut enter = |name: &str, kind: &str, at: usize, length: usize| {
            index.insert(name.into(), json!([kind, at, length]));
        };
        for (name, values) in &self.wide {
            enter(name, "Float64Array", bytes.len(), values.len());
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        for (name, values) in &self.whole {
            enter(name, "Uint32Array", bytes.len(), values.len());
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        for (name, values) in &self.short {
            enter(name, "Uint16Array", bytes.len(), values.len());
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        (Value::Object(index), base64(&bytes))
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().enumerate().fold(0_u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= three.len() { letter.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (text, expect) in cases {
            assert_eq!(base64(text.as_bytes()), expect);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn every_column_lies_at_a_multiple_of_its_width() {
        let mut columns = Columns::default();
        columns.short("kind", vec![1, 2, 3]);
        columns.whole("step", vec![7]);
        columns.wide("start", vec![0.5, 2.0]);
        let (index, text) = columns.finish();
        let wanted =
            json!({"start": ["Float64Array", 0, 2], "step": ["Uint32Array", 16, 1], "kind": ["Uint16Array", 20, 3]});
        assert_eq!(index, wanted);
        assert_eq!(text.len(), 36);
    }
}
