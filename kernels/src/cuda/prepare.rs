//! From the calls of a program to launches: which op's folder makes them.

use super::site::Site;
use crate::error::KernelError;
use crate::ops;
use graph::plan::{Access, Call, Operand, Place, Program};

/// Prompt rows of a tile: what all attention of a program takes at once.
pub(super) fn tile_rows(program: &Program) -> u32 {
    let tiles = program.calls.iter().filter_map(|call| {
        let Call::Attend { cache, head_dim, .. } = call else { return None };
        let dtype = program.caches.get(*cache as usize)?.dtype;
        ops::attend::cuda::tile_rows(*head_dim, dtype)
    });
    tiles.min().unwrap_or(64)
}

/// Forgets the choices that were listed, where a call writes over the gates they were made from.
fn forget(site: &mut Site<'_>, call: &Call) {
    let Some(gates) = site.chosen.as_ref().map(|chosen| *chosen.gates()) else { return };
    let most = u64::from(site.limits.rows_max.max(site.limits.sampled_max)) * 4;
    let overlaps = |written: &Operand| match (written.place, gates.place) {
        (Place::Scratch(a), Place::Scratch(b)) => {
            a < b + most * u64::from(gates.width) && b < a + most * u64::from(written.width)
        }
        (a, b) => a == b,
    };
    let mut is_over = false;
    call.visit(&mut |access, operand| is_over |= access == Access::Write && overlaps(operand));
    if is_over {
        site.chosen = None;
    }
}

/// Makes the launches of a call.
pub(super) fn call(site: &mut Site<'_>, call: &Call) -> Result<(), KernelError> {
    match call {
        Call::Gather { table, first, ids, y } => ops::gather::cuda::gather(site, *table, *first, ids, y),
        Call::Positions { table, y } => ops::gather::cuda::positions(site, *table, y),
        Call::Contract { x, parts } => ops::contract::cuda::contract(site, x, parts),
        Call::Bias { x, w, y } => ops::bias::cuda::bias(site, x, *w, y),
        Call::Norm { x, w, norm, y } => ops::norm::cuda::norm(site, x, *w, norm, y),
        Call::AddNorm { a, b, sum, w, norm, y } => ops::norm::cuda::add_norm(site, [a, b, sum], *w, norm, y),
        Call::Rope { x, head_dim, rope, y } => ops::rope::cuda::rope(site, x, *head_dim, rope, y),
        Call::Attend { q, k, v, y, cache, kv_heads, group, head_dim, sinks, how } => {
            let heads = ops::attend::cuda::Heads { kv_heads: *kv_heads, group: *group, head_dim: *head_dim };
            ops::attend::cuda::attend(site, [q, k, v, y], (*cache, *sinks), heads, how)
        }
        Call::Concat { a, a_run, b, b_run, y } => ops::runs::cuda::concat(site, [(a, *a_run), (b, *b_run)], y),
        Call::Gated { gate, up, f, y } => ops::gated::cuda::gated(site, gate, up, f, y),
        Call::Unary { x, f, y } => ops::unary::cuda::unary(site, x, f, y),
        Call::Binary { a, b, f, y } => ops::binary::cuda::binary(site, [a, b], *f, y),
        Call::Slice { x, block, from, run, y } => ops::slice::cuda::slice(site, x, [*block, *from, *run], y),
        Call::SampledRows { x, y } => ops::sampled_rows::cuda::sampled_rows(site, x, y),
        Call::Route { x, bias, choices, routing, first, y } => {
            ops::route::cuda::route(site, [x, y], *bias, (*choices, *first), routing)
        }
        Call::Experts { x, gates, choices, parts } => ops::experts::cuda::experts(site, x, (gates, *choices), parts),
        Call::ExpertBias { x, gates, choices, w, y } => ops::experts::cuda::bias(site, [x, y], (gates, *choices), *w),
        Call::Combine { x, gates, choices, w, y } => ops::experts::cuda::combine(site, x, (gates, *choices), *w, y),
        Call::Weigh { x, gates, choices, y } => ops::experts::cuda::weigh(site, x, (gates, *choices), y),
        Call::ContractEach { x, w, y } => ops::experts::cuda::contract_each(site, x, *w, y),
        Call::ShortConv { x, w, state, y } => ops::short_conv::cuda::short_conv(site, x, *w, *state, y),
        Call::Scan { q, k, v, dt, beta, a_log, skip, y, state, heads, group, key_dim, value_dim, how } => {
            let [heads, group, key_dim, value_dim] = [heads, group, key_dim, value_dim].map(|length| *length as usize);
            let heads = ops::scan::Heads { heads, group, key_dim, value_dim };
            let (a_log, skip, beta) = (*a_log, *skip, beta.as_ref());
            let operands = ops::scan::cuda::Operands { q, k, v, dt, beta, a_log, skip, y };
            ops::scan::cuda::scan(site, &operands, (*state, heads), *how)
        }
    }?;
    forget(site, call);
    Ok(())
}
