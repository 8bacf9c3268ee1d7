//! Runs a program: the calls of one stage, step after step, over memory that was planned and allocated beforehand.
//!
//! Invariants: every operand of every call was checked against the program's memory when the executor was made, and against the
//! buffers of a step before its first call; nothing is allocated in [`Execute::run`].

pub(crate) mod admit;
pub(crate) mod check;
mod execute;
#[cfg(test)]
mod tests;

use crate::cache::Cache;
use crate::error::KernelError;
use crate::isa::Isa;
use crate::memory::Memory;
use crate::ops::attend::{Heads, Operands};
use crate::ops::contract::{Part, Parts};
use crate::ops::experts::Shape;
use crate::ops::norm::{Scale, Sum};
use crate::ops::rope::Angles;
use crate::ops::route::Router;
use crate::ops::runs::Runs;
use crate::ops::{self, Workers};
use crate::slab::Slab;
use crate::states::States;
use crate::step::Step;
use crate::team::Team;
use crate::weights::Weight;
use graph::plan::{Call, Operand, Place, Program, RowSet, WeightSpec, WeightUse};
use smallvec::SmallVec;
use std::sync::Arc;

use admit::Gate;
pub use execute::{Execute, Limits};
pub(crate) use execute::{Port, ports};

/// Inputs, and outputs, that a program may have: a few, or as many as people capture of a stage.
pub const PORTS_MAX: usize = 512;
/// As many as a stage has of which nothing is captured: a step with so few allocates nothing.
pub const PORTS_FEW: usize = 8;

/// A program with its weights, caches and scratch memory.
pub struct Executor {
    program: Program,
    weights: Vec<Arc<Weight>>,
    caches: Vec<Cache>,
    states: Vec<States>,
    scratch: Memory,
    gate: Gate,
    team: Arc<Team>,
    isa: Isa,
    contract_room: ops::contract::Room,
    attend_room: ops::attend::Room,
    scan_room: ops::scan::Room,
    experts_room: ops::experts::Room,
    /// The rotations of the program, each once.
    angles: Vec<Angles>,
}

/// Where the operands of one step begin.
struct Bases {
    inputs: SmallVec<[*const f32; PORTS_FEW]>,
    outputs: SmallVec<[*mut f32; PORTS_FEW]>,
    scratch: *mut f32,
    rows: usize,
    sampled: usize,
}

// SAFETY: a Bases is only addresses; what lies behind them is reached through slabs, whose own rules keep threads apart.
unsafe impl Sync for Bases {}

impl Bases {
    fn rows(&self, operand: &Operand) -> usize {
        match operand.rows {
            RowSet::All => self.rows,
            RowSet::Sampled => self.sampled,
        }
    }

    /// The elements of an operand in this step.
    fn slab(&self, operand: &Operand) -> Slab<'_> {
        let start = match operand.place {
            Place::Input(port) => self.inputs[port as usize].cast_mut(),
            Place::Output(port) => self.outputs[port as usize],
            // SAFETY: check::operands held offset and largest length against the scratch memory.
            Place::Scratch(at) => unsafe { self.scratch.byte_add(at as usize) },
        };
        let len = self.rows(operand) * operand.width as usize;
        // SAFETY: Gate::admit (ports) and check::program (scratch) hold the length against the memory, which outlives the
        // step; check::program refuses calls that write an input.
        unsafe { Slab::from_raw(start, len) }
    }

    /// The elements of an operand that is only read.
    fn read(&self, operand: &Operand) -> &[f32] {
        let slab = self.slab(operand);
        // SAFETY: check::program refuses calls in which an operand read as a slice overlaps one that is written.
        unsafe { slab.read(0, slab.len()) }
    }

    /// Token ids.
    fn ids(&self, operand: &Operand) -> &[u32] {
        bytemuck::cast_slice(self.read(operand))
    }
}

impl Executor {
    /// Checks the program and allocates what its largest step needs.
    ///
    /// # Errors
    /// Every call that does not fit the weights, the scratch memory or the kernels there are.
    pub fn new(
        program: Program,
        weights: Vec<impl Into<Arc<Weight>>>,
        limits: Limits,
        team: Arc<Team>,
        isa: Isa,
    ) -> Result<Self, Vec<KernelError>> {
        let weights: Vec<Arc<Weight>> = weights.into_iter().map(Into::into).collect();
        let specs: Vec<_> = weights.iter().map(|weight| weight.spec()).collect();
        let mut faults = check::program(&program, &specs, limits);
        let mut caches = vec![];
        let gate = Gate::new(&program, &specs, limits);
        for (spec, is_windowed) in program.caches.iter().zip(gate.windowed(&program)) {
            let pages = if is_windowed { limits.window_pages } else { limits.pages };
            match Cache::new(*spec, pages as usize).map(|cache| cache.windowed(is_windowed)) {
                Ok(cache) => caches.push(cache),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let states = program.states.iter().map(|spec| States::new(*spec, limits.slots as usize)).collect();
        let (mut k_max, mut group_max, mut dim_max, mut angles) = (0, 1, 1, Vec::<Angles>::new());
        let (mut key_max, mut value_max) = (0, 0);
        let (mut choices_max, mut experts_max) = (0, 0);
        for call in &program.calls {
            match call {
                Call::Contract { x, .. } => k_max = k_max.max(x.width as usize),
                Call::Attend { group, head_dim, .. } => {
                    (group_max, dim_max) = (group_max.max(*group as usize), dim_max.max(*head_dim as usize));
                }
                Call::Rope { rope, .. } if angles.iter().all(|a| a.rope() != rope) => {
                    angles.push(Angles::new(rope, limits.rows_max as usize));
                }
                Call::Scan { key_dim, value_dim, .. } => {
                    (key_max, value_max) = (key_max.max(*key_dim as usize), value_max.max(*value_dim as usize));
                }
                Call::Experts { x, gates, choices, .. } | Call::Combine { x, gates, choices, .. } => {
                    k_max = k_max.max(x.width as usize);
                    (choices_max, experts_max) =
                        (choices_max.max(*choices as usize), experts_max.max(gates.width as usize));
                }
                Call::ContractEach { x, w, .. } => {
                    let k = weights[w.0 as usize].spec().k;
                    let each = (x.width / k.max(1)) as usize;
                    k_max = k_max.max(k as usize);
                    (choices_max, experts_max) = (choices_max.max(each), experts_max.max(each));
                }
                Call::Concat { .. }
                | Call::Weigh { .. }
                | Call::ShortConv { .. }
                | Call::Rope { .. }
                | Call::Route { .. }
                | Call::ExpertBias { .. }
                | Call::Gather { .. }
                | Call::Positions { .. }
                | Call::Bias { .. }
                | Call::Norm { .. }
                | Call::AddNorm { .. }
                | Call::Gated { .. }
                | Call::Unary { .. }
                | Call::Binary { .. }
                | Call::Slice { .. }
                | Call::SampledRows { .. } => {}
            }
        }
        let rows = limits.rows_max.max(limits.sampled_max) as usize;
        let parted = weights.iter().any(|weight| weight.spec().sum_parts > 1);
        Ok(Self {
            contract_room: ops::contract::Room::new(rows, k_max, team.threads(), parted),
            attend_room: ops::attend::Room::new(rows, group_max, dim_max, team.threads()),
            scan_room: ops::scan::Room::new(key_max, value_max, team.threads()),
            experts_room: ops::experts::Room::new(rows, choices_max, experts_max),
            scratch: Memory::zeroed(program.scratch_bytes as usize),
            program,
            weights,
            caches,
            states,
            gate,
            team,
            isa,
            angles,
        })
    }

    /// The threads that run it.
    pub fn team(&self) -> &Arc<Team> {
        &self.team
    }

    /// As [`Execute::run`]; tells the number of each call when it is done.
    ///
    /// # Errors
    /// As [`Execute::run`].
    pub fn run_observed(
        &mut self,
        step: &Step,
        inputs: &[&Memory],
        outputs: &mut [&mut Memory],
        observer: &mut dyn FnMut(usize),
    ) -> Result<(), KernelError> {
        self.gate.admit(&self.program, step, inputs, outputs)?;
        let bases = Bases {
            inputs: inputs.iter().map(|memory| memory.as_f32().as_ptr()).collect(),
            outputs: outputs.iter_mut().map(|memory| memory.as_f32_mut().as_mut_ptr()).collect(),
            scratch: self.scratch.as_f32_mut().as_mut_ptr(),
            rows: step.rows as usize,
            sampled: step.sampled.len(),
        };
        let workers = Workers { team: &self.team, isa: self.isa };
        self.angles.iter_mut().for_each(|angles| angles.fill(workers, step));
        let mut run = Run {
            bases,
            step,
            workers,
            weights: &self.weights,
            caches: &mut self.caches,
            states: &mut self.states,
            scan_room: &mut self.scan_room,
            contract_room: &mut self.contract_room,
            attend_room: &mut self.attend_room,
            experts_room: &mut self.experts_room,
            angles: &self.angles,
        };
        for (number, call) in self.program.calls.iter().enumerate() {
            run.call(call);
            observer(number);
        }
        Ok(())
    }
}

impl Execute for Executor {
    fn program(&self) -> &Program {
        &self.program
    }

    fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(|w| w.bytes() as u64).sum()
    }

    fn run(&mut self, step: &Step, inputs: &[&Memory], outputs: &mut [&mut Memory]) -> Result<(), KernelError> {
        self.run_observed(step, inputs, outputs, &mut |_| {})
    }
}

/// How the experts lie whose weight, or vector of `len` elements each, is this one.
pub(crate) fn shape(gates: &Operand, (choices, parts): (u32, u32), spec: &WeightSpec, len: u32) -> Shape {
    let held = match spec.used {
        WeightUse::Experts(held) => held,
        WeightUse::Panels | WeightUse::Table | WeightUse::Vector => spec.n / len.max(1),
    };
    // Gates are those of all experts, or of those held here.
    let cut = spec.cut.filter(|cut| cut.dim == 0 && held < gates.width);
    Shape {
        first: cut.map_or(0, |cut| cut.from as usize),
        held: held as usize,
        ..Shape::whole(gates.width as usize, choices as usize, parts as usize)
    }
}

/// One step on its way through the calls.
struct Run<'a> {
    bases: Bases,
    step: &'a Step,
    workers: Workers<'a>,
    weights: &'a [Arc<Weight>],
    caches: &'a mut [Cache],
    states: &'a mut [States],
    scan_room: &'a mut ops::scan::Room,
    contract_room: &'a mut ops::contract::Room,
    attend_room: &'a mut ops::attend::Room,
    experts_room: &'a mut ops::experts::Room,
    angles: &'a [Angles],
}

impl Run<'_> {
    fn call(&mut self, call: &Call) {
        let (bases, workers, step) = (&self.bases, self.workers, self.step);
        let weight = |id: &graph::plan::WeightId| &self.weights[id.0 as usize];
        // SAFETY (all calls below): check::program held the operands of each call against its aliasing rule, and calls run one
        // after the other.
        match call {
            Call::Gather { table, first, ids, y } => {
                let (ids, y) = (bases.ids(ids), bases.slab(y));
                // SAFETY: as above.
                unsafe { ops::gather::run(workers, weight(table), *first, ids, y) }
            }
            Call::Positions { table, y } => {
                // SAFETY: as above.
                unsafe { ops::gather::positions(workers, weight(table), step, bases.slab(y)) }
            }
            Call::Contract { x, parts } => {
                let at = |i: usize| Part { weight: weight(&parts[i].0), y: bases.slab(&parts[i].1) };
                let parts = Parts { count: parts.len(), at: &at };
                // SAFETY: as above.
                unsafe { ops::contract::run(workers, bases.read(x), bases.rows(x), parts, self.contract_room) }
            }
            // SAFETY: as above.
            Call::Bias { x, w, y } => unsafe {
                ops::bias::run(workers, bases.slab(x), weight(w).vector(), bases.slab(y))
            },
            Call::Norm { x, w, norm, y } => {
                let scale = Scale { w: weight(w).vector(), norm: *norm };
                // SAFETY: as above.
                unsafe { ops::norm::run(workers, bases.slab(x), scale, bases.slab(y)) }
            }
            Call::AddNorm { a, b, sum, w, norm, y } => {
                let sum = Sum { a: bases.slab(a), b: bases.slab(b), sum: bases.slab(sum) };
                let scale = Scale { w: weight(w).vector(), norm: *norm };
                // SAFETY: as above.
                unsafe { ops::norm::add_run(workers, sum, scale, bases.slab(y)) }
            }
            Call::Rope { x, head_dim, rope, y } => {
                let angles = self.angles.iter().find(|a| a.rope() == rope).expect("Executor::new made every rotation");
                let widths = (x.width as usize, *head_dim as usize);
                // SAFETY: as above.
                unsafe { ops::rope::run(workers, bases.slab(x), widths, angles, bases.slab(y)) }
            }
            Call::Attend { q, k, v, y, cache, kv_heads, group, head_dim, sinks, how } => {
                let [kv_heads, group, head_dim] = [*kv_heads, *group, *head_dim].map(|n| n as usize);
                let heads = Heads { kv_heads, group, head_dim, how: *how };
                let sinks = sinks.as_ref().map(|w| weight(w).vector());
                let [q, k, v, y] = [q, k, v, y].map(|operand| bases.slab(operand));
                let operands = Operands { q, k, v, sinks, y };
                let cache = &mut self.caches[*cache as usize];
                // SAFETY: as above; Gate::admit held the pages against the cache.
                unsafe { ops::attend::run(workers, step, heads, operands, cache, self.attend_room) }
            }
            Call::ShortConv { x, w, state, y } => {
                let (w, channels) = (weight(w).vector(), x.width as usize);
                let operands = ops::short_conv::Operands { x: bases.slab(x), w, y: bases.slab(y), channels };
                // SAFETY: as above; Gate::admit held the step's states against their slots.
                unsafe { ops::short_conv::run(workers, step, operands, &mut self.states[*state as usize]) }
            }
            Call::Scan { q, k, v, dt, beta, a_log, skip, y, state, heads, group, key_dim, value_dim, how } => {
                let [heads, group, key_dim, value_dim] = [heads, group, key_dim, value_dim].map(|n| *n as usize);
                let heads = ops::scan::Heads { heads, group, key_dim, value_dim };
                let [q, k, v, dt, y] = [q, k, v, dt, y].map(|o| bases.slab(o));
                let (beta, a_log) = (beta.as_ref().map(|o| bases.slab(o)), weight(a_log).vector());
                let skip = skip.as_ref().map(|skip| weight(skip).vector());
                let operands = ops::scan::Operands { q, k, v, dt, beta, a_log, skip, y };
                let states = &mut self.states[*state as usize];
                // SAFETY: as above; Gate::admit held the step's states against their slots.
                unsafe { ops::scan::run(workers, step, (heads, *how), operands, states, self.scan_room) }
            }
            Call::ContractEach { x, w, y } => {
                let (w, y) = (weight(w), bases.slab(y));
                let (each, rooms) = (x.width / w.spec().k, (&mut *self.experts_room, &mut *self.contract_room));
                let operand = (bases.read(x), bases.rows(x));
                // SAFETY: as above.
                unsafe { ops::experts::contract_each(workers, operand, each as usize, Part { weight: w, y }, rooms) }
            }
            Call::Concat { a, a_run, b, b_run, y } => {
                let parts = [(a, a_run), (b, b_run)].map(|(x, run)| Runs { x: bases.read(x), run: *run as usize });
                // SAFETY: as above.
                unsafe { ops::runs::concat(workers, parts, bases.slab(y)) }
            }
            Call::Route { x, bias, choices, routing, first, y } => {
                let router = Router {
                    routing,
                    choices: *choices as usize,
                    bias: bias.as_ref().map(|bias| weight(bias).vector()),
                    experts: x.width as usize,
                    first: *first as usize,
                    held: y.width as usize,
                };
                // SAFETY: as above.
                unsafe { ops::route::run(workers, router, bases.read(x), bases.slab(y)) }
            }
            Call::Experts { x, gates, choices, parts } => {
                let at = |i: usize| Part { weight: weight(&parts[i].0), y: bases.slab(&parts[i].1) };
                let spec = weight(&parts[0].0).spec();
                let shape = shape(gates, (*choices, x.width / spec.k), spec, 0);
                let parts = Parts { count: parts.len(), at: &at };
                let rooms = (&mut *self.experts_room, &mut *self.contract_room);
                // SAFETY: as above.
                unsafe { ops::experts::contract(workers, (bases.read(x), bases.read(gates)), shape, parts, rooms) }
            }
            Call::ExpertBias { x, gates, choices, w, y } => {
                let shape = shape(gates, (*choices, *choices), weight(w).spec(), x.width / choices);
                let w = weight(w).vector();
                // SAFETY: as above.
                unsafe { ops::experts::bias(workers, (bases.slab(x), bases.read(gates)), shape, w, bases.slab(y)) }
            }
            Call::Combine { x, gates, choices, w, y } => {
                let shape = shape(gates, (*choices, *choices), weight(w).spec(), 0);
                let part = Part { weight: weight(w), y: bases.slab(y) };
                let rooms = (&mut *self.experts_room, &mut *self.contract_room);
                // SAFETY: as above.
                unsafe { ops::experts::combine(workers, (bases.read(x), bases.read(gates)), shape, part, rooms) }
            }
            Call::Weigh { x, gates, choices, y } => {
                let shape = Shape::whole(gates.width as usize, *choices as usize, *choices as usize);
                // SAFETY: as above.
                unsafe { ops::experts::weigh(workers, (bases.read(x), bases.read(gates)), shape, bases.slab(y)) }
            }
            Call::Gated { gate, up, f, y } => {
                // SAFETY: as above.
                unsafe { ops::gated::run(workers, *f, bases.slab(gate), bases.slab(up), bases.slab(y)) }
            }
            // SAFETY: as above.
            Call::Unary { x, f, y } => unsafe { ops::unary::run(workers, *f, bases.slab(x), bases.slab(y)) },
            Call::Binary { a, b, f, y } => {
                // SAFETY: as above.
                unsafe { ops::binary::run(workers, *f, bases.slab(a), bases.slab(b), bases.slab(y)) }
            }
            Call::Slice { x, block, from, run, y } => {
                let kept = ops::slice::Run { block: *block as usize, from: *from as usize, run: *run as usize };
                // SAFETY: as above.
                unsafe { ops::slice::run(workers, bases.slab(x), kept, bases.slab(y)) }
            }
            Call::SampledRows { x, y } => {
                // SAFETY: as above.
                unsafe {
                    ops::sampled_rows::run(workers, bases.slab(x), &step.sampled, x.width as usize, bases.slab(y))
                }
            }
        }
    }
}
