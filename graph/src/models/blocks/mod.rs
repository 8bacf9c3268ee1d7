//! What model files are composed of: the frame of a decoder, and the parts of its layers. One concept a file.

mod attention;
mod decoder;
mod latent;
mod mlp;

pub(crate) use attention::{HeadNorms, Projections};
pub(crate) use decoder::{Decoder, Layer, Names};
pub(crate) use latent::LatentAttention;
