//! Plain loops.

use super::Run;

/// The kept run of every block.
pub(super) fn slice(x: &[f32], kept: Run) -> Vec<f32> {
    let inside = |at: usize| (kept.from..kept.from + kept.run).contains(&(at % kept.block));
    x.iter().enumerate().filter(|&(at, _)| inside(at)).map(|(_, x)| *x).collect()
}
