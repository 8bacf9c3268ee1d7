//! What an engine captures beside logits: edges by name, where their parts lie in a captured row, and all rows of one generation.

use super::{EngineBuilder, EngineError, Output};
use graph::names::distance;
use graph::{Edge, Model, ValueId};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::path::Path;

/// Names in a message that says what there is.
const NEAREST: usize = 5;
/// Characters of a name that are compared.
const NAME_CHARS: usize = 128;

/// Bytes that the rows of a step are captured in, where nobody says how many rows there are: 16 to 256 of them.
const CAPTURED_BYTES: usize = 64 << 20;

impl EngineBuilder {
    /// Captures edges beside logits: values of the graph by the checkpoint's module paths, `model.layers.3.self_attn.o_proj`, as
    /// [`graph::Model::edges`] lists them. In a name `*` stands for any text. Whole in any layout; told with the logits of a row, by
    /// position.
    pub fn capture_edges(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.edges.extend(names);
        self.capture_logits()
    }

    /// The edges asked for, as they were asked for.
    pub(crate) fn asked_edges(&self) -> &[String] {
        &self.edges
    }
}

/// The edges that an engine captures. A captured row is the logits, then the row of each value.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Captures {
    edges: Vec<Edge>,
    /// The values beside the logits, each once.
    values: Vec<ValueId>,
    /// Where each value begins in a captured row, the logits among them.
    starts: HashMap<ValueId, usize>,
    logits: usize,
    /// Elements of a captured row.
    width: usize,
}

impl Captures {
    /// The edges of `model` that are asked for, in the order in which they are computed. In a name `*` stands for any text.
    ///
    /// # Errors
    /// The names that no edge has.
    pub(crate) fn select(model: &Model, asked: &[String]) -> Result<Self, EngineError> {
        let (all, logits) = (if asked.is_empty() { vec![] } else { model.edges() }, model.logits() as usize);
        if let Some(name) = asked.iter().find(|name| !all.iter().any(|edge| fits(name, &edge.name))) {
            return Err(EngineError::Edge { asked: name.clone(), nearest: nearest(name, &all) });
        }
        let edges: Vec<Edge> = all.into_iter().filter(|edge| asked.iter().any(|name| fits(name, &edge.name))).collect();
        let (mut values, mut starts, mut width) = (vec![], HashMap::from([(model.output(), 0)]), logits);
        for part in edges.iter().flat_map(|edge| &edge.parts) {
            starts.entry(part.value).or_insert_with(|| {
                values.push(part.value);
                width += part.width();
                width - part.width()
            });
        }
        Ok(Self { edges, values, starts, logits, width })
    }

    /// The edges.
    pub(crate) fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The values that the plan captures beside the logits.
    pub(crate) fn values(&self) -> &[ValueId] {
        &self.values
    }

    /// Rows of a step where nobody says how many there are.
    pub(crate) fn step_rows(&self) -> u32 {
        (CAPTURED_BYTES / (self.width * size_of::<f32>()).max(1)).clamp(16, 256) as u32
    }

    /// The logits of a captured row, and its row of each edge.
    pub(super) fn split(&self, row: &[f32]) -> (Vec<f32>, Vec<Vec<f32>>) {
        let of = |edge: &Edge| {
            let mut whole = vec![0.0; edge.width as usize];
            for part in &edge.parts {
                part.place(&row[self.starts[&part.value]..][..part.width()], &mut whole);
            }
            whole
        };
        (row[..self.logits].to_vec(), self.edges.iter().map(of).collect())
    }
}

/// Whether a name is the one asked for, in which `*` stands for any text.
fn fits(asked: &str, name: &str) -> bool {
    let mut pieces = asked.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// The names nearest to the one asked for.
fn nearest(asked: &str, edges: &[Edge]) -> Vec<String> {
    let letters = |name: &str| name.chars().take(NAME_CHARS).collect::<Vec<char>>();
    let asked = letters(asked);
    let mut near: Vec<(usize, &String)> =
        edges.iter().map(|edge| (distance(&letters(&edge.name), &asked), &edge.name)).collect();
    near.sort();
    near.into_iter().take(NEAREST).map(|(_, name)| name.clone()).collect()
}

/// The rows of all edges of one generation that was asked for with [`super::Generation::capture`], from its first captured row on: with
/// [`crate::Capture::All`] a row for each position but that of the last token, which nothing is computed of.
#[derive(Clone, PartialEq, Debug)]
pub struct CapturedEdges {
    edges: Vec<Edge>,
    rows: Vec<Vec<f32>>,
    count: usize,
}

impl CapturedEdges {
    /// No rows yet, of the edges that [`super::Engine::edges`] names.
    pub fn new(edges: &[Edge]) -> Self {
        Self { edges: edges.to_vec(), rows: vec![vec![]; edges.len()], count: 0 }
    }

    /// Takes in what a stream told, in its order.
    pub fn take(&mut self, output: &Output) {
        let told = match output {
            Output::Prompt(row) => &row.edges,
            Output::Token(token) => &token.edges,
            Output::Ended(_) => return,
        };
        if !told.is_empty() {
            self.count += 1;
            self.rows.iter_mut().zip(told).for_each(|(rows, row)| rows.extend(row));
        }
    }

    /// Rows so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Each edge and its rows, one after the other, in the order in which they are computed.
    pub fn edges(&self) -> impl Iterator<Item = (&Edge, &[f32])> {
        self.edges.iter().zip(self.rows.iter().map(Vec::as_slice))
    }

    /// Writes a safetensors file: `[rows, width]` in f32 for each edge under its name, and `token_ids` `[rows]` in i64, the tokens that the
    /// rows were computed of.
    ///
    /// # Errors
    /// What the system says, or that these are not the tokens of all rows.
    pub fn write(&self, file: &Path, token_ids: &[u32], about: HashMap<String, String>) -> Result<(), std::io::Error> {
        if token_ids.len() != self.count {
            let why = format!("{} tokens are given for {} captured rows", token_ids.len(), self.count);
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why));
        }
        let ids: Vec<u8> = token_ids.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
        let rows: Vec<Vec<u8>> =
            self.rows.iter().map(|rows| rows.iter().flat_map(|element| element.to_le_bytes()).collect()).collect();
        let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes).expect("as many bytes as elements");
        let ids = ("token_ids", view(Dtype::I64, vec![self.count], ids.as_slice()));
        let tensors = self.edges.iter().zip(&rows).map(|(edge, bytes)| {
            (edge.name.as_str(), view(Dtype::F32, vec![self.count, edge.width as usize], bytes.as_slice()))
        });
        let bytes = safetensors::serialize(tensors.chain([ids]), Some(about)).map_err(std::io::Error::other)?;
        // Whole or not at all: a job that goes on writes the files of its unfinished lines again.
        let part = file.with_extension("part");
        std::fs::write(&part, bytes)?;
        std::fs::rename(&part, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (asked, name, wanted) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*", "a.b", true),
            ("a.*.c", "a.7.b.c", true),
            ("a.*.c", "a.c", false),
            ("*.c", "a.c.d", false),
            ("a*b*", "a.c.b", true),
            ("aa*aa", "aaa", false),
        ] {
            assert_eq!(fits(asked, name), wanted, "{asked} {name}");
        }
    }
}
