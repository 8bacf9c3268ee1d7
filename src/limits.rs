//! A bound of a queue, a pool or a buffer, as `--explain` prints it.

use std::fmt;

/// How much something holds at most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What it is.
    pub what: String,
    /// Entries at most.
    pub count: u64,
    /// What an entry is.
    pub of: &'static str,
    /// Bytes of all entries at most.
    pub bytes: u64,
}

impl Limit {
    pub(crate) fn new(what: impl Into<String>, (count, of): (u64, &'static str), each: u64) -> Self {
        Self { what: what.into(), count, of, bytes: count.saturating_mul(each) }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, count, of, bytes } = self;
        let (unit, size) = match *bytes {
            0..0x400 => ("B", 1.0),
            0x400..0x10_0000 => ("KiB", 1024.0),
            0x10_0000..0x4000_0000 => ("MiB", 1024.0 * 1024.0),
            _ => ("GiB", 1024.0 * 1024.0 * 1024.0),
        };
        let digits = usize::from(*bytes >= 0x400);
        write!(f, "{what}: {count} {of}, {:.digits$} {unit}", *bytes as f64 / size)
    }
}

#[cfg(test)]
mod tests {
    use super::Limit;

    #[test]
    fn limits_are_told_with_their_units() {
        let cases = [(8, 16, "8 orders, 128 B"), (256, 4096, "256 orders, 1.0 MiB"), (3, 1 << 29, "3 orders, 1.5 GiB")];
        for (count, each, expect) in cases {
            assert_eq!(Limit::new("x", (count, "orders"), each).to_string(), format!("x: {expect}"));
        }
    }
}
