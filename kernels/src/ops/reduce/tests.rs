use super::*;
use crate::ops::samples::{bits, numbers};

#[test]
fn parts_are_added_in_their_order() {
    for len in [0, 1, 7, BLOCK, BLOCK + 3, 3 * BLOCK] {
        for count in 0..5 {
            let parts: Vec<Vec<f32>> = (0..count).map(|i| numbers(i as u64 + 1, len)).collect();
            let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
            let mut y = vec![7.0; len];
            sum(&parts, &mut y);
            assert_eq!(bits(&y), bits(&reference::sum(&parts, len)));
        }
    }
}
