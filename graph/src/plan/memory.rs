//! Pass 5: where in a segment's buffers each value lies, and how many pages of cache there are.
//!
//! A value that others read lies in an output buffer; all others share the scratch memory by first fit over their lifetimes.
//! The result of an op that can work in place lies where its operand does, if nobody else reads that.

use super::call::{CacheSpec, Operand, Place, RowSet};
use super::fuse::{FusedNode, Fusion};
use super::partition::{Partitioned, Segment};
use super::raw::{ActorPlan, RawPlan, Role, Settings, StateSlots, WindowPages};
use super::shard::{Dist, Layout};
use super::{PAGE_ROWS, PlanError};
use crate::axis::{Axis, ValueId};
use crate::dtype::DType;
use crate::op::Op;
use std::collections::BTreeMap;
use std::ops::Range;

/// Scratch offsets are multiples of this.
const ALIGN: u64 = 64;

/// The operands of a segment's values, and the scratch memory they need.
#[derive(Clone, Debug, Default)]
pub(super) struct Placed {
    /// Where each value of the segment lies.
    pub(super) operands: BTreeMap<ValueId, Operand>,
    /// Bytes of scratch for the largest step.
    pub(super) scratch_bytes: u64,
}

impl Partitioned {
    /// Length of an axis of a value as one rank holds it.
    pub fn local(&self, value: ValueId, axis: Axis) -> u32 {
        let length = self.model.length(axis).unwrap_or(1);
        let split = self.values[value.index()].1 == Dist::Held(Layout::Split(axis));
        if split { length / self.ranks } else { length }
    }

    /// Elements of a row of a value as one rank holds it.
    pub fn width(&self, value: ValueId) -> u32 {
        let axes = &self.model.nodes()[self.values[value.index()].0.index()].axes;
        axes[1..].iter().map(|&a| self.local(value, a)).product()
    }

    /// Which rows a value has.
    pub fn rows(&self, value: ValueId, sampled: &[bool]) -> RowSet {
        if sampled[self.values[value.index()].0.index()] { RowSet::Sampled } else { RowSet::All }
    }

    /// Bytes of a value in the largest step.
    pub fn bytes(&self, value: ValueId, rows: RowSet, settings: &Settings) -> u64 {
        let rows = match rows {
            RowSet::All => settings.max_num_batched_tokens,
            RowSet::Sampled => settings.sampled_rows_max,
        };
        u64::from(self.width(value)) * u64::from(rows) * DType::F32.bytes() as u64
    }
}

/// Places every value of `segment`.
pub(super) fn place(whole: &Partitioned, segment: &Segment, sampled: &[bool], settings: &Settings) -> Placed {
    let mut placed = Placed::default();
    let operand = |value: ValueId, place| {
        let (width, rows) = (whole.width(value), whole.rows(value, sampled));
        Operand { place, width, rows }
    };
    for (port, &value) in segment.inputs.iter().enumerate() {
        placed.operands.insert(value, operand(value, Place::Input(port as u16)));
    }
    let storage = storages(segment);
    for (port, value) in segment.outputs.iter().enumerate() {
        let place = Place::Output(port as u16);
        for (&member, _) in storage.iter().filter(|(_, root)| **root == storage[value]) {
            placed.operands.insert(member, operand(member, place));
        }
    }
    let mut live: Vec<(Range<usize>, Range<u64>)> = vec![];
    for (&root, lifetime) in &lifetimes(segment, &storage) {
        if placed.operands.contains_key(&root) {
            continue;
        }
        let bytes = whole.bytes(root, whole.rows(root, sampled), settings).next_multiple_of(ALIGN);
        let at = first_fit(&live, lifetime, bytes);
        live.push((lifetime.clone(), at..at + bytes));
        placed.scratch_bytes = placed.scratch_bytes.max(at + bytes);
        for (&member, _) in storage.iter().filter(|(_, r)| **r == root) {
            placed.operands.insert(member, operand(member, Place::Scratch(at)));
        }
    }
    placed
}

/// The value in whose memory each result of the segment lies: its own, or that of the operand it overwrites.
fn storages(segment: &Segment) -> BTreeMap<ValueId, ValueId> {
    let mut storage = BTreeMap::new();
    for node in &segment.nodes {
        let over = overwritten(node, segment).and_then(|x| storage.get(&x).copied());
        for &result in &node.results {
            storage.insert(result, over.unwrap_or(result));
        }
    }
    storage
}

/// The operand that a node changes in place: one of its own segment that nobody else reads.
fn overwritten(node: &FusedNode, segment: &Segment) -> Option<ValueId> {
    let x = match node.work {
        Fusion::Op(Op::Rope { x, .. } | Op::Bias { x, .. } | Op::ExpertBias { x, .. }) => Some(x),
        Fusion::Op(_)
        | Fusion::Contract { .. }
        | Fusion::Experts { .. }
        | Fusion::Gated { .. }
        | Fusion::AddNorm { .. }
        | Fusion::Move(..) => None,
    };
    let readers = |x: &ValueId| segment.nodes.iter().filter(|n| n.work.operands().contains(x)).count();
    x.filter(|x| readers(x) == 1 && !segment.outputs.contains(x))
}

/// From the node that first writes a storage to the one that last reads it, inclusive; in order of the first write.
fn lifetimes(segment: &Segment, storage: &BTreeMap<ValueId, ValueId>) -> BTreeMap<ValueId, Range<usize>> {
    let mut lifetimes: BTreeMap<ValueId, Range<usize>> = BTreeMap::new();
    for (number, node) in segment.nodes.iter().enumerate() {
        for value in node.work.operands().iter().chain(&node.results) {
            if let Some(root) = storage.get(value) {
                lifetimes.entry(*root).or_insert(number..number + 1).end = number + 1;
            }
        }
    }
    lifetimes
}

/// The lowest offset at which `bytes` overlap nothing that lives at the same time.
fn first_fit(live: &[(Range<usize>, Range<u64>)], lifetime: &Range<usize>, bytes: u64) -> u64 {
    let mut taken: Vec<&Range<u64>> =
        live.iter().filter(|(l, _)| l.start < lifetime.end && lifetime.start < l.end).map(|(_, at)| at).collect();
    taken.sort_by_key(|at| at.start);
    let mut offset = 0;
    for at in taken {
        if offset + bytes <= at.start {
            break;
        }
        offset = offset.max(at.end);
    }
    offset
}

/// What the cache of one device is to hold, and what it may take.
pub(super) struct CacheNeed {
    pub(super) device: String,
    /// All cache layers on the device that keep a whole sequence.
    pub(super) caches: Vec<CacheSpec>,
    /// Those that keep a window.
    pub(super) windowed: Vec<CacheSpec>,
    /// Bytes of one slot of all recurrent states on the device.
    pub(super) slot_bytes: u64,
    /// Bytes that all of it may take.
    pub(super) budget: u64,
}

impl CacheNeed {
    /// Bytes of one page of all cache layers.
    pub(super) fn page_bytes(&self) -> u64 {
        self.caches.iter().map(|c| c.page_bytes(PAGE_ROWS)).sum()
    }

    /// Bytes of one page of all layers with a window.
    pub(super) fn window_bytes(&self) -> u64 {
        self.windowed.iter().map(|c| c.page_bytes(PAGE_ROWS)).sum()
    }
}

/// Snapshots a sequence, where there is room for them.
const SNAPSHOTS_EACH: u32 = 4;

/// Slots of recurrent state, within half of what is there where there are pages as well; what they take is off the budgets then. A
/// running sequence has two. What it does not take is for snapshots, at most [`SNAPSHOTS_EACH`] a sequence. The smallest device decides.
pub(super) fn slots(
    needs: &mut [CacheNeed],
    settings: &mut Settings,
    sequences_given: bool,
    faults: &mut Vec<PlanError>,
) -> StateSlots {
    let mut most = u64::from(u32::MAX / 2);
    for need in needs.iter().filter(|need| need.slot_bytes > 0) {
        let alone = need.caches.is_empty() && need.windowed.is_empty();
        let share = if alone { need.budget } else { need.budget / 2 };
        let fits = share / need.slot_bytes;
        let wanted = if sequences_given { settings.max_num_seqs } else { 1 };
        if fits < 2 * u64::from(wanted) {
            let (device, slot) = (need.device.clone(), need.slot_bytes);
            faults.push(PlanError::StatesTooLarge { device, sequences: wanted, slot, has: share, fits: fits / 2 });
        }
        most = most.min(fits);
    }
    if needs.iter().all(|need| need.slot_bytes == 0) {
        return StateSlots::default();
    }
    let sequences = u64::from(settings.max_num_seqs).min(most / 2).max(1) as u32;
    if sequences < settings.max_num_seqs && !sequences_given {
        let note = format!(
            "max-num-seqs lowered from {} to {sequences}: two slots of recurrent state a sequence",
            settings.max_num_seqs
        );
        settings.notes.push(note);
        settings.max_num_seqs = sequences;
    }
    let running = 2 * settings.max_num_seqs;
    let snapshots = most.saturating_sub(running.into()).min(u64::from(SNAPSHOTS_EACH * settings.max_num_seqs)) as u32;
    for need in needs {
        need.budget = need.budget.saturating_sub(need.slot_bytes * u64::from(running + snapshots));
    }
    StateSlots { running, snapshots }
}

/// The largest window of a plan's layers; 0 where there is none, or one that is no shorter than the longest sequence.
pub(super) fn window(plan: &RawPlan) -> u32 {
    let of_actor = |actor: &ActorPlan| match &actor.role {
        Role::Stage { program, .. } => program.windows().into_iter().flatten().max(),
        Role::Batcher | Role::Pool { .. } | Role::Feed | Role::Communicator { .. } | Role::Sampler { .. } => None,
    };
    let largest = plan.actors.iter().filter_map(of_actor).max().unwrap_or(0);
    if largest < plan.settings.max_model_len { largest } else { 0 }
}

/// Pages that running sequences and the steps in flight can need of layers with a window.
///
/// Between steps a sequence holds the pages of its window, and one more at either end; within one as many more as its rows fill. Pages
/// behind the window that are not yet known to be written wait for that, at most those of the steps in flight.
fn window_need(window: u32, settings: &Settings) -> u64 {
    let (rows, sequences) = (u64::from(settings.max_num_batched_tokens), u64::from(settings.max_num_seqs));
    let a_step = rows.div_ceil(PAGE_ROWS.into()) + sequences;
    sequences * (u64::from(window.div_ceil(PAGE_ROWS)) + 2) + (u64::from(settings.in_flight) + 1) * a_step
}

/// Pages of layers with a window, within half of what is there where other layers keep whole sequences; what they take is off the
/// budgets then. The smallest device decides.
pub(super) fn windows(
    needs: &mut [CacheNeed],
    window: u32,
    settings: &mut Settings,
    sequences_given: bool,
    faults: &mut Vec<PlanError>,
) -> WindowPages {
    if window == 0 {
        return WindowPages::default();
    }
    let share = |need: &CacheNeed| if need.caches.is_empty() { need.budget } else { need.budget / 2 };
    let bounded = needs.iter().filter(|need| need.window_bytes() > 0);
    let fits = bounded.clone().map(|need| share(need) / need.window_bytes()).min().unwrap_or(0);
    let asked = settings.max_num_seqs;
    while !sequences_given && settings.max_num_seqs > 1 && window_need(window, settings) > fits {
        settings.max_num_seqs = settings.max_num_seqs.saturating_sub(settings.max_num_seqs.div_ceil(16)).max(1);
    }
    let pages = window_need(window, settings);
    if pages > fits {
        let tight = bounded.min_by_key(|need| share(need) / need.window_bytes());
        if let Some((device, need)) = tight.map(|need| (need.device.clone(), need)) {
            let (needs, has) = (pages * need.window_bytes(), share(need));
            faults.push(PlanError::WindowsTooLarge { device, sequences: settings.max_num_seqs, window, needs, has });
        }
    } else if settings.max_num_seqs < asked {
        let note =
            format!("max-num-seqs lowered from {asked} to {}: pages of layers with a window", settings.max_num_seqs);
        settings.notes.push(note);
    }
    for need in needs {
        need.budget = need.budget.saturating_sub(need.window_bytes() * pages);
    }
    WindowPages { pages: pages.min(u64::from(u32::MAX / 2)) as u32, window }
}

/// Pages of the pool: those asked for by `--kv-cache-memory-bytes`, or what the largest batch needs, within what is free.
/// The smallest device decides, because every device keeps the same page numbers.
pub(super) fn pages(needs: &[CacheNeed], settings: &mut Settings, faults: &mut Vec<PlanError>) -> u32 {
    let a_sequence = settings.max_model_len.div_ceil(PAGE_ROWS);
    let wanted = u64::from(a_sequence) * u64::from(settings.max_num_seqs) + 1;
    let mut pages = wanted.min(u64::from(u32::MAX / 2));
    for need in needs {
        let a_page = need.page_bytes();
        if a_page == 0 {
            continue;
        }
        let budget = need.budget;
        let fits = budget / a_page;
        pages = pages.min(fits);
        if fits < u64::from(a_sequence) && settings.max_model_len_given {
            faults.push(PlanError::CacheTooSmall {
                device: need.device.clone(),
                length: settings.max_model_len,
                needs: u64::from(a_sequence) * a_page,
                has: budget,
                fits: fits * u64::from(PAGE_ROWS),
            });
        } else if fits == 0 {
            let (length, has) = (PAGE_ROWS, budget);
            faults.push(PlanError::CacheTooSmall { device: need.device.clone(), length, needs: a_page, has, fits: 0 });
        }
    }
    if pages < u64::from(a_sequence) && faults.is_empty() {
        let length = (pages * u64::from(PAGE_ROWS)) as u32;
        let note = format!("max-model-len lowered from {} to {length}: what the cache holds", settings.max_model_len);
        settings.max_model_len = length;
        settings.notes.push(note);
    }
    pages as u32
}
