//! The meaning of a graph: a slow interpreter over whole sequences, in f32 with f64 sums. Every fast path is held against it.
//!
//! It keeps no cache: all positions of one sequence are computed at once, and `sampled_rows` keeps all of them.

mod experts;
mod recurrent;

use crate::axis::{Axis, ParamId, ValueId};
use crate::model::{Model, entry_name};
use crate::op::{Attention, Binary, Norm, NormKind, Op, Unary};
use crate::rope::{Pairing, Rope};
use crate::stored::Strides;

/// A value: the lengths of its axes, and its elements with the last axis innermost.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    /// Lengths, one an axis.
    pub dims: Vec<usize>,
    /// Elements.
    pub data: Vec<f32>,
}

/// Every value of `model` for one sequence. `weight` gives the elements of a weight by its checkpoint name.
///
/// # Panics
/// When a weight has not the number of elements that its axes say, or a token lies outside the vocabulary.
pub fn interpret(model: &Model, tokens: &[u32], weight: &dyn Fn(&str) -> Vec<f32>) -> Vec<Tensor> {
    let mut machine = Interpreter { model, tokens, weight, values: Vec::with_capacity(model.nodes().len()) };
    for (number, node) in model.nodes().iter().enumerate() {
        let dims: Vec<usize> = node.axes.iter().map(|&a| machine.length(a)).collect();
        let data = machine.compute(&node.op);
        assert_eq!(
            data.len(),
            dims.iter().product::<usize>(),
            "{}: elements fit the axes",
            model.edge(ValueId(number as u32))
        );
        machine.values.push(Tensor { dims, data });
    }
    machine.values
}

/// The logits of every position: `[positions, vocabulary]`.
pub fn logits(model: &Model, tokens: &[u32], weight: &dyn Fn(&str) -> Vec<f32>) -> Tensor {
    interpret(model, tokens, weight).swap_remove(model.output().index())
}

struct Interpreter<'a> {
    model: &'a Model,
    tokens: &'a [u32],
    weight: &'a dyn Fn(&str) -> Vec<f32>,
    values: Vec<Tensor>,
}

impl Interpreter<'_> {
    fn length(&self, axis: Axis) -> usize {
        self.model.length(axis).map_or(self.tokens.len(), |n| n as usize)
    }

    fn value(&self, id: ValueId) -> &Tensor {
        &self.values[id.index()]
    }

    fn param(&self, op: &Op) -> Vec<f32> {
        self.weight(op.param().expect("the op has a weight"))
    }

    fn weight(&self, id: ParamId) -> Vec<f32> {
        let param = self.model.param(id);
        let data = match entry_name(&param.name, 0) {
            None => (self.weight)(&param.name),
            Some(_) => {
                let names = (0..self.length(param.axes[0]) as u32).filter_map(|number| entry_name(&param.name, number));
                names.flat_map(|name| (self.weight)(&name)).collect()
            }
        };
        let Some(Strides { offset, strides, elements }) = self.model.strides(id) else {
            assert_eq!(data.len() as u64, self.model.elements(&param.axes), "{}: elements fit the axes", param.name);
            return data;
        };
        assert_eq!(data.len() as u64, elements, "{}: elements fit the dimensions", param.name);
        let mut places = vec![offset as usize];
        for (&axis, stride) in param.axes.iter().zip(strides) {
            let steps = 0..self.length(axis);
            let along = |place: &usize| steps.clone().map(|i| place + i * stride as usize).collect::<Vec<_>>();
            places = places.iter().flat_map(along).collect();
        }
        places.into_iter().map(|place| data[place]).collect()
    }

    fn compute(&self, op: &Op) -> Vec<f32> {
        match *op {
            Op::Tokens => self.tokens.iter().map(|&t| f32::from_bits(t)).collect(),
            Op::Gather { .. } => self.gather(op),
            Op::Positions { .. } => {
                let (table, entries) = (self.param(op), self.entries(op));
                assert!(self.tokens.len() <= entries, "a sequence is no longer than the table of positions");
                table[..self.tokens.len() * (table.len() / entries)].to_vec()
            }
            Op::Contract { x, .. } => self.contract(op, x),
            Op::Bias { x, .. } => {
                let w = self.param(op);
                self.value(x).data.iter().zip(w.iter().cycle()).map(|(x, w)| x + w).collect()
            }
            Op::Norm { x, norm: how, .. } => {
                let w = self.param(op);
                let n = how.run.map_or(w.len(), |run| run as usize);
                let runs = self.value(x).data.chunks_exact(n).zip(w.chunks_exact(n).cycle());
                runs.flat_map(|(run, w)| norm(run, w, how)).collect()
            }
            Op::Rope { x, ref rope } => rotate(self.value(x), &rope.over(self.tokens.len() as u32)),
            Op::Attend { q, k, v, sinks, how } => {
                let sinks = sinks.map(|_| self.param(op));
                attend([q, k, v].map(|id| self.value(id)), sinks.as_deref(), how)
            }
            Op::ShortConv { x, .. } => recurrent::convolve(self.value(x), &self.param(op)),
            Op::Scan { .. } => self.scan(op),
            Op::ContractEach { x, .. } => self.contract_each(op, x),
            Op::Concat { a, b, .. } => {
                let runs = self.runs(a).zip(self.runs(b));
                runs.flat_map(|(a, b)| a.iter().chain(b).copied()).collect()
            }
            Op::Prefix { x, axis } => {
                let length = self.length(axis);
                self.runs(x).flat_map(|run| run[..length].iter().copied()).collect()
            }
            Op::Route { x, bias, choices, ref routing } => {
                let bias = bias.map(|_| self.param(op));
                experts::route(self.value(x), bias.as_deref(), self.length(choices), routing)
            }
            Op::Experts { x, gates, .. } => {
                experts::contract(self.pair(x, gates), self.shape(x, gates), &self.param(op))
            }
            Op::ExpertBias { x, gates, .. } => {
                experts::bias(self.pair(x, gates), self.shape(x, gates), &self.param(op))
            }
            Op::Combine { x, gates, .. } => {
                experts::combine(self.pair(x, gates), self.shape(x, gates), &self.param(op))
            }
            Op::Weigh { x, gates } => experts::weigh(self.pair(x, gates), self.shape(x, gates)),
            Op::Unary(f, x) => self.value(x).data.iter().map(|&x| unary(f, x)).collect(),
            Op::Binary(f, a, b) => {
                let f = match f {
                    Binary::Add => |(a, b): (&f32, &f32)| a + b,
                    Binary::Mul => |(a, b): (&f32, &f32)| a * b,
                };
                self.value(a).data.iter().zip(&self.value(b).data).map(f).collect()
            }
            Op::SampledRows(x) => self.value(x).data.clone(),
        }
    }

    /// Entries of the table that an op looks up in.
    fn entries(&self, op: &Op) -> usize {
        self.length(self.model.param(op.param().expect("a lookup has a table")).axes[0])
    }

    fn pair(&self, x: ValueId, gates: ValueId) -> [&Tensor; 2] {
        [x, gates].map(|id| self.value(id))
    }

    /// How `x` lies, and how many experts a row of `gates` chooses.
    fn shape(&self, x: ValueId, gates: ValueId) -> experts::Shape {
        let Op::Route { choices, .. } = self.model.nodes()[gates.index()].op else {
            unreachable!("infer refuses gates that no route made")
        };
        let apart = self.model.nodes()[x.index()].axes.get(1) == Some(&choices);
        let choices = self.length(choices);
        experts::Shape { choices, parts: if apart { choices } else { 1 } }
    }

    /// Elements of the last axis, run by run.
    fn runs(&self, value: ValueId) -> impl Iterator<Item = &[f32]> {
        let value = self.value(value);
        value.data.chunks_exact(value.dims.last().copied().unwrap_or(1).max(1))
    }

    /// Run by run of the summed axes, by the entry of the weight that belongs to the run.
    fn contract_each(&self, op: &Op, x: ValueId) -> Vec<f32> {
        let w = self.param(op);
        let axes = &self.model.param(op.param().expect("contract_each has a weight")).axes;
        let summed = self.model.nodes()[x.index()].axes.iter().rev().take_while(|a| **a != axes[0]);
        let k: usize = summed.map(|&a| self.length(a)).product();
        let (each, entry) = (self.length(axes[0]), w.len() / self.length(axes[0]));
        let dot =
            |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum::<f64>() as f32;
        let runs = self.value(x).data.chunks_exact(k).enumerate();
        let by = |number: usize| &w[number % each * entry..][..entry];
        runs.flat_map(|(number, x)| by(number).chunks_exact(k).map(move |w| dot(x, w))).collect()
    }

    fn gather(&self, op: &Op) -> Vec<f32> {
        let table = self.param(op);
        let width = table.len() / self.entries(op);
        self.tokens.iter().flat_map(|&t| table[t as usize * width..][..width].iter().copied()).collect()
    }

    /// The summed axes are the last of both operands, so both are matrices.
    fn contract(&self, op: &Op, x: ValueId) -> Vec<f32> {
        let w = self.param(op);
        let (x_axes, x) = (&self.model.nodes()[x.index()].axes, self.value(x));
        let w_axes = &self.model.param(op.param().expect("contract has a weight")).axes;
        let k: usize = w_axes.iter().filter(|a| x_axes.contains(a)).map(|&a| self.length(a)).product();
        let dot =
            |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum::<f64>() as f32;
        let rows = x.data.chunks_exact(k);
        rows.flat_map(|x| w.chunks_exact(k).map(move |w| dot(x, w))).collect()
    }
}

fn norm<'a>(x: &'a [f32], w: &'a [f32], norm: Norm) -> impl Iterator<Item = f32> + 'a {
    let average = |f: &dyn Fn(f64) -> f64| x.iter().map(|&v| f(v.into())).sum::<f64>() / x.len() as f64;
    let mean = match norm.kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => average(&|v| v),
    };
    let scale = 1.0 / (average(&|v| (v - mean) * (v - mean)) + f64::from(norm.eps)).sqrt();
    x.iter().zip(w).map(move |(x, w)| ((f64::from(*x) - mean) * scale) as f32 * (w + norm.offset))
}

fn rotate(x: &Tensor, rope: &Rope) -> Vec<f32> {
    let (frequencies, amplitude, half) = (rope.frequencies(), rope.amplitude(), rope.dims as usize / 2);
    let heads = x.data.len() / x.dims[0].max(1) / x.dims[x.dims.len() - 1];
    let mut out = x.data.clone();
    for (run, out) in out.chunks_exact_mut(x.dims[x.dims.len() - 1]).enumerate() {
        let position = (run / heads) as f32;
        for (i, frequency) in frequencies.iter().enumerate() {
            let angle = position * frequency;
            let (sin, cos) = (angle.sin() * amplitude, angle.cos() * amplitude);
            let (first, second) = match rope.pairing {
                Pairing::Halves => (i, i + half),
                Pairing::Neighbours => (2 * i, 2 * i + 1),
            };
            let (a, b) = (out[first], out[second]);
            out[first] = a * cos - b * sin;
            out[second] = b * cos + a * sin;
        }
    }
    out
}

/// Causal attention, q `[rows, heads, group, dim]`, k and v `[rows, heads, dim]`, sinks `[heads, group]`.
fn attend([q, k, v]: [&Tensor; 3], sinks: Option<&[f32]>, how: Attention) -> Vec<f32> {
    let [rows, heads, group, dim] = q.dims[..] else { panic!("queries have four axes") };
    let mut out = vec![0.0; q.data.len()];
    for (at, out) in out.chunks_exact_mut(dim).enumerate() {
        let (row, head) = (at / (heads * group), at / group % heads);
        let q = &q.data[at * dim..][..dim];
        let key = |t: &Tensor, s: usize, d: usize| f64::from(t.data[(s * heads + head) * dim + d]);
        let score = |s| (0..dim).map(|d| f64::from(q[d]) * key(k, s, d)).sum::<f64>() * f64::from(how.scale);
        let cap = |score: f64| how.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
        let first = how.first(row as u32) as usize;
        let scores: Vec<f64> = (first..=row).map(|s| cap(score(s))).collect();
        let sink = sinks.map_or(f64::NEG_INFINITY, |sinks| sinks[at % (heads * group)].into());
        let top = scores.iter().copied().fold(sink, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let sum: f64 = weights.iter().sum::<f64>() + (sink - top).exp();
        for (d, out) in out.iter_mut().enumerate() {
            *out = (weights.iter().enumerate().map(|(s, w)| w * key(v, first + s, d)).sum::<f64>() / sum) as f32;
        }
    }
    debug_assert_eq!(out.len(), rows * heads * group * dim);
    out
}

fn unary(f: Unary, x: f32) -> f32 {
    let x = f64::from(x);
    let y = match f {
        Unary::Silu => x / (1.0 + (-x).exp()),
        Unary::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Unary::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
        Unary::Relu => x.max(0.0),
        Unary::Relu2 => x.max(0.0) * x.max(0.0),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Scale(by) => x * f64::from(by),
        Unary::Softcap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
        Unary::ClampedSwish { alpha, limit } => {
            let x = x.min(f64::from(limit));
            x / (1.0 + (-f64::from(alpha) * x).exp())
        }
        Unary::ClampedPlusOne(limit) => x.clamp(-f64::from(limit), limit.into()) + 1.0,
    };
    y as f32
}

/// The error function by its Maclaurin series below 3, and by the continued fraction of erfc above
/// (Abramowitz & Stegun 7.1.5, 7.1.14); better than 1e-12 everywhere.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let y = if a < 3.0 {
        let mut term = a;
        let mut sum = a;
        for n in 1..80 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..60).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (a + f));
        1.0 - (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt())
    };
    y.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_has_its_tabled_values() {
        for (x, y) in
            [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0), (3.5, 0.999_999_256_9)]
        {
            assert!((erf(x) - y).abs() < 1e-9, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + y).abs() < 1e-9);
        }
    }
}
