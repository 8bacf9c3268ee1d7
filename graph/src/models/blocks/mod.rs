//! What model files are composed of: the frame of a decoder, and the parts of its layers. One concept a file.

mod attention;
mod decoder;
mod delta;
mod latent;
mod mlp;

pub use attention::{HeadNorms, Projections};
pub use decoder::{Decoder, Layer, Names};
pub use delta::DeltaRule;
pub use latent::LatentAttention;
