//! y = several matrices side by side.
//!
//! Shapes: parts `[rows, w_i]`, y `[rows, Σ w_i]`. Bytes: 4 read, 4 written an element. Error: none. Source: a copy.

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

/// Puts the rows of each part beside each other. A part's width is its length over `rows`; the widths add up to that of `y`.
pub fn columns(parts: &[&[f32]], rows: usize, y: &mut [f32]) {
    assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), y.len(), "parts fill the result");
    if rows == 0 {
        return;
    }
    let width = y.len() / rows;
    let mut from = 0;
    for part in parts {
        let own = part.len() / rows;
        assert_eq!(own * rows, part.len(), "a part has whole rows");
        for row in 0..rows {
            y[row * width + from..][..own].copy_from_slice(&part[row * own..][..own]);
        }
        from += own;
    }
}
