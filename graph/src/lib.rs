//! What a model computes and where its pieces go.
//!
//! A [`Model`] is a checked graph of ops over named axes. It knows no device, rank, batch, page or cache. Passes turn it, step
//! by step, into a [`plan::Plan`]: every actor, channel, buffer and byte of a run, as data.
//!
//! This crate knows nothing of threads, clocks, files or device handles.

pub mod axis;
pub mod builder;
pub mod config;
pub mod dtype;
pub mod edges;
pub mod error;
mod infer;
pub mod interpret;
pub mod model;
pub mod models;
pub mod names;
pub mod op;
pub mod plan;
pub mod rope;
pub mod routing;
pub mod stored;
pub mod text;
pub mod verify;

pub use axis::{Axis, AxisDef, Extent, ParamId, ValueId};
pub use builder::{Builder, Param, Value};
pub use config::{Activation, ConfigReader, Labels};
pub use dtype::{BLOCK, DType, WeightType};
pub use edges::{Edge, EdgePart};
pub use error::{ConfigFault, GraphError};
pub use model::{Draft, Model, Node, ParamDef, Section, entry_name};
pub use op::{Attention, Binary, Norm, NormKind, Op, Recurrence, Unary};
pub use rope::{Pairing, Rope, RopeScaling};
pub use routing::{Routing, Score};
pub use stored::{Stored, Strides};
