//! Launches of scans: chunks of the prompt rows of all spans, then steps of their generated rows.

use super::Heads;
use crate::cuda::arguments::{ScanPrompt, ScanSteps, Variant};
use crate::cuda::driver::Address;
use crate::cuda::{Count, Extent, Site, Wanted};
use crate::error::KernelError;
use graph::plan::{Operand, WeightId};
use graph::{DType, Recurrence};

/// The operands of a scan.
pub(crate) struct Operands<'a> {
    pub(crate) q: &'a Operand,
    pub(crate) k: &'a Operand,
    pub(crate) v: &'a Operand,
    pub(crate) dt: &'a Operand,
    pub(crate) beta: Option<&'a Operand>,
    pub(crate) a_log: WeightId,
    pub(crate) skip: Option<WeightId>,
    pub(crate) y: &'a Operand,
}

/// The least variant whose keys are as long.
fn variant(kernel: &'static str, heads: Heads, slot_len: i64, delta: i64) -> Option<&'static Variant> {
    let [keys, values] = [heads.key_dim, heads.value_dim].map(|length| length as u32);
    // Whether 16 divides a length is all that is asked of it.
    let slot = (slot_len % 16) as u32;
    let numbers = [("key_dim", keys), ("value_dim", values), ("slot_len", slot)];
    let wanted = Wanted { kernel, typed: None, fixed: &[("DELTA", delta)], numbers: &numbers };
    let long =
        |variant: &&'static Variant| variant.constant("KEY") + variant.constant("BLOCKS") * variant.constant("BLOCK_K");
    let variants = wanted.variants().into_iter().filter(|variant| long(variant) >= i64::from(keys));
    variants.min_by_key(long)
}

/// Brings the states on, and reads them for every row.
pub(crate) fn scan(
    site: &mut Site<'_>,
    operands: &Operands<'_>,
    (state, heads): (u32, Heads),
    how: Recurrence,
) -> Result<(), KernelError> {
    let (meta, (states, slot_len)) = (site.meta, site.state(state));
    let (delta, low, high) = match how {
        Recurrence::Selective { low, high } => (0, low, high.unwrap_or(f32::INFINITY)),
        Recurrence::Delta => (1, 0.0, 0.0),
    };
    let [q, k, v, dt, y] = [operands.q, operands.k, operands.v, operands.dt, operands.y].map(|x| site.address(x));
    // The selective recurrence reads no rates.
    let beta = operands.beta.map_or(dt, |beta| site.address(beta));
    let a_log = site.weight(operands.a_log).address();
    let skip = operands.skip.map_or(Address::NULL, |w| site.weight(w).address());
    let has_skip = i32::from(operands.skip.is_some());
    let [count, group, key_dim, value_dim] =
        [heads.heads, heads.group, heads.key_dim, heads.value_dim].map(|length| length as i32);
    let missing = || site.missing(DType::F32.name());
    let prompt = variant("scan_prompt", heads, slot_len, delta).ok_or_else(missing)?;
    let steps = variant("scan_steps", heads, slot_len, delta).ok_or_else(missing)?;
    let arguments = ScanPrompt {
        spans: meta.spans(),
        span_first_row: meta.span_first_row(),
        span_rows: meta.span_rows(),
        span_start: meta.span_start(),
        span_prompt: meta.span_prompt(),
        state_from: meta.state_from(),
        state_to: meta.state_to(),
        span_first_snap: meta.span_first_snap(),
        snap_end: meta.snap_end(),
        snap_slot: meta.snap_slot(),
        q,
        k,
        v,
        dt,
        beta,
        a_log,
        skip,
        y,
        states,
        slot_len,
        heads: count,
        group,
        key_dim,
        value_dim,
        has_skip,
        low,
        high,
    };
    let grid = |variant: &Variant| {
        let columns = Extent::columns(value_dim as u32, variant.constant("BLOCK_V") as u32);
        [Extent::ONE_EACH, Extent::Fixed((count * group) as u32), columns]
    };
    site.launches.push(prompt, &arguments, Count::PromptSpans, grid(prompt))?;
    let arguments = ScanSteps {
        spans: meta.spans(),
        span_first_row: meta.span_first_row(),
        span_rows: meta.span_rows(),
        span_start: meta.span_start(),
        span_prompt: meta.span_prompt(),
        state_from: meta.state_from(),
        state_to: meta.state_to(),
        q,
        k,
        v,
        dt,
        beta,
        a_log,
        skip,
        y,
        states,
        slot_len,
        heads: count,
        group,
        key_dim,
        value_dim,
        has_skip,
        low,
        high,
    };
    site.launches.push(steps, &arguments, Count::GeneratedSpans, grid(steps))
}
