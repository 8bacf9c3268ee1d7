//! Numbers that only checkpoints have: floats of 8 and 4 bits, and what scales are written in.

use crate::checkpoint::{Bytes, Shard};
use half::{bf16, f16};

/// Positive values of a float of 4 bits (E2M1); the highest bit is the sign. Source: OCP Microscaling Formats 1.0, §5.3.3.
const FP4: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// The value of the low four bits of `code`.
pub(super) fn fp4(code: u8) -> f32 {
    let size = FP4[usize::from(code & 7)];
    if code & 8 == 0 { size } else { -size }
}

/// All values of a float of 8 bits, E4M3 without infinities: 0x7f and 0xff are not numbers. Source: OCP FP8, §5.
pub(super) static E4M3: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        values[code] = e4m3(code as u32);
        code += 1;
    }
    values
};

const fn e4m3(code: u32) -> f32 {
    let (sign, exponent, fraction) = (code >> 7 << 31, code >> 3 & 15, code & 7);
    let size = match (exponent, fraction) {
        (15, 7) => return f32::NAN,
        // Multiples of 2^-9.
        (0, fraction) => return f32::from_bits((fraction as f32 / 512.0).to_bits() | sign),
        (exponent, fraction) => (exponent + 120) << 23 | fraction << 20,
    };
    f32::from_bits(size | sign)
}

/// How a number is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    F32,
    F16,
    Bf16,
    /// See [`E4M3`].
    E4m3,
    /// A power of two alone: its exponent and 127. 255 is not a number.
    E8m0,
    I8,
}

impl Kind {
    /// The kind that a file spells so. Exponents are found as plain bytes too.
    pub(super) fn of(stored: &str) -> Option<Self> {
        Some(match stored {
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "F8_E4M3" => Self::E4m3,
            "F8_E8M0" | "U8" => Self::E8m0,
            "I8" => Self::I8,
            _ => return None,
        })
    }
}

/// Numbers of a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) bytes: Bytes,
    pub(super) kind: Kind,
}

impl Numbers {
    /// The number of an index, which the tensor has.
    pub(super) fn at(&self, files: &[Shard], index: usize) -> f32 {
        let bytes = self.bytes.of(files);
        match self.kind {
            Kind::F32 => f32::from_le_bytes(bytes.as_chunks().0[index]),
            Kind::F16 => f16::from_le_bytes(bytes.as_chunks().0[index]).to_f32(),
            Kind::Bf16 => bf16::from_le_bytes(bytes.as_chunks().0[index]).to_f32(),
            Kind::E4m3 => E4M3[usize::from(bytes[index])],
            Kind::E8m0 => e8m0(bytes[index]),
            Kind::I8 => f32::from(bytes[index].cast_signed()),
        }
    }
}

fn e8m0(code: u8) -> f32 {
    match code {
        // 2^-127, which has no exponent of its own in f32.
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        exponent => f32::from_bits(u32::from(exponent) << 23),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_have_the_values_of_their_standards() {
        let e4m3 = |code: u8| E4M3[usize::from(code)];
        assert_eq!([0x00, 0x01, 0x08, 0x38, 0x7e, 0xfe].map(e4m3), [0.0, 1.0 / 512.0, 1.0 / 64.0, 1.0, 448.0, -448.0]);
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan() && e4m3(0x80).to_bits() == (-0.0f32).to_bits());
        assert_eq!([1, 2, 7, 9, 15].map(fp4), [0.5, 1.0, 6.0, -0.5, -6.0]);
        assert_eq!([0, 1, 127, 130, 254].map(e8m0), [2f32.powi(-127), 2f32.powi(-126), 1.0, 8.0, 2f32.powi(127)]);
        assert!(e8m0(255).is_nan());
    }
}
