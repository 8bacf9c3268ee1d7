use super::samples::{Rows, TYPES, rounded, spec, terms, weight};
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
        for dtype in TYPES {
            let k = terms(dtype, k, 1);
            let uses = [WeightUse::Table, WeightUse::Panels].into_iter();
            for used in uses.filter(|used| *used == WeightUse::Panels || dtype.plain().is_some()) {
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
        for dtype in [WeightType::F32, WeightType::Bf16, WeightType::F16] {
            for used in [WeightUse::Table, WeightUse::Panels] {
                let weight = Weight::load(&spec(2, 3, dtype, used), &source, &team(1)).expect("valid");
                let mut got = [0.0; 6];
                weight.copy_row(0, &mut got[..3]);
                weight.copy_row(1, &mut got[3..]);
                assert_eq!(got, values);
            }
        }
        let source = Shorts(from, 1, source.2);
        let vector = Weight::load(&spec(6, 1, WeightType::F32, WeightUse::Vector), &source, &team(2)).expect("valid");
        assert_eq!(vector.vector(), values);
    }
}

#[test]
fn what_cannot_be_loaded_is_named() {
    let rows = Rows { k: 2, values: vec![0.0; 4] };
    let load = |spec: &WeightSpec| Weight::load(spec, &rows, &team(1)).expect_err("refused").to_string();
    assert_eq!(load(&spec(2, 32, WeightType::Q8_0, WeightUse::Table)), "table: no kernel for q8_0 on cpu");
    assert_eq!(
        load(&spec(2, 33, WeightType::Q4_0, WeightUse::Panels)),
        "weight sample_2_33: terms beyond whole blocks of each part: wanted 0, got 1"
    );
    let integer = WeightSpec { integer: true, ..spec(2, 2, WeightType::F32, WeightUse::Panels) };
    assert_eq!(load(&integer), "integer arithmetic: no kernel for f32 on cpu");
    assert_eq!(load(&spec(4, 1, WeightType::Bf16, WeightUse::Vector)), "vector: no kernel for bf16 on cpu");
    assert_eq!(
        load(&spec(2, 2, WeightType::F32, WeightUse::Vector)),
        "weight sample_2_2: columns of a vector: wanted 1, got 2"
    );
}

#[test]
fn blocks_that_cannot_be_scaled_as_they_should_stay_finite() {
    let values: Vec<f32> = [[0.0; 32], [1e-30; 32], [1e6; 32]].concat();
    for dtype in [WeightType::Q8_0, WeightType::Q4_0] {
        let rows = Rows { k: 96, values: values.clone() };
        let weight = Weight::load(&spec(1, 96, dtype, WeightUse::Panels), &rows, &team(1)).expect("valid");
        let mut got = vec![f32::NAN; 96];
        weight.copy_row(0, &mut got);
        assert!(got[..64].iter().all(|value| *value == 0.0), "{got:?}");
        assert!(got[64..].iter().all(|value| value.is_finite() && *value > 4e5), "{got:?}");
    }
}
