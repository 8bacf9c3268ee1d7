//! Linear recurrences over a sequence: the selective state space of Mamba-2 and the gated delta rule, in chunks for prompt rows, step by
//! step for generated ones.
//!
//! Shapes: q, k `[rows, heads, key_dim]`, v, y `[rows, heads, group, value_dim]`, dt (and beta) `[rows, heads, group]`, a_log (and skip)
//! `[heads, group]`. State S of a head of values: `[key_dim, value_dim]`.
//! Maths, with δ = softplus(dt) held within limits and the decay α = e^(-e^a_log δ):
//! - selective: u_t = δ_t v_t; S_t = α_t S_(t-1) + k_t u_tᵀ; y_t = q_tᵀ S_t + skip v_t.
//! - delta: k and q brought to length 1 (x/√(Σx² + 1e-6)), q divided by √key_dim; u_t = σ(beta_t)(v_t - α_t k_tᵀ S_(t-1));
//!   S_t = α_t S_(t-1) + k_t u_tᵀ; y_t = q_tᵀ S_t.
//!
//! Two forms that differ in bits, chosen by what a row is. Generated rows take the steps above. Prompt rows are taken in chunks of 16
//! by absolute position: with c_t the sum of log α since the chunk's border, in order,
//! y_t = e^(c_t) q_tᵀ S + Σ_(s≤t) e^(c_t - c_s)(q_t·k_s) u_s, s in order (and likewise for u_t of the delta rule, s < t), and at the
//! chunk's end, or the prompt's, S' = e^(c_n) S + Σ_s e^(c_n - c_s) k_s u_sᵀ, s in order. A state between borders is S at the last border
//! and the rows k_s, u_s, log α_s since; so a row's bits depend on its chunk's rows up to itself and on S, not on how the prompt was cut.
//!
//! Bytes: a state is read and written once a chunk, and once a generated row. Error: within 2e-5 of the recurrence in f64, relative to
//! the largest result. Source: Dao & Gu 2024, arXiv:2405.21060, §6; Yang et al. 2024, arXiv:2412.06464, §3.

mod chunk;
mod cpu;
pub(crate) mod cuda;
mod desk;
#[cfg(test)]
mod reference;
mod single;
#[cfg(test)]
mod tests;

pub(crate) use cpu::{Heads, Operands, Room, run};

/// Rows of a chunk: a page, so that every page border is a chunk border.
const CHUNK: usize = graph::plan::PAGE_ROWS as usize;
const _: () = assert!(CHUNK == 16, "the rows of a chunk are two vectors of eight lanes");
