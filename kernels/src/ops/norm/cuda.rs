//! Launches of norms.

use crate::cuda::arguments::{AddNorm, Norm as Arguments};
use crate::cuda::{Extent, Site, Wanted};
use crate::error::KernelError;
use graph::plan::{Operand, WeightId};
use graph::{DType, Norm, NormKind};

fn layer(norm: &Norm) -> i64 {
    match norm.kind {
        NormKind::Rms => 0,
        NormKind::Layer => 1,
    }
}

/// y = norm of each run of x.
pub(crate) fn norm(site: &mut Site<'_>, x: &Operand, w: WeightId, norm: &Norm, y: &Operand) -> Result<(), KernelError> {
    let (rows, elements) = (site.counted(x), site.weight(w).spec().n);
    let n = norm.run.unwrap_or(elements);
    let runs = x.width / n;
    let wanted = Wanted { kernel: "norm", typed: None, fixed: &[("LAYER", layer(norm))], numbers: &[("n", n)] };
    let variant = wanted.covering("BLOCK", n).ok_or_else(|| site.missing(DType::F32.name()))?;
    let arguments = Arguments {
        rows: rows.at,
        x: site.address(x),
        w: site.weight(w).address(),
        y: site.address(y),
        runs: runs as i32,
        turns: (elements / n) as i32,
        n: n as i32,
        eps: norm.eps,
        offset: norm.offset,
    };
    let blocks = Extent::Counted { each: runs, per: variant.constant("RUNS") as u32 };
    site.launches.push(variant, &arguments, rows.count, [blocks, Extent::Fixed(1), Extent::Fixed(1)])
}

/// sum = a + b, y = norm of the sum.
pub(crate) fn add_norm(
    site: &mut Site<'_>,
    [a, b, sum]: [&Operand; 3],
    w: WeightId,
    norm: &Norm,
    y: &Operand,
) -> Result<(), KernelError> {
    let (rows, n) = (site.counted(a), a.width);
    let wanted = Wanted { kernel: "add_norm", typed: None, fixed: &[("LAYER", layer(norm))], numbers: &[("n", n)] };
    let variant = wanted.covering("BLOCK", n).ok_or_else(|| site.missing(DType::F32.name()))?;
    let [a, b, sum, y] = [a, b, sum, y].map(|operand| site.address(operand));
    let w = site.weight(w).address();
    let arguments = AddNorm { rows: rows.at, a, b, sum, w, y, n: n as i32, eps: norm.eps, offset: norm.offset };
    site.launches.push(variant, &arguments, rows.count, [Extent::ONE_EACH, Extent::Fixed(1), Extent::Fixed(1)])
}
