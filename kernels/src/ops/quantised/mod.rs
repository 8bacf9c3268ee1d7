//! Contractions with, and lookups in, weights that are quantised in blocks, on GPUs. On the cores they are formats of panels like any other
//! (`panel/blocks.rs`).

pub(crate) mod cuda;
