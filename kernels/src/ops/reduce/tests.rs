use super::*;
use crate::ops::samples::{bits, numbers};

#[test]
fn parts_are_added_in_a_tree() {
    for len in [0, 1, 7, BLOCK, BLOCK + 3, 3 * BLOCK] {
        for count in 0..10 {
            let parts: Vec<Vec<f32>> = (0..count).map(|i| numbers(i as u64 + 1, len)).collect();
            let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
            let mut y = vec![7.0; len];
            sum(&parts, &mut y);
            assert_eq!(bits(&y), bits(&reference::sum(&parts, len)));
        }
    }
}

#[test]
fn sums_of_halves_have_the_bits_of_the_whole() {
    let parts: Vec<Vec<f32>> = (0..8).map(|i| numbers(i + 1, BLOCK + 9)).collect();
    let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
    let added = |parts: &[&[f32]]| {
        let mut y = vec![0.0; BLOCK + 9];
        sum(parts, &mut y);
        y
    };
    let whole = added(&parts);
    for ranks in [1, 2, 4, 8] {
        let terms: Vec<Vec<f32>> = parts.chunks(8 / ranks).map(added).collect();
        let terms: Vec<&[f32]> = terms.iter().map(Vec::as_slice).collect();
        assert_eq!(bits(&added(&terms)), bits(&whole), "{ranks} ranks");
    }
}
