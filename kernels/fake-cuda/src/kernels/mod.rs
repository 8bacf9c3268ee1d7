//! The kernels, each a program of its grid: what `triton.py` of the op's folder says, in plain Rust.

mod attend;
mod columns;
mod contract;
mod draw;
mod experts;
mod norm;
mod quantised;
mod recurrent;
mod rope;

use crate::arguments::Arguments;

/// One program of a kernel: its place in the grid, and the grid.
pub(crate) type Program = fn(&Arguments<'_>, [usize; 3], [u32; 3]);

/// The kernel of this name.
pub(crate) fn by_name(name: &str) -> Option<Program> {
    Some(match name {
        "unary" => columns::unary,
        "gated" => columns::gated,
        "add" => columns::add,
        "multiply" => columns::multiply,
        "bias" => columns::bias,
        "gather" => columns::gather,
        "slice_blocks" => columns::slice_blocks,
        "concat" => columns::concat,
        "sampled_rows" => columns::sampled_rows,
        "norm" => norm::norm,
        "add_norm" => norm::add_norm,
        "angles" => rope::angles,
        "rope" => rope::rope,
        "contract" => contract::contract,
        "round_rows" => contract::round_rows,
        "survey_blocks" => draw::survey_blocks,
        "weigh_blocks" => draw::weigh_blocks,
        "draw" => draw::draw,
        "score" => draw::score,
        "route" => experts::route,
        "choose" => experts::choose,
        "count" => experts::count,
        "place" => experts::place,
        "experts" => experts::experts,
        "weigh" => experts::weigh,
        "expert_bias" => experts::expert_bias,
        "contract_each" => experts::contract_each,
        "contract_blocks" => quantised::contract_blocks,
        "gather_int4" => quantised::gather_int4,
        "gather_int8" => quantised::gather_int8,
        "convolve" => recurrent::convolve,
        "keep" => recurrent::keep,
        "scan_prompt" => recurrent::scan_prompt,
        "scan_steps" => recurrent::scan_steps,
        "append" => attend::append,
        "prompt" => attend::prompt,
        "generated" => attend::generated,
        "merge_splits" => attend::merge_splits,
        _ => return None,
    })
}
