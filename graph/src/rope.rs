//! Rotary position embedding: which angles a position turns by.
//!
//! Source: Su et al. 2021, arXiv:2104.09864.

use serde::{Deserialize, Serialize};

/// The rotation that an op applies to the last axis of its operand.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub theta: f32,
    /// How many leading elements of the axis are turned; even.
    pub dims: u32,
    /// How the series is stretched beyond the positions seen in training.
    pub scaling: RopeScaling,
    /// Which elements turn together.
    #[serde(default, skip_serializing_if = "Pairing::is_halves")]
    pub pairing: Pairing,
}

/// Which two elements of a head turn together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// `i` and `i + dims/2`, as most Hugging Face checkpoints have it.
    #[default]
    Halves,
    /// `2i` and `2i + 1`, as the paper has it.
    Neighbours,
}

impl Pairing {
    fn is_halves(&self) -> bool {
        *self == Self::Halves
    }
}

/// A stretching of the frequencies, by the name `rope_type` has in a checkpoint.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// None.
    Default,
    /// Positions divided by `factor` (Chen et al. 2023, arXiv:2306.15595).
    Linear {
        /// How many times longer the context becomes.
        factor: f32,
    },
    /// By parts, as Llama 3.1 has it: long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of the lowest frequencies.
        factor: f32,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f32,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f32,
        /// Positions seen in training.
        original: u32,
    },
    /// By parts with a temperature (Peng et al. 2023, arXiv:2309.00071, eq. 23 and §3.4).
    Yarn {
        /// Divisor of the lowest frequencies.
        factor: f32,
        /// Turns over `original` positions above which a frequency is kept.
        beta_fast: f32,
        /// Turns over `original` positions below which a frequency is divided.
        beta_slow: f32,
        /// Positions seen in training.
        original: u32,
        /// What the rotated vectors are multiplied by.
        attention_factor: f32,
        /// Whether the ramp begins and ends at whole pairs.
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        truncate: bool,
    },
    /// A divisor of each frequency, for short sequences and for long ones (Ding et al. 2024, arXiv:2402.13753).
    LongRope {
        /// Divisors for sequences of at most `original` positions.
        short: Vec<f32>,
        /// Divisors for longer ones.
        long: Vec<f32>,
        /// Positions seen in training.
        original: u32,
        /// What the rotated vectors are multiplied by.
        attention_factor: f32,
    },
}

fn yes() -> bool {
    true
}

fn is_yes(flag: &bool) -> bool {
    *flag
}

impl Rope {
    /// All of `dims` elements in halves, unscaled.
    pub fn plain(theta: f32, dims: u32) -> Self {
        Self { theta, dims, scaling: RopeScaling::Default, pairing: Pairing::Halves }
    }

    /// The same with another pairing.
    pub fn paired(self, pairing: Pairing) -> Self {
        Self { pairing, ..self }
    }

    /// The rotation for sequences of at most `length` positions: where a scaling has several forms, the one that serves this length is
    /// its only one.
    pub fn over(&self, length: u32) -> Self {
        let mut own = self.clone();
        if let RopeScaling::LongRope { short, long, original, .. } = &mut own.scaling {
            if length > *original {
                short.clone_from(long);
            } else {
                long.clone_from(short);
            }
        }
        own
    }

    /// Radians a position turns each pair by, `dims / 2` of them.
    pub fn frequencies(&self) -> Vec<f32> {
        let half = self.dims / 2;
        let plain = |i: u32| f64::from(self.theta).powf(-f64::from(2 * i) / f64::from(self.dims));
        (0..half).map(|i| self.scale(i, plain(i)) as f32).collect()
    }

    /// What the cosine and the sine are multiplied by.
    pub fn amplitude(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            RopeScaling::Default | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => 1.0,
        }
    }

    fn scale(&self, pair: u32, frequency: f64) -> f64 {
        let turn = 2.0 * std::f64::consts::PI;
        match self.scaling {
            RopeScaling::Default => frequency,
            RopeScaling::LongRope { ref short, .. } => {
                frequency / short.get(pair as usize).map_or(1.0, |&divisor| divisor.into())
            }
            RopeScaling::Linear { factor } => frequency / f64::from(factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                let (low, high) = (f64::from(low_freq_factor), f64::from(high_freq_factor));
                let turns = f64::from(original) * frequency / turn;
                if turns > high {
                    frequency
                } else if turns < low {
                    frequency / f64::from(factor)
                } else {
                    let kept = (turns - low) / (high - low);
                    frequency * (kept + (1.0 - kept) / f64::from(factor))
                }
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original, truncate, .. } => {
                // The pair whose wavelength makes `beta` turns over the training length.
                let pair_of = |beta: f32| {
                    let wave = f64::from(original) / (f64::from(beta) * turn);
                    f64::from(self.dims) * wave.ln() / (2.0 * f64::from(self.theta).ln())
                };
                let (mut first, mut last) = (pair_of(beta_fast), pair_of(beta_slow));
                if truncate {
                    (first, last) = (first.floor(), last.ceil());
                }
                let (first, last) = (first.max(0.0), last.min(f64::from(self.dims) - 1.0));
                let span = if last > first { last - first } else { 0.001 };
                let divided = ((f64::from(pair) - first) / span).clamp(0.0, 1.0);
                frequency * ((1.0 - divided) + divided / f64::from(factor))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: RopeScaling) -> Rope {
        Rope { scaling, ..Rope::plain(10000.0, 8) }
    }

    #[test]
    fn longrope_divides_by_the_list_that_serves_the_length() {
        let scaling = RopeScaling::LongRope {
            short: vec![1.0; 4],
            long: vec![2.0, 4.0, 8.0, 16.0],
            original: 64,
            attention_factor: 1.2,
        };
        let plain = rope(RopeScaling::Default).frequencies();
        assert_eq!(rope(scaling.clone()).over(64).frequencies(), plain);
        let long = rope(scaling).over(65);
        assert_eq!(long.amplitude(), 1.2);
        assert_eq!(long.frequencies()[3], plain[3] / 16.0);
        assert_eq!(long.over(10), long, "the choice is made once");
    }

    #[test]
    fn the_first_pair_turns_one_radian_a_position() {
        let f = rope(RopeScaling::Default).frequencies();
        assert_eq!(f.len(), 4);
        assert_eq!(f[0], 1.0);
        assert!((f[1] - 0.1).abs() < 1e-7, "{f:?}");
    }

    #[test]
    fn llama3_keeps_short_waves_and_divides_long_ones() {
        let scaling = RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original: 32 };
        let (plain, scaled) = (rope(RopeScaling::Default).frequencies(), rope(scaling).frequencies());
        assert_eq!(plain[0], scaled[0], "5.1 turns over 32 positions: kept");
        assert_eq!(plain[3] / 8.0, scaled[3], "0.005 turns: divided");
    }

    #[test]
    fn linear_divides_every_frequency() {
        let f = rope(RopeScaling::Linear { factor: 4.0 }).frequencies();
        assert_eq!(f[0], 0.25);
    }
}
