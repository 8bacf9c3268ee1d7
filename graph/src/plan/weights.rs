//! The weights of one segment as one rank loads them.

use super::call::{Cut, WeightId, WeightSpec, WeightUse};
use super::partition::Partitioned;
use super::raw::{DeviceId, RawPlan, Role};
use super::{Deployment, Numerics, Quantization, tree};
use crate::axis::ParamId;
use crate::dtype::{DType, WeightType};
use crate::op::Op;

/// Collects the weights that a segment's calls use; a weight used twice is loaded once.
pub(super) struct Weights<'a> {
    whole: &'a Partitioned,
    dtype: &'a dyn Fn(&str) -> DType,
    quantization: Option<Quantization>,
    rank: u32,
    numerics: Numerics,
    params: Vec<ParamId>,
    pub(super) specs: Vec<WeightSpec>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(whole: &'a Partitioned, deployment: &'a Deployment<'a>, rank: u32) -> Self {
        let &Deployment { weight_dtype: dtype, quantization, numerics, .. } = deployment;
        Self { whole, dtype, quantization, rank, numerics, params: vec![], specs: vec![] }
    }

    /// A weight as the right side of a contraction. A table that is contracted as well becomes panels.
    pub(super) fn panels(&mut self, param: ParamId) -> WeightId {
        let id = self.add(param, WeightUse::Panels, self.outputs(param));
        self.specs[id.0 as usize].used = WeightUse::Panels;
        self.specs[id.0 as usize].sum_parts = self.sum_parts(param);
        self.quantize(id, param);
        id
    }

    /// A weight as a lookup table, and the id of its first entry on this rank.
    ///
    /// A tied head that is quantised is so wherever it is read: the bits of a row do not depend on where the pipeline is cut.
    pub(super) fn table(&mut self, param: ParamId) -> (WeightId, u32) {
        let first = self.cut(param).filter(|c| c.dim == 0).map_or(0, |c| c.from);
        let is_tied = || self.whole.model.nodes().iter().any(|n| matches!(n.op, Op::Contract { w, .. } if w == param));
        let id = if self.quantization.is_some() && is_tied() {
            self.panels(param)
        } else {
            self.add(param, WeightUse::Table, 1)
        };
        (id, first)
    }

    /// A weight as the right sides of its experts' contractions.
    pub(super) fn experts(&mut self, param: ParamId) -> WeightId {
        let id = self.add(param, WeightUse::Experts(1), self.outputs(param));
        self.specs[id.0 as usize].sum_parts = self.sum_parts(param);
        let spec = &mut self.specs[id.0 as usize];
        if let WeightUse::Experts(1) = spec.used {
            let experts = spec.cut.filter(|cut| cut.dim == 0).map_or(spec.dims[0], |cut| cut.len);
            (spec.used, spec.n) = (WeightUse::Experts(experts), spec.n / experts);
        }
        self.quantize(id, param);
        id
    }

    /// A weight as a vector.
    pub(super) fn vector(&mut self, param: ParamId) -> WeightId {
        let all = self.whole.model.param(param).axes.len();
        let id = self.add(param, WeightUse::Vector, all);
        self.specs[id.0 as usize].dtype = WeightType::F32;
        id
    }

    /// Quantises the weight of a contraction, if that is asked for. Routers stay as they are, and so does what has no whole blocks in a
    /// run of its sums: a block is that of the whole tensor, whoever has it.
    fn quantize(&mut self, id: WeightId, param: ParamId) {
        let Some(quantization) = self.quantization.filter(|_| !self.is_router(param)) else { return };
        let spec = &mut self.specs[id.0 as usize];
        if spec.k.is_multiple_of(quantization.weights().run() * spec.sum_parts) {
            (spec.dtype, spec.integer) = (quantization.weights(), quantization.is_integer());
        }
    }

    /// Whether experts are chosen by what a weight makes.
    fn is_router(&self, param: ParamId) -> bool {
        let nodes = self.whole.model.nodes();
        nodes.iter().any(|node| {
            let Op::Route { mut x, .. } = node.op else { return false };
            if let Op::Bias { x: plain, .. } = nodes[x.index()].op {
                x = plain;
            }
            matches!(nodes[x.index()].op, Op::Contract { w, .. } if w == param)
        })
    }

    /// Parts of the sums of a contraction on this rank.
    fn sum_parts(&self, param: ParamId) -> u32 {
        match self.numerics {
            Numerics::Invariant => 1,
            Numerics::Tree => {
                let cut = self.whole.cuts[param.index()].filter(|_| self.whole.ranks > 1);
                tree::of_weight(&self.whole.model, param, cut, self.whole.ranks)
            }
        }
    }

    /// How many leading axes of a contracted weight are outputs: those that the contraction's operand lacks.
    fn outputs(&self, param: ParamId) -> usize {
        let nodes = self.whole.model.nodes();
        let summed = nodes.iter().find_map(|n| match n.op {
            Op::Contract { x, w } | Op::Experts { x, w, .. } | Op::Combine { x, w, .. } if w == param => {
                let x = &nodes[x.index()].axes;
                Some(self.whole.model.param(param).axes.iter().filter(|a| x.contains(a)).count())
            }
            Op::ContractEach { x, w } if w == param => {
                let (x, w) = (&nodes[x.index()].axes, &self.whole.model.param(param).axes);
                Some(x.iter().rev().take_while(|a| **a != w[0]).count())
            }
            Op::Contract { .. }
            | Op::ContractEach { .. }
            | Op::Concat { .. }
            | Op::Prefix { .. }
            | Op::Weigh { .. }
            | Op::Experts { .. }
            | Op::Combine { .. }
            | Op::ExpertBias { .. }
            | Op::Route { .. }
            | Op::Tokens
            | Op::Gather { .. }
            | Op::Positions { .. }
            | Op::Bias { .. }
            | Op::Norm { .. }
            | Op::Rope { .. }
            | Op::Attend { .. }
            | Op::ShortConv { .. }
            | Op::Scan { .. }
            | Op::Unary(..)
            | Op::Binary(..)
            | Op::SampledRows(_) => None,
        });
        self.whole.model.param(param).axes.len() - summed.unwrap_or(0)
    }

    fn cut(&self, param: ParamId) -> Option<Cut> {
        let dim = self.whole.cuts[param.index()]?;
        let length = self.whole.model.length(self.whole.model.param(param).axes[dim]).unwrap_or(1);
        let len = length / self.whole.ranks;
        Some(Cut { dim: dim as u32, from: self.rank * len, len })
    }

    fn add(&mut self, param: ParamId, used: WeightUse, rows: usize) -> WeightId {
        if let Some(known) = self.params.iter().position(|&p| p == param) {
            return WeightId(known as u32);
        }
        let def = self.whole.model.param(param);
        let dims: Vec<u32> = def.axes.iter().map(|&a| self.whole.model.length(a).unwrap_or(1)).collect();
        let cut = self.cut(param);
        let local = |dim: usize| cut.filter(|c| c.dim as usize == dim).map_or(dims[dim], |c| c.len);
        let n = (0..rows).map(local).product();
        let k = (rows..dims.len()).map(local).product();
        let dtype = WeightType::of((self.dtype)(&def.name)).expect("weights are floats");
        self.specs.push(WeightSpec {
            name: def.name.clone(),
            dims,
            stored: self.whole.model.strides(param),
            cut,
            used,
            n,
            k,
            sum_parts: 1,
            dtype,
            integer: false,
        });
        self.params.push(param);
        WeightId(self.specs.len() as u32 - 1)
    }
}

/// Makes one weight of a table and panels that hold the same rows on the same device: a table can be read from panels.
pub(super) fn share(plan: &mut RawPlan) {
    let panels: Vec<_> = on_devices(plan).filter(|(_, spec)| spec.used == WeightUse::Panels).collect();
    let of = |spec: &WeightSpec| (spec.name.clone(), spec.stored.clone(), spec.cut);
    let panels: Vec<_> = panels.into_iter().map(|(device, spec)| (device, of(spec))).collect();
    for actor in &mut plan.actors {
        let (Some(device), Role::Stage { program, .. }) = (actor.device, &mut actor.role) else { continue };
        for spec in program.weights.iter_mut().filter(|spec| spec.used == WeightUse::Table) {
            if panels.iter().any(|(at, held)| *at == device && *held == of(spec)) {
                spec.used = WeightUse::Panels;
            }
        }
    }
}

/// Bytes of weights on each device, each weight once however many stages there use it.
pub(super) fn device_bytes(plan: &RawPlan) -> Vec<u64> {
    let mut bytes = vec![0; plan.devices.len()];
    let mut seen: Vec<(DeviceId, &WeightSpec)> = vec![];
    for (device, spec) in on_devices(plan) {
        if !seen.contains(&(device, spec)) {
            seen.push((device, spec));
            if let Some(held) = bytes.get_mut(device.index()) {
                *held += weight_bytes(spec);
            }
        }
    }
    bytes
}

fn on_devices(plan: &RawPlan) -> impl Iterator<Item = (DeviceId, &WeightSpec)> {
    plan.actors.iter().flat_map(|actor| {
        let specs = match (&actor.role, actor.device) {
            (Role::Stage { program, .. }, Some(device)) => program.weights.iter().map(|spec| (device, spec)).collect(),
            (
                Role::Batcher
                | Role::Pool { .. }
                | Role::Feed
                | Role::Stage { .. }
                | Role::Communicator { .. }
                | Role::Sampler { .. },
                _,
            ) => vec![],
        };
        specs.into_iter()
    })
}

/// Bytes of a weight in memory: panels have 16 outputs, and belong to one expert.
pub(super) fn weight_bytes(spec: &WeightSpec) -> u64 {
    let rows = match spec.used {
        WeightUse::Panels => u64::from(spec.n.next_multiple_of(16)),
        WeightUse::Experts(experts) => u64::from(experts) * u64::from(spec.n.next_multiple_of(16)),
        WeightUse::Table | WeightUse::Vector => u64::from(spec.n),
    };
    rows * spec.dtype.row_bytes(spec.k.into())
}
