//! The laws of a plan. All faults are returned, not the first.
//!
//! 0. It is no larger than any cluster needs, so that looking at the other laws takes no longer than reading it.
//! 1. The version is known; actor names are unique; every stage, feed, communicator and sampler has a device that exists; no two
//!    stages of different ranks share a device.
//! 2. Every end of a channel exists, every input port is fed exactly once, and by what its actor wants.
//! 3. Each layer belongs to one stage, and no stage is empty.
//! 4. What lies on a device fits it.
//! 5. Without the samples' way back, no actors form a cycle; tickets and samples have a credit for every step in flight, and
//!    every channel has one.
//! 6. The members of a group post the same collectives in one order.
//! 7. What a GPU has no kernel for is not placed on one: sums in parts, experts in blocks.

use super::PlanError;
use super::call::{Place, Program, RowSet, WeightSpec, WeightUse};
use super::raw::{ActorId, ActorPlan, Carries, End, RawPlan, Role, VERSION};
use std::collections::{BTreeMap, BTreeSet};

/// What a plan may have of each kind: some hundred times what the largest cluster needs. A plan may come from a file.
const ACTORS_MAX: usize = 1 << 16;
const CHANNELS_MAX: usize = 1 << 18;
const DEVICES_MAX: usize = 1 << 12;
const LAYERS_MAX: u32 = 1 << 12;

pub(super) fn check(plan: &RawPlan) -> Vec<PlanError> {
    if plan.version != VERSION {
        return vec![PlanError::Version { found: plan.version, known: VERSION }];
    }
    let mut faults = sizes(plan);
    if !faults.is_empty() {
        return faults;
    }
    actors(plan, &mut faults);
    ends(plan, &mut faults);
    layers(plan, &mut faults);
    budgets(plan, &mut faults);
    credits(plan, &mut faults);
    if let Some(cycle) = cycle(plan) {
        faults.push(PlanError::Deadlock { cycle });
    }
    groups(plan, &mut faults);
    faults
}

/// What there is too much of. The other laws are looked at only where this holds.
fn sizes(plan: &RawPlan) -> Vec<PlanError> {
    let last = |actor: &ActorPlan| match &actor.role {
        Role::Stage { layers, .. } => layers.end,
        Role::Batcher | Role::Pool { .. } | Role::Feed | Role::Communicator { .. } | Role::Sampler { .. } => 0,
    };
    let layers = plan.actors.iter().map(last).fold(plan.layers, u32::max);
    let ports = plan.actors.iter().map(|actor| ports(&actor.role)).max().unwrap_or(0);
    let counts = [
        ("actors", plan.actors.len(), ACTORS_MAX),
        ("channels", plan.channels.len(), CHANNELS_MAX),
        ("devices", plan.devices.len(), DEVICES_MAX),
        ("layers", layers as usize, LAYERS_MAX as usize),
        ("ports of an actor", ports, usize::from(u16::MAX)),
    ];
    let over = counts.into_iter().filter(|(_, found, most)| found > most);
    over.map(|(what, found, most)| PlanError::TooLarge { what, found, most }).collect()
}

/// Inputs or outputs of an actor, whichever are more.
fn ports(role: &Role) -> usize {
    match role {
        Role::Stage { input_widths, output_widths, .. } => (input_widths.len() + 1).max(output_widths.len()),
        Role::Communicator { collectives, .. } => collectives.iter().map(|c| c.inputs.len().max(1)).sum(),
        Role::Sampler { captures, .. } => captures.len() + 2,
        Role::Batcher | Role::Pool { .. } | Role::Feed => 2,
    }
}

fn actors(plan: &RawPlan, faults: &mut Vec<PlanError>) {
    let mut names = BTreeSet::new();
    let mut owner: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for actor in &plan.actors {
        let mut fault = |what: String| faults.push(PlanError::Actor { actor: actor.name.clone(), what });
        if !names.insert(&actor.name) {
            fault("another actor has this name".into());
        }
        let exists = actor.device.is_some_and(|d| d.index() < plan.devices.len());
        let placed = !matches!(actor.role, Role::Batcher | Role::Pool { .. });
        if placed && !exists {
            fault(format!("its device does not exist; there are {}", plan.devices.len()));
        }
        if let (Some(device), Role::Stage { stage, rank, program, .. }) = (actor.device, &actor.role) {
            let first = *owner.entry(device.0).or_insert((*stage, *rank));
            if first != (*stage, *rank) {
                fault(format!("device {} belongs to stage {} rank {}", device.0, first.0, first.1));
            }
            let mut scratch = 0;
            for call in &program.calls {
                call.visit(&mut |_, o| match o.place {
                    Place::Scratch(at) => scratch = scratch.max(at.saturating_add(row_bytes(plan, o.rows, o.width))),
                    Place::Input(_) | Place::Output(_) => {}
                });
            }
            if plan.devices.get(device.index()).is_some_and(|device| device.gpu().is_some()) {
                program.weights.iter().find_map(cores_alone).into_iter().for_each(&mut fault);
            }
            if scratch > program.scratch_bytes {
                fault(format!("an operand lies beyond the {} bytes of scratch", program.scratch_bytes));
            }
        }
    }
}

/// Why a weight cannot be on a GPU.
fn cores_alone(spec: &WeightSpec) -> Option<String> {
    if spec.sum_parts > 1 {
        return Some(
            "sums in a tree are made on the cores alone; leave --numerics tree out, or use --device cpu".into(),
        );
    }
    if spec.integer {
        return Some(format!(
            "integer arithmetic is made on the cores alone; use --quantization {}-weight-only, or --device cpu",
            spec.dtype
        ));
    }
    let blocks = matches!(spec.used, WeightUse::Experts(_)) && spec.dtype.plain().is_none();
    blocks.then(|| {
        format!("experts in {} have no kernel on GPUs; leave --quantization out, or use --device cpu", spec.dtype)
    })
}

fn row_bytes(plan: &RawPlan, rows: RowSet, width: u32) -> u64 {
    let rows = match rows {
        RowSet::All => plan.settings.max_num_batched_tokens,
        RowSet::Sampled => plan.settings.sampled_rows_max,
    };
    (u64::from(rows) * u64::from(width)).saturating_mul(4)
}

/// What each input port of an actor wants.
fn wants(actor: &ActorPlan) -> Vec<Carries> {
    match &actor.role {
        Role::Pool { .. } => vec![],
        Role::Batcher => vec![Carries::Samples],
        Role::Feed => vec![Carries::Ticket, Carries::Samples],
        Role::Sampler { vocabulary, captures } => {
            let logits = Carries::Tensor { width: *vocabulary, rows: RowSet::Sampled };
            let captured = captures.iter().map(|capture| Carries::Tensor { width: capture.width, rows: capture.rows });
            [Carries::Ticket, logits].into_iter().chain(captured).collect()
        }
        Role::Stage { program, input_widths, .. } => {
            let used = inputs_of(program);
            let input = |(n, &width): (usize, &u32)| match used.get(&(n as u16)) {
                Some(Use::Ids) => Carries::Ids,
                Some(&Use::Rows(rows)) => Carries::Tensor { width, rows },
                None => Carries::Tensor { width, rows: RowSet::All },
            };
            std::iter::once(Carries::Ticket).chain(input_widths.iter().enumerate().map(input)).collect()
        }
        Role::Communicator { collectives, .. } => {
            let each =
                |c: &super::CollectivePlan| vec![Carries::Tensor { width: c.width, rows: c.rows }; c.inputs.len()];
            collectives.iter().flat_map(each).collect()
        }
    }
}

/// What a program does with one of its inputs.
enum Use {
    /// A gather reads token ids from it.
    Ids,
    /// It is read as these rows, by the first call that does.
    Rows(RowSet),
}

/// What a program does with its inputs, by their numbers.
fn inputs_of(program: &Program) -> BTreeMap<u16, Use> {
    let mut used = BTreeMap::new();
    for call in &program.calls {
        call.visit(&mut |_, operand| {
            if let Place::Input(number) = operand.place {
                used.entry(number).or_insert(Use::Rows(operand.rows));
            }
        });
    }
    for call in &program.calls {
        if let super::Call::Gather { ids, .. } = call
            && let Place::Input(number) = ids.place
        {
            used.insert(number, Use::Ids);
        }
    }
    used
}

fn outputs(actor: &ActorPlan) -> usize {
    match &actor.role {
        Role::Pool { .. } => 0,
        Role::Batcher | Role::Feed | Role::Sampler { .. } => 1,
        Role::Stage { output_widths, .. } => output_widths.len(),
        Role::Communicator { collectives, .. } => collectives.iter().filter(|c| c.output.is_some()).count(),
    }
}

fn ends(plan: &RawPlan, faults: &mut Vec<PlanError>) {
    let wanted: Vec<Vec<Carries>> = plan.actors.iter().map(wants).collect();
    let mut fed: BTreeMap<End, usize> = BTreeMap::new();
    for channel in &plan.channels {
        let dangling = |end: &End, side| PlanError::Dangling {
            channel: channel.name.clone(),
            actor: plan
                .actors
                .get(end.actor.index())
                .map_or_else(|| format!("actor {}", end.actor.0), |a| a.name.clone()),
            side,
            port: end.port,
        };
        let writer = plan.actors.get(channel.from.actor.index());
        if writer.is_none_or(|a| channel.from.port as usize >= outputs(a)) {
            faults.push(dangling(&channel.from, "output"));
        }
        for end in &channel.to {
            *fed.entry(*end).or_insert(0) += 1;
            match wanted.get(end.actor.index()).and_then(|w| w.get(end.port as usize)) {
                None => faults.push(dangling(end, "input")),
                Some(wants) if *wants != channel.carries => faults.push(PlanError::Mismatch {
                    channel: channel.name.clone(),
                    actor: plan.actors[end.actor.index()].name.clone(),
                    carries: format!("{:?}", channel.carries),
                    wants: format!("{wants:?}"),
                }),
                Some(_) => {}
            }
        }
    }
    for (number, wanted) in wanted.iter().enumerate() {
        for port in 0..wanted.len() as u16 {
            let times = fed.get(&End { actor: ActorId(number as u32), port }).copied().unwrap_or(0);
            if times != 1 {
                faults.push(PlanError::Fed { actor: plan.actors[number].name.clone(), port, times });
            }
        }
    }
}

fn layers(plan: &RawPlan, faults: &mut Vec<PlanError>) {
    let mut stages: BTreeMap<u32, std::ops::Range<u32>> = BTreeMap::new();
    for actor in &plan.actors {
        if let Role::Stage { stage, layers, .. } = &actor.role {
            stages.entry(*stage).or_insert_with(|| layers.clone());
        }
    }
    let empty = stages.iter().filter(|(_, layers)| layers.is_empty());
    faults.extend(empty.map(|(&stage, _)| PlanError::EmptyStage { stage }));
    // How many stages begin less how many end at each layer.
    let last = stages.values().map(|r| r.end).max().unwrap_or(0).max(plan.layers);
    let mut steps = vec![0i64; last as usize + 1];
    for layers in stages.values().filter(|layers| !layers.is_empty()) {
        steps[layers.start as usize] += 1;
        steps[layers.end as usize] -= 1;
    }
    let mut wrong: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    let mut count = 0;
    for layer in 0..last {
        count += steps[layer as usize];
        if (count == 1) != (layer < plan.layers) {
            wrong.entry(count as usize).or_default().push(layer);
        }
    }
    faults.extend(wrong.into_iter().map(|(times, layers)| PlanError::Layers { layers, times }));
}

fn budgets(plan: &RawPlan, faults: &mut Vec<PlanError>) {
    for device in &plan.devices {
        let cache = device.cache_bytes.saturating_add(device.state_bytes);
        let (weights, buffers) = (device.weight_bytes, device.buffer_bytes);
        let needs = weights.saturating_add(cache).saturating_add(buffers);
        if needs > device.memory_bytes {
            let (device, has) = (device.name.clone(), device.memory_bytes);
            faults.push(PlanError::OverBudget { device, needs, has, weights, cache, buffers });
        }
    }
}

fn credits(plan: &RawPlan, faults: &mut Vec<PlanError>) {
    for channel in &plan.channels {
        let in_flight = match channel.carries {
            Carries::Ticket | Carries::Samples => plan.settings.in_flight.max(1),
            Carries::Ids | Carries::Tensor { .. } => 1,
        };
        if channel.credits < in_flight {
            let (channel, credits) = (channel.name.clone(), channel.credits);
            faults.push(PlanError::Credits { channel, credits, in_flight });
        }
    }
}

/// What fires at once: an actor, or one collective of a communicator.
type Unit = (u32, usize);

/// The unit of `actor` that an input (or output) port belongs to.
fn unit(plan: &RawPlan, end: End, output: bool) -> Unit {
    let collective = plan.actors.get(end.actor.index()).and_then(|a| match &a.role {
        Role::Communicator { collectives, .. } => collectives.iter().position(|c| match output {
            true => c.output == Some(end.port),
            false => c.inputs.contains(&end.port),
        }),
        Role::Batcher | Role::Pool { .. } | Role::Feed | Role::Stage { .. } | Role::Sampler { .. } => None,
    });
    (end.actor.0, collective.unwrap_or(0))
}

/// Actors that wait for each other, if any do: a cycle that does not go through the samples' way back.
fn cycle(plan: &RawPlan) -> Option<Vec<String>> {
    let mut after: BTreeMap<Unit, Vec<Unit>> = BTreeMap::new();
    for channel in plan.channels.iter().filter(|c| c.carries != Carries::Samples) {
        let readers = channel.to.iter().map(|&end| unit(plan, end, false));
        after.entry(unit(plan, channel.from, true)).or_default().extend(readers);
    }
    let (mut done, mut open) = (BTreeSet::new(), BTreeSet::new());
    for &start in after.keys() {
        let mut path: Vec<(Unit, usize)> = vec![(start, 0)];
        while let Some((here, next)) = path.pop() {
            if done.contains(&here) {
                continue;
            }
            let Some(&to) = after.get(&here).and_then(|a| a.get(next)) else {
                done.insert(here);
                open.remove(&here);
                continue;
            };
            path.push((here, next + 1));
            open.insert(here);
            if let Some(at) = open.contains(&to).then(|| path.iter().position(|&(u, _)| u == to)).flatten() {
                let name = |u: Unit| {
                    plan.actors.get(u.0 as usize).map_or_else(|| format!("actor {}", u.0), |a| a.name.clone())
                };
                return Some(path[at..].iter().map(|&(u, _)| name(u)).chain([name(to)]).collect());
            }
            path.push((to, 0));
        }
    }
    None
}

fn groups(plan: &RawPlan, faults: &mut Vec<PlanError>) {
    /// A member, and what it posts in which order.
    type Order<'a> = (&'a str, Vec<(super::Move, &'a str)>);
    let mut first: BTreeMap<&str, Order<'_>> = BTreeMap::new();
    for actor in &plan.actors {
        let Role::Communicator { group, collectives, .. } = &actor.role else { continue };
        let order: Vec<_> = collectives.iter().map(|c| (c.how, c.edge.as_str())).collect();
        let (name, known) = first.entry(group).or_insert_with(|| (&actor.name, order.clone()));
        let place = (0..order.len().max(known.len())).find(|&i| order.get(i) != known.get(i));
        if let Some(place) = place {
            let (first, second) = (name.to_string(), actor.name.clone());
            faults.push(PlanError::Collectives { group: group.clone(), first, second, place });
        }
    }
}
