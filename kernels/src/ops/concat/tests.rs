use super::*;
use crate::ops::samples::{bits, numbers};

#[test]
fn rows_stand_side_by_side() {
    for (rows, widths) in [(0, vec![3, 4]), (1, vec![1]), (5, vec![3, 0, 8]), (2, vec![])] {
        let parts: Vec<Vec<f32>> = widths.iter().map(|w| numbers(*w as u64 + 1, rows * w)).collect();
        let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
        let mut y = vec![0.0; rows * widths.iter().sum::<usize>()];
        columns(&parts, rows, &mut y);
        assert_eq!(bits(&y), bits(&reference::columns(&parts, rows)));
    }
}
