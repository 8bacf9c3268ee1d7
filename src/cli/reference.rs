//! `parity --reference`: values inside the model against those of another implementation, in the order in which they are computed.
//!
//! The file is a safetensors file with `token_ids` `[rows]` and, under the path of a module, what it gave: `[rows, width]` in f32.
//! `tools/dump_reference.py` makes one of a transformers model, `run --capture` of this one.

use super::tell::tell;
use super::{Failure, args, parity};
use crate::Capture;
use crate::engine::{CapturedEdges, Ended, Engine, Generation, Output};
use actors::trace::Trace;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Names that are listed of those that are not compared.
const LISTED: usize = 8;

/// What another implementation computed.
struct Reference {
    token_ids: Vec<u32>,
    /// Rows of each edge, one after the other.
    edges: BTreeMap<String, Vec<f32>>,
}

/// One edge beside its reference.
struct Compared {
    name: String,
    /// Whether other edges lie inside it, or it is what all of the model gives: what is wrong before it and not here is no error.
    is_joint: bool,
    /// The largest difference, and the largest element of the reference.
    largest: f32,
    scale: f32,
    /// The first difference past the tolerance: position, element, wanted, got.
    differs: Option<(usize, usize, f32, f32)>,
}

/// Compares every edge that both have, and names the first that differs.
pub(super) fn compare(args: &args::Parity, file: &Path, trace: &Trace) -> Result<(), Failure> {
    let reference = read(file)?;
    let builder = args.deploy.builder()?.trace(trace);
    let (known, rows) = (builder.architecture()?.model.edges(), reference.token_ids.len());
    let has =
        |edge: &graph::Edge| reference.edges.get(&edge.name).is_some_and(|r| r.len() == rows * edge.width as usize);
    let inside = |name: &str| known.iter().any(|edge| edge.name.strip_prefix(name).is_some_and(|n| n.starts_with('.')));
    let joints: Vec<bool> = known.iter().map(|edge| edge.name == "logits" || inside(&edge.name)).collect();
    let (common, missing): (Vec<_>, Vec<_>) = known.iter().zip(joints).partition(|(edge, _)| has(edge));
    if common.is_empty() {
        let why = "it has no tensor [rows, width] under the name of an edge of this model".into();
        return Err(Failure::Reference { what: file.display().to_string(), why });
    }
    let names = common.iter().map(|(edge, _)| edge.name.clone());
    let checkpoint = builder.checkpoint().clone();
    let engine = builder.capture_edges(names).build()?;
    let tolerance = args.tolerance.unwrap_or(if parity::rounds(&engine, &checkpoint) { 0.15 } else { 2e-4 });
    let captured = capture(&engine, &reference.token_ids)?;
    let edges: Vec<Compared> = captured
        .edges()
        .zip(&common)
        .map(|((edge, got), (_, is_joint))| {
            beside(&edge.name, *is_joint, (got, &reference.edges[&edge.name]), edge.width as usize, tolerance)
        })
        .collect();
    let agreed = edges.iter().rposition(|edge| edge.is_joint && edge.differs.is_none()).map_or(0, |at| at + 1);
    let first = edges[agreed..].iter().find(|edge| edge.differs.is_some());
    let missing: Vec<&str> = missing.iter().map(|(edge, _)| edge.name.as_str()).collect();
    if args.json {
        tell!("{}", figures(&edges, first, &missing, tolerance));
    } else {
        say(&edges[..agreed], &edges, first, &missing, tolerance);
    }
    match first {
        None => Ok(()),
        Some(edge) => Err(Failure::Check(format!("the first edge that differs from its reference is {}", edge.name))),
    }
}

/// The rows of all edges over these tokens.
fn capture(engine: &Engine, token_ids: &[u32]) -> Result<CapturedEdges, Failure> {
    let (capture, ignore_eos) = (Capture::All, true);
    let generation = Generation { capture, ignore_eos, ..Generation::greedy(token_ids.to_vec(), 1) };
    let mut captured = CapturedEdges::new(engine.edges());
    for output in engine.submit(generation) {
        captured.take(&output);
        if let Output::Ended(Ended::Failed(failure)) = output {
            return Err(Failure::Reference { what: "parity".into(), why: failure.to_string() });
        }
    }
    Ok(captured)
}

fn beside(name: &str, is_joint: bool, (got, wanted): (&[f32], &[f32]), width: usize, tolerance: f32) -> Compared {
    let scale = wanted.iter().fold(0.0f32, |most, element| most.max(element.abs()));
    let (mut largest, mut differs) = (0.0f32, None);
    for (at, (&got, &wanted)) in got.iter().zip(wanted).enumerate() {
        let error = (got - wanted).abs();
        // A NaN is past every tolerance.
        if error.is_nan() || error > tolerance * scale.max(1.0) {
            differs.get_or_insert((at / width, at % width, wanted, got));
        }
        largest = largest.max(error);
    }
    Compared { name: name.into(), is_joint, largest, scale, differs }
}

fn say(agreed: &[Compared], edges: &[Compared], first: Option<&Compared>, missing: &[&str], tolerance: f32) {
    let differing = edges.iter().filter(|edge| edge.differs.is_some()).count();
    tell!("{} edges compared, {differing} of them differ", edges.len());
    for Compared { name, largest, .. } in agreed.iter().filter(|edge| edge.differs.is_some()) {
        tell!(
            "  {name} differs by {largest:.2e}, but what is computed of it agrees: the reference means another value by it"
        );
    }
    if !missing.is_empty() {
        let more = if missing.len() > LISTED { ", …" } else { "" };
        let listed = missing[..missing.len().min(LISTED)].join(", ");
        tell!("  not in the reference, or of another shape: {listed}{more}");
    }
    if let Some(Compared { name, largest, scale, differs: Some((position, element, wanted, got)), .. }) = first {
        tell!("first diverging edge: {name}");
        tell!("  largest error {largest:.2e}, where the largest element is {scale:.2e}");
        tell!("  first at position {position}, element {element}: wanted {wanted}, got {got}");
    }
    tell!("tolerance {tolerance:.1e}: {}", if first.is_some() { "failed" } else { "passed" });
}

fn figures(edges: &[Compared], first: Option<&Compared>, missing: &[&str], tolerance: f32) -> Value {
    let edge = |edge: &Compared| {
        json!({"edge": edge.name, "largest_error": edge.largest, "largest_element": edge.scale,
            "differs": edge.differs.is_some()})
    };
    let first = first.and_then(|edge| {
        let (position, element, wanted, got) = edge.differs?;
        Some(json!({"edge": edge.name, "largest_error": edge.largest, "position": position, "element": element,
            "wanted": wanted, "got": got}))
    });
    let edges: Vec<Value> = edges.iter().map(edge).collect();
    json!({"tolerance": tolerance, "passed": first.is_none(), "first": first, "edges": edges, "not_compared": missing})
}

fn read(file: &Path) -> Result<Reference, Failure> {
    let bad = |why: String| Failure::Reference { what: file.display().to_string(), why };
    let bytes = std::fs::read(file).map_err(Failure::io(file.display()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
    let ids = tensors.tensor("token_ids").map_err(|error| bad(error.to_string()))?;
    if ids.dtype() != Dtype::I64 || ids.shape().len() != 1 || ids.shape()[0] == 0 {
        return Err(bad(format!("token_ids: wanted i64 [rows], got {:?} {:?}", ids.dtype(), ids.shape())));
    }
    let id = |bytes: &[u8; 8]| u32::try_from(i64::from_le_bytes(*bytes)).ok();
    let token_ids = ids.data().as_chunks::<8>().0.iter().map(id).collect::<Option<Vec<u32>>>();
    let token_ids = token_ids.ok_or_else(|| bad("token_ids holds what is no token id".into()))?;
    let rows = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let is_rows = view.dtype() == Dtype::F32 && view.shape().len() == 2 && view.shape()[0] == token_ids.len();
        let elements = || view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        is_rows.then(|| (name, elements()))
    };
    let edges = tensors.tensors().into_iter().filter_map(rows).collect();
    Ok(Reference { token_ids, edges })
}
