//! Launches of short convolutions: the results of all rows, then what each span leaves behind.

use crate::cuda::arguments::{Convolve, Keep};
use crate::cuda::{Count, Extent, Site};
use crate::error::KernelError;
use graph::plan::{Operand, WeightId};

/// y = each channel over its last rows; keeps the last rows of x.
pub(crate) fn short_conv(
    site: &mut Site<'_>,
    x: &Operand,
    w: WeightId,
    state: u32,
    y: &Operand,
) -> Result<(), KernelError> {
    let (meta, channels) = (site.meta, x.width);
    let taps = site.weight(w).spec().n / channels;
    let (states, slot_len) = site.state(state);
    let convolve = Convolve {
        rows: meta.rows(),
        row_span: meta.row_span(),
        span_first_row: meta.span_first_row(),
        state_from: meta.state_from(),
        x: site.address(x),
        w: site.weight(w).address(),
        y: site.address(y),
        states,
        slot_len,
        channels: channels as i32,
        taps: taps as i32,
    };
    let (variant, grid) = site.columns("convolve", ("channels", channels), &[])?;
    site.launches.push(variant, &convolve, Count::Rows, grid)?;
    let keep = Keep {
        spans: meta.spans(),
        snapshots: meta.snapshots(),
        span_first_row: meta.span_first_row(),
        span_rows: meta.span_rows(),
        span_start: meta.span_start(),
        state_from: meta.state_from(),
        state_to: meta.state_to(),
        snap_span: meta.snap_span(),
        snap_end: meta.snap_end(),
        snap_slot: meta.snap_slot(),
        x: site.address(x),
        states,
        slot_len,
        channels: channels as i32,
        taps: taps as i32,
    };
    let (variant, [_, columns, one]) = site.columns("keep", ("channels", channels), &[])?;
    site.launches.push(variant, &keep, Count::Kept, [Extent::ONE_EACH, columns, one])
}
