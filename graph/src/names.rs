//! How far two names are apart, for messages that say which known one is nearest.

/// Elements to insert, drop or change to make `a` of `b` (Levenshtein 1966). The work is the product of their lengths, so the caller
/// bounds them.
pub fn distance<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_fewest_edits() {
        let cases = [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("qwen2", "qwen3", 1), ("ab", "ba", 2)];
        for (a, b, wanted) in cases {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), wanted, "{a} {b}");
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), wanted, "{b} {a}");
        }
    }
}
