//! Pass 7: pieces to actors with their programs, ports and channels.

use super::bridge::Move;
use super::call::{Call, Operand, Program};
use super::fuse::{FusedNode, Fusion};
use super::live::behind_first;
use super::memory::{Placed, place};
use super::partition::{Collective, Partitioned, Piece, Segment};
use super::raw::{
    ActorId, ActorPlan, CapturePlan, Carries, Channel, CollectivePlan, DeviceId, End, RawPlan, Role, StateSlots,
    WindowPages,
};
use super::weights::Weights;
use super::{Deployment, PlanError};
use crate::axis::{Axis, ValueId};
use crate::dtype::DType;
use crate::op::Op;
use std::collections::BTreeMap;

/// Fills the actors and channels of `plan`. Credits and pages come later.
pub(super) fn lower(whole: &Partitioned, deployment: &Deployment<'_>, plan: &mut RawPlan) -> Vec<PlanError> {
    let sampled = crate::verify::sampled(whole.model.draft());
    let mut lowering = Lowering {
        whole,
        deployment,
        sampled,
        plan,
        made: BTreeMap::new(),
        communicators: BTreeMap::new(),
        faults: vec![],
    };
    let batcher = lowering.actor("batcher".into(), None, Role::Batcher);
    lowering.actor(
        "pool".into(),
        None,
        Role::Pool {
            pages: 0,
            page_rows: super::PAGE_ROWS,
            states: StateSlots::default(),
            windows: WindowPages::default(),
        },
    );
    let feed = lowering.actor("feed".into(), Some(DeviceId(0)), Role::Feed);
    lowering.channel("tickets".into(), End { actor: batcher, port: 0 }, Carries::Ticket);
    let ids = End { actor: feed, port: 0 };
    lowering.channel("token ids".into(), ids, Carries::Ids);
    lowering.read(batcher, feed, 0);
    for rank in 0..whole.ranks {
        lowering.made.insert((whole.tokens, rank), ids);
    }
    let others = behind_first(&whole.pieces, whole.captured.iter().copied().chain([whole.output]));
    for (number, (piece, other)) in whole.pieces.iter().zip(&others).enumerate() {
        match (piece, other) {
            (Piece::Segment(segment), Some(Piece::Segment(other))) => lowering.segment(number, segment, Some(other)),
            (Piece::Segment(segment), _) => lowering.segment(number, segment, None),
            (Piece::Collective(collective), other) => lowering.collective(collective, other.is_some()),
        }
    }
    lowering.sampler(batcher, feed);
    lowering.faults
}

struct Lowering<'a> {
    whole: &'a Partitioned,
    deployment: &'a Deployment<'a>,
    sampled: Vec<bool>,
    plan: &'a mut RawPlan,
    /// Which port gives each value to each rank.
    made: BTreeMap<(ValueId, u32), End>,
    /// The communicator of each stage and rank, with the input ports it has so far.
    communicators: BTreeMap<(u32, u32), (ActorId, u16)>,
    faults: Vec<PlanError>,
}

impl Lowering<'_> {
    fn actor(&mut self, name: String, device: Option<DeviceId>, role: Role) -> ActorId {
        self.plan.actors.push(ActorPlan { name, device, role });
        ActorId(self.plan.actors.len() as u32 - 1)
    }

    fn channel(&mut self, name: String, from: End, carries: Carries) {
        let bytes = carries_bytes(&carries, self.plan);
        self.plan.channels.push(Channel { name, from, to: vec![], carries, credits: 0, bytes });
    }

    /// Lets `port` of `actor` read what `from` gives.
    fn read_end(&mut self, from: End, actor: ActorId, port: u16) {
        let channel = self.plan.channels.iter_mut().find(|c| c.from == from);
        channel.expect("a value has a channel before it is read").to.push(End { actor, port });
    }

    fn read(&mut self, writer: ActorId, actor: ActorId, port: u16) {
        self.read_end(End { actor: writer, port: 0 }, actor, port);
    }

    fn device(&self, stage: u32, rank: u32) -> DeviceId {
        DeviceId(stage * self.whole.ranks + rank)
    }

    /// What people call a value.
    fn edge(&self, value: ValueId) -> String {
        self.whole.model.edge(self.whole.values[value.index()].0)
    }

    fn tensor(&self, value: ValueId) -> Carries {
        Carries::Tensor { width: self.whole.width(value), rows: self.whole.rows(value, &self.sampled) }
    }

    /// A channel for `value` as rank `rank` gets it from `from`; `moved` says what a collective made of it.
    fn give(&mut self, value: ValueId, rank: u32, moved: &str, from: End) {
        let name = match self.whole.ranks {
            1 => self.edge(value),
            _ => format!("{}{moved} rank {rank}", self.edge(value)),
        };
        let carries = self.tensor(value);
        self.channel(name, from, carries);
        self.made.insert((value, rank), from);
    }

    /// A segment of rank 0, and what the others have of it.
    fn segment(&mut self, number: usize, first: &Segment, others: Option<&Segment>) {
        let segment = first;
        let of_stage = |p: &Piece| matches!(p, Piece::Segment(s) if s.stage == segment.stage);
        let alone = self.whole.pieces.iter().filter(|p| of_stage(p)).count() == 1;
        let part = self.whole.pieces[..number].iter().filter(|p| of_stage(p)).count();
        let asked = (self.deployment, self.plan.settings.max_model_len);
        for rank in 0..self.whole.ranks {
            let Some(segment) = (if rank == 0 { Some(first) } else { others }) else { continue };
            let placed = place(self.whole, segment, &self.sampled, &self.plan.settings);
            let program = Programmer::new(self.whole, asked, &placed, rank).program(segment);
            let widths = |values: &[ValueId]| values.iter().map(|&v| self.whole.width(v)).collect();
            let role = Role::Stage {
                stage: segment.stage,
                rank,
                layers: self.whole.layers[segment.stage as usize].clone(),
                program,
                input_widths: widths(&segment.inputs),
                output_widths: widths(&segment.outputs),
            };
            let name = match (self.whole.ranks, alone) {
                (1, true) => format!("stage {}", segment.stage),
                (1, false) => format!("stage {}.{part}", segment.stage),
                (_, true) => format!("stage {} rank {rank}", segment.stage),
                (_, false) => format!("stage {}.{part} rank {rank}", segment.stage),
            };
            let actor = self.actor(name, Some(self.device(segment.stage, rank)), role);
            self.read(ActorId(0), actor, 0);
            for (port, value) in segment.inputs.iter().enumerate() {
                self.read_end(self.made[&(*value, rank)], actor, port as u16 + 1);
            }
            for (port, &value) in segment.outputs.iter().enumerate() {
                self.give(value, rank, "", End { actor, port: port as u16 });
            }
        }
    }

    /// A communication, whose result ranks behind the first read where `everywhere` says so.
    fn collective(&mut self, collective: &Collective, everywhere: bool) {
        let Collective { stage, how, x, y } = *collective;
        let axes = &self.whole.model.nodes()[self.whole.values[x.index()].0.index()].axes;
        let fault = match how {
            Move::AllReduce | Move::AllGather(_) => None,
            Move::AllToAll { .. } => Some("an all-to-all"),
            Move::ReduceScatter(_) => Some("a reduce-scatter"),
            Move::Slice(_) | Move::Nothing => Some("a move inside one rank as a communication"),
        };
        if let Some(what) = fault {
            self.faults.push(PlanError::NoKernel { edge: self.edge(x), what });
        }
        let blocks = match how {
            Move::AllGather(axis) => {
                self.whole.model.elements(&axes[1..axes.iter().position(|a| *a == axis).unwrap_or(1)])
            }
            Move::AllReduce | Move::Nothing | Move::Slice(_) | Move::AllToAll { .. } | Move::ReduceScatter(_) => 1,
        };
        for rank in 0..self.whole.ranks {
            let (actor, ports) = self.communicator(stage, rank);
            let reads = everywhere || rank == 0;
            let count = if reads { self.whole.ranks as u16 } else { 0 };
            let inputs: Vec<u16> = (ports..ports + count).collect();
            for (peer, &port) in inputs.iter().enumerate() {
                self.read_end(self.made[&(x, peer as u32)], actor, port);
            }
            self.communicators.insert((stage, rank), (actor, ports + count));
            let (edge, width, rows) = (self.edge(x), self.whole.width(x), self.whole.rows(x, &self.sampled));
            let Role::Communicator { collectives, .. } = &mut self.plan.actors[actor.index()].role else {
                continue;
            };
            let outputs = collectives.iter().filter(|c| c.output.is_some()).count() as u16;
            let output = reads.then_some(outputs);
            collectives.push(CollectivePlan { how, edge, inputs, output, width, blocks: blocks as u32, rows });
            if let Some(port) = output {
                let moved = if how == Move::AllReduce { " summed" } else { " gathered" };
                self.give(y, rank, moved, End { actor, port });
            }
        }
    }

    fn communicator(&mut self, stage: u32, rank: u32) -> (ActorId, u16) {
        if let Some(&known) = self.communicators.get(&(stage, rank)) {
            return known;
        }
        let group = format!("tensor group of stage {stage}");
        let role = Role::Communicator { group, rank, collectives: vec![] };
        let name = format!("communicator {stage} rank {rank}");
        let actor = self.actor(name, Some(self.device(stage, rank)), role);
        self.communicators.insert((stage, rank), (actor, 0));
        (actor, 0)
    }

    fn sampler(&mut self, batcher: ActorId, feed: ActorId) {
        let device = self.device(self.whole.layers.len() as u32 - 1, 0);
        let vocabulary = self.whole.model.logits();
        let capture = |&value: &ValueId| CapturePlan {
            edge: self.edge(value),
            width: self.whole.width(value),
            rows: self.whole.rows(value, &self.sampled),
        };
        let captures = self.whole.captured.iter().map(capture).collect();
        let actor = self.actor("sampler".into(), Some(device), Role::Sampler { vocabulary, captures });
        self.read(batcher, actor, 0);
        self.read_end(self.made[&(self.whole.output, 0)], actor, 1);
        for (number, value) in self.whole.captured.iter().enumerate() {
            self.read_end(self.made[&(*value, 0)], actor, number as u16 + 2);
        }
        self.channel("samples".into(), End { actor, port: 0 }, Carries::Samples);
        self.read(actor, batcher, 0);
        self.read(actor, feed, 1);
    }
}

/// Bytes of one buffer of a channel, for the largest step.
fn carries_bytes(carries: &Carries, plan: &RawPlan) -> u64 {
    use super::call::RowSet;
    let s = &plan.settings;
    let (rows, sampled, sequences) =
        (u64::from(s.max_num_batched_tokens), u64::from(s.sampled_rows_max), u64::from(s.max_num_seqs));
    let f32_bytes = DType::F32.bytes() as u64;
    match carries {
        // A feed and, of each sequence, a span, an admission and its page table; a draw each sampled row.
        Carries::Ticket => {
            rows * 8 + sampled * 88 + sequences * (68 + 4 * u64::from(s.max_model_len.div_ceil(super::PAGE_ROWS)))
        }
        // A token each sampled row, and the 20 likeliest ones beside it with their log-probabilities; what is captured of it.
        Carries::Samples => sampled * (64 + 20 * 8 + captured_width(plan) * f32_bytes),
        Carries::Ids => rows * DType::U32.bytes() as u64,
        Carries::Tensor { width, rows: RowSet::All } => rows * u64::from(*width) * f32_bytes,
        Carries::Tensor { width, rows: RowSet::Sampled } => sampled * u64::from(*width) * f32_bytes,
    }
}

/// Elements that the samples bring of a captured row beside its logits.
fn captured_width(plan: &RawPlan) -> u64 {
    let captures = plan.actors.iter().filter_map(|actor| match &actor.role {
        Role::Sampler { captures, .. } => Some(captures),
        Role::Batcher | Role::Pool { .. } | Role::Feed | Role::Stage { .. } | Role::Communicator { .. } => None,
    });
    captures.flatten().map(|capture| u64::from(capture.width)).sum()
}

/// Writes the program of one segment for one rank.
struct Programmer<'a> {
    whole: &'a Partitioned,
    placed: &'a Placed,
    weights: Weights<'a>,
    program: Program,
    cache_dtype: DType,
    /// Positions of the longest sequence.
    length_max: u32,
    rank: u32,
}

impl<'a> Programmer<'a> {
    fn new(
        whole: &'a Partitioned,
        (deployment, length_max): (&'a Deployment<'a>, u32),
        placed: &'a Placed,
        rank: u32,
    ) -> Self {
        let weights = Weights::new(whole, deployment, rank);
        let program = Program { scratch_bytes: placed.scratch_bytes, ..Program::default() };
        Self { whole, placed, weights, program, cache_dtype: deployment.cache_dtype, length_max, rank }
    }

    fn program(mut self, segment: &Segment) -> Program {
        for node in &segment.nodes {
            if let Some(call) = self.call(node) {
                self.program.calls.push(call);
            }
        }
        self.program.weights = self.weights.specs;
        self.program
    }

    fn at(&self, value: ValueId) -> Operand {
        self.placed.operands[&value]
    }

    fn call(&mut self, node: &FusedNode) -> Option<Call> {
        let y = self.at(node.results[0]);
        Some(match &node.work {
            Fusion::Op(op) => return self.op(op, node.results[0]),
            Fusion::Contract { x, weights } => {
                let ids: Vec<_> = weights.iter().map(|&w| self.weights.panels(w)).collect();
                let parts = ids.into_iter().zip(node.results.iter().map(|&v| self.at(v))).collect();
                Call::Contract { x: self.at(*x), parts }
            }
            Fusion::Experts { x, gates, weights } => {
                let ids: Vec<_> = weights.iter().map(|&w| self.weights.experts(w)).collect();
                let parts = ids.into_iter().zip(node.results.iter().map(|&v| self.at(v))).collect();
                let choices = self.choices(node.results[0]);
                Call::Experts { x: self.at(*x), gates: self.at(*gates), choices, parts }
            }
            Fusion::Gated { gate, up, f } => Call::Gated { gate: self.at(*gate), up: self.at(*up), f: *f, y },
            Fusion::AddNorm { a, b, w, norm, .. } => {
                let (a, b, w) = (self.at(*a), self.at(*b), self.weights.vector(*w));
                Call::AddNorm { a, b, sum: y, w, norm: *norm, y: self.at(node.results[1]) }
            }
            Fusion::Move(Move::Slice(axis), x) => self.slice(*axis, *x, y),
            Fusion::Move(..) => return None,
        })
    }

    /// This rank's part of `x`, which is whole, along an axis.
    fn slice(&self, axis: Axis, x: ValueId, y: Operand) -> Call {
        let model = &self.whole.model;
        let axes = &model.nodes()[self.whole.values[x.index()].0.index()].axes;
        let place = axes.iter().position(|&a| a == axis).unwrap_or(axes.len() - 1);
        let inner = model.elements(&axes[place + 1..]) as u32;
        let length = model.length(axis).unwrap_or(1);
        let (block, run) = (length * inner, length / self.whole.ranks * inner);
        Call::Slice { x: self.at(x), block, from: self.rank * run, run, y }
    }

    /// Another state of the program.
    fn state(&mut self, spec: super::StateSpec) -> u32 {
        self.program.states.push(spec);
        self.program.states.len() as u32 - 1
    }

    fn op(&mut self, op: &Op, result: ValueId) -> Option<Call> {
        let y = self.at(result);
        Some(match *op {
            Op::Tokens => return None,
            Op::Gather { table, ids } => {
                let (table, first) = self.weights.table(table);
                Call::Gather { table, first, ids: self.at(ids), y }
            }
            Op::Positions { table } => Call::Positions { table: self.weights.table(table).0, y },
            Op::Contract { x, w } => Call::Contract { x: self.at(x), parts: vec![(self.weights.panels(w), y)] },
            Op::Bias { x, w } => Call::Bias { x: self.at(x), w: self.weights.vector(w), y },
            Op::Norm { x, w, norm } => Call::Norm { x: self.at(x), w: self.weights.vector(w), norm, y },
            Op::Rope { x, ref rope } => {
                Call::Rope { x: self.at(x), head_dim: self.last(result), rope: rope.over(self.length_max), y }
            }
            Op::Attend { q, k, v, sinks, how } => {
                let axes = self.whole.model.nodes()[self.whole.values[q.index()].0.index()].axes.clone();
                let [kv_heads, group, head_dim] = [1, 2, 3].map(|i| self.whole.local(q, axes[i]));
                let cache = self.program.caches.len() as u32;
                let dtype = self.cache_dtype;
                self.program.caches.push(super::CacheSpec { kv_heads, head_dim, dtype });
                let (q, k, v) = (self.at(q), self.at(k), self.at(v));
                let sinks = sinks.map(|w| self.weights.vector(w));
                Call::Attend { q, k, v, y, cache, kv_heads, group, head_dim, sinks, how }
            }
            Op::ShortConv { x, w } => {
                let taps = self.whole.model.param(w).axes.last().and_then(|&a| self.whole.model.length(a)).unwrap_or(1);
                let state = self.state(super::StateSpec::conv(self.whole.width(result), taps));
                Call::ShortConv { x: self.at(x), w: self.weights.vector(w), state, y }
            }
            Op::Scan { q, k, v, dt, beta, a_log, skip, how } => {
                let axes = self.whole.model.nodes()[self.whole.values[v.index()].0.index()].axes.clone();
                let [heads, group, value_dim] = [1, 2, 3].map(|i| self.whole.local(v, axes[i]));
                let key_dim = self.last(k);
                let state = self.state(super::StateSpec::scan([heads, group, key_dim, value_dim]));
                let (a_log, skip) = (self.weights.vector(a_log), skip.map(|skip| self.weights.vector(skip)));
                let ([q, k, v, dt], beta) = ([q, k, v, dt].map(|x| self.at(x)), beta.map(|x| self.at(x)));
                Call::Scan { q, k, v, dt, beta, a_log, skip, y, state, heads, group, key_dim, value_dim, how }
            }
            Op::ContractEach { x, w } => Call::ContractEach { x: self.at(x), w: self.weights.experts(w), y },
            Op::Concat { a, b, .. } => {
                let (a_run, b_run) = (self.last(a), self.last(b));
                Call::Concat { a: self.at(a), a_run, b: self.at(b), b_run, y }
            }
            Op::Prefix { x, .. } => {
                Call::Slice { x: self.at(x), block: self.last(x), from: 0, run: self.last(result), y }
            }
            Op::Route { x, bias, choices, ref routing } => {
                let bias = bias.map(|bias| self.weights.vector(bias));
                let choices = self.whole.model.length(choices).unwrap_or(1);
                let first = if y.width < self.at(x).width { self.rank * y.width } else { 0 };
                Call::Route { x: self.at(x), bias, choices, routing: *routing, first, y }
            }
            Op::Experts { x, gates, w } => {
                let parts = vec![(self.weights.experts(w), y)];
                Call::Experts { x: self.at(x), gates: self.at(gates), choices: self.choices(result), parts }
            }
            Op::ExpertBias { x, gates, w } => {
                let (choices, w) = (self.choices(x), self.weights.vector(w));
                Call::ExpertBias { x: self.at(x), gates: self.at(gates), choices, w, y }
            }
            Op::Combine { x, gates, w } => {
                let (choices, w) = (self.choices(x), self.weights.experts(w));
                Call::Combine { x: self.at(x), gates: self.at(gates), choices, w, y }
            }
            Op::Weigh { x, gates } => Call::Weigh { x: self.at(x), gates: self.at(gates), choices: self.choices(x), y },
            Op::Unary(f, x) => Call::Unary { x: self.at(x), f, y },
            Op::Binary(f, a, b) => Call::Binary { a: self.at(a), b: self.at(b), f, y },
            Op::SampledRows(x) => Call::SampledRows { x: self.at(x), y },
        })
    }

    /// Choices of a row of a value that has them as its second axis.
    fn choices(&self, value: ValueId) -> u32 {
        let axes = &self.whole.model.nodes()[self.whole.values[value.index()].0.index()].axes;
        axes.get(1).map_or(1, |&a| self.whole.local(value, a))
    }

    /// Length of the last axis of a value on this rank.
    fn last(&self, value: ValueId) -> u32 {
        let axes = &self.whole.model.nodes()[self.whole.values[value.index()].0.index()].axes;
        axes.last().map_or(1, |&a| self.whole.local(value, a))
    }
}
