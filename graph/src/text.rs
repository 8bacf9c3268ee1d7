//! The text form of a graph: printed by [`print`], read by [`parse`]. Golden tests compare it; people debug with it.
//!
//! ```text
//! axis hidden = 4
//! param norm.weight [hidden]
//! layer 0
//!   %2 = rms_norm %1 norm.weight eps=0.000001 : [rows, hidden]
//! output %5
//! ```

use crate::axis::{Axis, AxisDef, Extent, ParamId, ValueId};
use crate::error::GraphError;
use crate::model::{Draft, Node, ParamDef, Section};
use crate::op::{Attention, Binary, Norm, NormKind, Op, Unary};
use crate::rope::Rope;
use crate::routing::Routing;
use crate::stored::Stored;
use std::fmt::Write;

/// The text of `draft`.
pub fn print(draft: &Draft) -> String {
    let mut text = String::new();
    let mut line = |s: String| writeln!(text, "{s}").expect("a String takes any text");
    for axis in &draft.axes[1..] {
        if let Extent::Fixed(length) = axis.extent {
            line(format!("axis {} = {length}", axis.name));
        }
    }
    for param in &draft.params {
        line(format!("param {} [{}]{}", param.name, draft.names(&param.axes), stored_text(draft, param)));
    }
    let mut section = None;
    for (number, node) in draft.nodes.iter().enumerate() {
        if section != Some(node.section) {
            section = Some(node.section);
            line(node.section.to_string());
        }
        line(format!("  %{number} = {} : [{}]", op_text(draft, &node.op), draft.names(&node.axes)));
    }
    line(format!("output %{}", draft.output.0));
    text
}

/// Nothing for a weight stored as it is read, else the tensor's dimensions: `stored [hidden, (kv_heads head_dim|>kv_heads head_dim)]`.
fn stored_text(draft: &Draft, param: &ParamDef) -> String {
    if param.is_plain() {
        return String::new();
    }
    let run = |axes: &[Axis]| draft.names(axes).replace(", ", " ");
    let dim = |dim: &Stored| match dim {
        Stored::Axis(axis) => run(&[*axis]),
        Stored::Joined { parts, part } => {
            let mark = |which| if which == *part { ">" } else { "" };
            let parts: Vec<String> =
                parts.iter().enumerate().map(|(i, axes)| mark(i).to_string() + &run(axes)).collect();
            format!("({})", parts.join("|"))
        }
    };
    format!(" stored [{}]", param.stored.iter().map(dim).collect::<Vec<_>>().join(", "))
}

fn op_text(draft: &Draft, op: &Op) -> String {
    let mut text = op.name().to_string();
    for v in op.operands() {
        write!(text, " %{}", v.0).expect("a String takes any text");
    }
    for p in op.params() {
        let name = &draft.params[p.index()].name;
        let nth = draft.params[..p.index()].iter().filter(|other| other.name == *name).count() + 1;
        let place = if nth > 1 { format!("#{nth}") } else { String::new() };
        write!(text, " {name}{place}").expect("a String takes any text");
    }
    match op {
        Op::Norm { norm, .. } => {
            let offset = if norm.offset == 0.0 { String::new() } else { format!(" offset={}", norm.offset) };
            let run = norm.run.map(|run| format!(" run={run}")).unwrap_or_default();
            text + &format!(" eps={}{offset}{run}", norm.eps)
        }
        Op::Attend { how, .. } => {
            let optional = |name, value: Option<String>| value.map(|v| format!(" {name}={v}")).unwrap_or_default();
            let window = optional("window", how.window.map(|w| w.to_string()));
            let softcap = optional("softcap", how.softcap.map(|c| c.to_string()));
            text + &format!(" scale={}{window}{softcap}", how.scale)
        }
        Op::Unary(Unary::Scale(by), _) => text + &format!(" by={by}"),
        Op::Unary(Unary::Softcap(cap), _) => text + &format!(" cap={cap}"),
        Op::Unary(Unary::ClampedSwish { alpha, limit }, _) => text + &format!(" alpha={alpha} limit={limit}"),
        Op::Unary(Unary::ClampedPlusOne(limit), _) => text + &format!(" limit={limit}"),
        Op::Rope { rope, .. } => text + " " + &serde_json::to_string(rope).expect("numbers and names only"),
        Op::Scan { how, .. } => text + " " + &serde_json::to_string(how).expect("numbers and names only"),
        Op::Route { choices, routing, .. } => {
            let routing = serde_json::to_string(routing).expect("numbers and names only");
            text + &format!(" choices={} {routing}", draft.names(&[*choices]))
        }
        Op::Concat { axis, .. } | Op::Prefix { axis, .. } => text + &format!(" axis={}", draft.names(&[*axis])),
        Op::Tokens
        | Op::ContractEach { .. }
        | Op::Gather { .. }
        | Op::Positions { .. }
        | Op::Contract { .. }
        | Op::Bias { .. }
        | Op::ShortConv { .. }
        | Op::Experts { .. }
        | Op::ExpertBias { .. }
        | Op::Combine { .. }
        | Op::Weigh { .. }
        | Op::Unary(..)
        | Op::Binary(..)
        | Op::SampledRows(_) => text,
    }
}

/// Reads what [`print`] writes. Blank lines and lines that begin with `#` are passed over.
///
/// # Errors
/// The first line that cannot be read. The draft is not checked: see [`crate::Model::check`].
pub fn parse(text: &str) -> Result<Draft, GraphError> {
    let rows = AxisDef { name: "rows".into(), extent: Extent::Rows };
    let draft = Draft { axes: vec![rows], params: vec![], nodes: vec![], output: ValueId(0) };
    let mut parser = Parser { draft, section: Section::Embed };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        parser.line(line).map_err(|what| {
            let text = line.chars().take(80).collect();
            GraphError::Text { line: number + 1, what, text }
        })?;
    }
    Ok(parser.draft)
}

struct Parser {
    draft: Draft,
    section: Section,
}

type Read<T> = Result<T, &'static str>;

impl Parser {
    fn line(&mut self, line: &str) -> Read<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "axis" => {
                let (name, length) = rest.split_once(" = ").ok_or("an axis reads `axis NAME = LENGTH`")?;
                let length = length.parse().map_err(|_| "the length of an axis is a number")?;
                self.draft.axes.push(AxisDef { name: name.into(), extent: Extent::Fixed(length) });
            }
            "param" => {
                let (name, axes) = rest.split_once(' ').ok_or("a weight reads `param NAME [AXES]`")?;
                let (axes, stored) = axes.split_once(" stored ").map_or((axes, None), |(a, s)| (a, Some(s)));
                let mut param = ParamDef::new(name, &self.axes(axes)?);
                if let Some(stored) = stored {
                    param.stored = self.stored(stored)?;
                }
                self.draft.params.push(param);
            }
            "embed" => self.section = Section::Embed,
            "layer" => self.section = Section::Layer(rest.parse().map_err(|_| "a layer has a number")?),
            "head" => self.section = Section::Head,
            "output" => self.draft.output = value(rest)?,
            _ if word.starts_with('%') => self.node(line)?,
            _ => return Err("a line begins with axis, param, embed, layer, head, output or %"),
        }
        Ok(())
    }

    fn node(&mut self, line: &str) -> Read<()> {
        let (number, rest) = line.split_once(" = ").ok_or("a node reads `%N = OP … : [AXES]`")?;
        if value(number)?.index() != self.draft.nodes.len() {
            return Err("nodes are numbered from 0, without a gap");
        }
        let (op, axes) = rest.rsplit_once(" : ").ok_or("a node ends in `: [AXES]`")?;
        let (op, axes) = (self.op(op)?, self.axes(axes)?);
        self.draft.nodes.push(Node { op, axes, section: self.section });
        Ok(())
    }

    fn op(&self, text: &str) -> Read<Op> {
        let words: Vec<&str> = text.split(' ').collect();
        let v = |i: usize| words.get(i).ok_or("an operand is missing").and_then(|w| value(w));
        let p = |i: usize| words.get(i).ok_or("a weight is missing").and_then(|w| self.param(w));
        Ok(match words[0] {
            "tokens" => Op::Tokens,
            "positions" => Op::Positions { table: p(1)? },
            "gather" => Op::Gather { ids: v(1)?, table: p(2)? },
            "contract" => Op::Contract { x: v(1)?, w: p(2)? },
            "bias" => Op::Bias { x: v(1)?, w: p(2)? },
            "rms_norm" => Op::Norm { x: v(1)?, w: p(2)?, norm: norm(&words, NormKind::Rms)? },
            "layer_norm" => Op::Norm { x: v(1)?, w: p(2)?, norm: norm(&words, NormKind::Layer)? },
            "rope" => {
                let at = text.find('{').ok_or("rope ends in its angles as JSON")?;
                let rope: Rope = serde_json::from_str(&text[at..]).map_err(|_| "the angles of rope cannot be read")?;
                Op::Rope { x: v(1)?, rope }
            }
            "attend" => {
                let how = Attention {
                    scale: constant(&words, "scale=")?,
                    window: optional(&words, "window=")?,
                    softcap: optional(&words, "softcap=")?,
                };
                let sinks = words.get(4).filter(|w| !w.contains('=')).map(|w| self.param(w)).transpose()?;
                Op::Attend { q: v(1)?, k: v(2)?, v: v(3)?, sinks, how }
            }
            "short_conv" => Op::ShortConv { x: v(1)?, w: p(2)? },
            "scan" => {
                let json = words.last().ok_or("scan ends in its recurrence as JSON")?;
                let how = serde_json::from_str(json).map_err(|_| "the recurrence of a scan cannot be read")?;
                let beta = v(5).ok();
                let first = 5 + usize::from(beta.is_some());
                let skip = if words.len() > first + 2 { Some(p(first + 1)?) } else { None };
                Op::Scan { q: v(1)?, k: v(2)?, v: v(3)?, dt: v(4)?, beta, a_log: p(first)?, skip, how }
            }
            "route" => {
                let at = text.find('{').ok_or("route ends in its routing as JSON")?;
                let routing: Routing =
                    serde_json::from_str(&text[at..]).map_err(|_| "the routing of route cannot be read")?;
                let bias = words.get(2).filter(|w| !w.starts_with("choices=")).map(|w| self.param(w)).transpose()?;
                Op::Route { x: v(1)?, bias, choices: self.named(&words, "choices=")?, routing }
            }
            "contract_each" => Op::ContractEach { x: v(1)?, w: p(2)? },
            "concat" => Op::Concat { a: v(1)?, b: v(2)?, axis: self.named(&words, "axis=")? },
            "prefix" => Op::Prefix { x: v(1)?, axis: self.named(&words, "axis=")? },
            "experts" => Op::Experts { x: v(1)?, gates: v(2)?, w: p(3)? },
            "expert_bias" => Op::ExpertBias { x: v(1)?, gates: v(2)?, w: p(3)? },
            "weigh" => Op::Weigh { x: v(1)?, gates: v(2)? },
            "combine" => Op::Combine { x: v(1)?, gates: v(2)?, w: p(3)? },
            "silu" => Op::Unary(Unary::Silu, v(1)?),
            "gelu" => Op::Unary(Unary::Gelu, v(1)?),
            "gelu_tanh" => Op::Unary(Unary::GeluTanh, v(1)?),
            "relu" => Op::Unary(Unary::Relu, v(1)?),
            "relu2" => Op::Unary(Unary::Relu2, v(1)?),
            "sigmoid" => Op::Unary(Unary::Sigmoid, v(1)?),
            "scale" => Op::Unary(Unary::Scale(constant(&words, "by=")?), v(1)?),
            "clamped_swish" => {
                let (alpha, limit) = (constant(&words, "alpha=")?, constant(&words, "limit=")?);
                Op::Unary(Unary::ClampedSwish { alpha, limit }, v(1)?)
            }
            "clamped_plus_one" => Op::Unary(Unary::ClampedPlusOne(constant(&words, "limit=")?), v(1)?),
            "softcap" => Op::Unary(Unary::Softcap(constant(&words, "cap=")?), v(1)?),
            "add" => Op::Binary(Binary::Add, v(1)?, v(2)?),
            "mul" => Op::Binary(Binary::Mul, v(1)?, v(2)?),
            "sampled_rows" => Op::SampledRows(v(1)?),
            _ => return Err("no op has this name"),
        })
    }

    /// A weight by its name, with `#2` behind it where it is the second of that name.
    fn param(&self, text: &str) -> Read<ParamId> {
        let (name, nth) = match text.rsplit_once('#') {
            Some((name, nth)) => (name, nth.parse().map_err(|_| "the place of a weight among its like is a number")?),
            None => (text, 1usize),
        };
        let mut like = self.draft.params.iter().enumerate().filter(|(_, p)| p.name == name);
        let (at, _) = like.nth(nth.saturating_sub(1)).ok_or("no weight has this name")?;
        Ok(ParamId(at as u32))
    }

    fn stored(&self, text: &str) -> Read<Vec<Stored>> {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or("dimensions stand in brackets")?;
        let run = |axes: &str| self.axes(&format!("[{}]", axes.replace(' ', ", ")));
        let dim = |text: &str| match text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
            None => match run(text)?[..] {
                [axis] => Ok(Stored::Axis(axis)),
                _ => Err("a stored dimension is an axis, or parts in parentheses"),
            },
            Some(parts) => {
                let part = parts.split('|').position(|part| part.starts_with('>')).ok_or("no part is marked by >")?;
                let parts = parts.split('|').map(|part| run(part.trim_start_matches('>'))).collect::<Read<_>>()?;
                Ok(Stored::Joined { parts, part })
            }
        };
        inner.split(", ").map(dim).collect()
    }

    fn axes(&self, text: &str) -> Read<Vec<Axis>> {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or("axes stand in brackets")?;
        inner.split(", ").filter(|name| !name.is_empty()).map(|name| self.axis(name)).collect()
    }

    /// The axis that a word names.
    fn named(&self, words: &[&str], field: &str) -> Read<Axis> {
        words.iter().find_map(|w| w.strip_prefix(field)).ok_or("an axis is not named").and_then(|name| self.axis(name))
    }

    fn axis(&self, name: &str) -> Read<Axis> {
        let at = self.draft.axes.iter().position(|a| a.name == name).ok_or("no axis has this name")?;
        Ok(Axis(at as u32))
    }
}

fn value(text: &str) -> Read<ValueId> {
    let number = text.strip_prefix('%').and_then(|n| n.parse().ok());
    number.map(ValueId).ok_or("a value reads `%NUMBER`")
}

fn constant(words: &[&str], name: &'static str) -> Read<f32> {
    optional(words, name)?.ok_or("a constant is missing")
}

fn optional<T: std::str::FromStr>(words: &[&str], name: &'static str) -> Read<Option<T>> {
    let text = words.iter().find_map(|w| w.strip_prefix(name));
    text.map(|text| text.parse().map_err(|_| "a constant is not a number")).transpose()
}

fn norm(words: &[&str], kind: NormKind) -> Read<Norm> {
    let offset = optional(words, "offset=")?.unwrap_or(0.0);
    Ok(Norm { kind, eps: constant(words, "eps=")?, offset, run: optional(words, "run=")? })
}
