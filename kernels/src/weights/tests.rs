use super::samples::{Rows, rounded, spec, weight};
use super::*;
use crate::ops::samples::{bits, team};

/// Rows of two-byte elements, as they lie in a checkpoint.
struct Shorts(DType, usize, Vec<u16>);

impl RowSource for Shorts {
    fn dtype(&self) -> DType {
        self.0
    }

    fn copy_row(&self, row: usize, into: &mut [u8]) {
        for (bytes, value) in into.chunks_exact_mut(2).zip(&self.2[row * self.1..]) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }
}

#[test]
fn every_layout_gives_back_the_rounded_rows() {
    for (n, k) in [(1, 1), (16, 8), (17, 3), (47, 65)] {
        for dtype in [DType::F32, DType::Bf16, DType::F16] {
            for used in [WeightUse::Table, WeightUse::Panels] {
                let (weight, wanted) = (weight(n, k, dtype, used), rounded(n, k, dtype));
                for row in 0..n {
                    let mut got = vec![0.0; k];
                    weight.copy_row(row, &mut got);
                    assert_eq!(bits(&got), bits(&wanted[row * k..][..k]));
                }
            }
        }
    }
}

#[test]
fn narrow_sources_keep_their_values_in_every_type_that_holds_them() {
    let values = [1.5f32, -0.25, 3.0, 0.0, 96.0, -2.0];
    for from in [DType::Bf16, DType::F16] {
        let round = |v: f32| if from == DType::Bf16 { bf16::from_f32(v).to_bits() } else { f16::from_f32(v).to_bits() };
        let source = Shorts(from, 3, values.iter().map(|&v| round(v)).collect());
        for dtype in [DType::F32, DType::Bf16, DType::F16] {
            for used in [WeightUse::Table, WeightUse::Panels] {
                let weight = Weight::load(&spec(2, 3, dtype, used), &source, &team(1)).expect("valid");
                let mut got = [0.0; 6];
                weight.copy_row(0, &mut got[..3]);
                weight.copy_row(1, &mut got[3..]);
                assert_eq!(got, values);
            }
        }
        let source = Shorts(from, 1, source.2);
        let vector = Weight::load(&spec(6, 1, DType::F32, WeightUse::Vector), &source, &team(2)).expect("valid");
        assert_eq!(vector.vector(), values);
    }
}

#[test]
fn what_cannot_be_loaded_is_named() {
    let rows = Rows { k: 2, values: vec![0.0; 4] };
    let load = |spec: &WeightSpec| Weight::load(spec, &rows, &team(1)).expect_err("refused").to_string();
    assert_eq!(load(&spec(2, 2, DType::U32, WeightUse::Table)), "weight: no kernel for u32 on cpu");
    assert_eq!(load(&spec(4, 1, DType::Bf16, WeightUse::Vector)), "vector: no kernel for bf16 on cpu");
    assert_eq!(
        load(&spec(2, 2, DType::F32, WeightUse::Vector)),
        "weight sample_2_2: columns of a vector: wanted 1, got 2"
    );
}
