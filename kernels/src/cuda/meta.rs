//! What kernels read of a step: one buffer of i32 on the device, written by one copy a step.

use super::driver::{Address, Device, DeviceMemory, DriverFault, Pinned, Stream};
use super::launch::Counts;
use crate::executor::Limits;
use crate::step::{GONE, Step};
use graph::plan::PAGE_ROWS;
use std::sync::Arc;

/// Positions of a split of a generated row's past; as in ops/attend/triton.py.
pub(crate) const SPLIT: u32 = 256;

/// Where each list begins, in i32.
#[derive(Clone, Copy, Debug)]
struct Layout {
    portions: u32,
    row_position: u32,
    row_span: u32,
    span_first_row: u32,
    span_rows: u32,
    span_start: u32,
    span_prompt: u32,
    span_first_page: u32,
    sampled: u32,
    state_from: u32,
    state_to: u32,
    span_first_snap: u32,
    snap_span: u32,
    snap_end: u32,
    snap_slot: u32,
    generated: u32,
    tile_span: u32,
    tile_row: u32,
    pages: u32,
    windows: u32,
    end: u32,
}

/// Counts in front: rows, sampled rows, tiles, spans, snapshots.
const COUNTS: u32 = 5;

/// Bounds of the lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) limits: Limits,
    /// Prompt rows of a tile.
    pub(crate) tile_rows: u32,
    /// Generated rows that are taken at once.
    pub(crate) portion: u32,
}

impl Layout {
    fn new(Bounds { limits, tile_rows, portion }: Bounds) -> Self {
        let (rows, spans) = (limits.rows_max, limits.spans_max);
        let table = spans * limits.span_pages_max;
        let mut end = 0;
        let mut list = |length: u32| {
            let at = end;
            // Lists begin on boundaries of 64 bytes.
            end += length.next_multiple_of(16);
            at
        };
        list(COUNTS);
        let tiles = rows / tile_rows + spans;
        let states = if limits.slots > 0 { spans } else { 0 };
        // A snapshot lies at a page border of a step's rows.
        let snapshots = if limits.slots > 0 { spans + rows.div_ceil(PAGE_ROWS) } else { 0 };
        Self {
            portions: list(rows.div_ceil(portion)),
            row_position: list(rows),
            row_span: list(rows),
            span_first_row: list(spans),
            span_rows: list(spans),
            span_start: list(spans),
            span_prompt: list(spans),
            span_first_page: list(spans),
            sampled: list(limits.sampled_max),
            state_from: list(states),
            state_to: list(states),
            span_first_snap: list(states + 1),
            snap_span: list(snapshots),
            snap_end: list(snapshots),
            snap_slot: list(snapshots),
            generated: list(rows),
            tile_span: list(tiles),
            tile_row: list(tiles),
            pages: list(table),
            windows: list(if limits.window_pages > 0 { table } else { 0 }),
            end,
        }
    }
}

/// The buffer, and its copy on the host.
#[derive(Debug)]
pub(crate) struct Meta {
    layout: Layout,
    bounds: Bounds,
    host: Pinned,
    device: DeviceMemory,
}

impl Meta {
    pub(crate) fn new(device: &Arc<Device>, bounds: Bounds) -> Result<Self, DriverFault> {
        let layout = Layout::new(bounds);
        let bytes = u64::from(layout.end.max(1)) * 4;
        let host = Pinned::zeroed(device, bytes as usize)?;
        Ok(Self { layout, bounds, host, device: DeviceMemory::zeroed(device, bytes, "the shape of a step")? })
    }

    fn at(&self, list: u32) -> Address {
        self.device.address().offset(u64::from(list) * 4)
    }

    pub(crate) fn rows(&self) -> Address {
        self.at(0)
    }

    pub(crate) fn sampled_count(&self) -> Address {
        self.at(1)
    }

    pub(crate) fn tiles(&self) -> Address {
        self.at(2)
    }

    pub(crate) fn spans(&self) -> Address {
        self.at(3)
    }

    pub(crate) fn snapshots(&self) -> Address {
        self.at(4)
    }

    pub(crate) fn state_from(&self) -> Address {
        self.at(self.layout.state_from)
    }

    pub(crate) fn state_to(&self) -> Address {
        self.at(self.layout.state_to)
    }

    pub(crate) fn span_first_snap(&self) -> Address {
        self.at(self.layout.span_first_snap)
    }

    pub(crate) fn snap_span(&self) -> Address {
        self.at(self.layout.snap_span)
    }

    pub(crate) fn snap_end(&self) -> Address {
        self.at(self.layout.snap_end)
    }

    pub(crate) fn snap_slot(&self) -> Address {
        self.at(self.layout.snap_slot)
    }

    /// The count of generated rows in a portion.
    pub(crate) fn portion(&self, number: u32) -> Address {
        self.at(self.layout.portions + number)
    }

    /// The generated rows of a portion.
    pub(crate) fn generated(&self, number: u32) -> Address {
        self.at(self.layout.generated + number * self.bounds.portion)
    }

    pub(crate) fn row_position(&self) -> Address {
        self.at(self.layout.row_position)
    }

    pub(crate) fn row_span(&self) -> Address {
        self.at(self.layout.row_span)
    }

    pub(crate) fn span_first_row(&self) -> Address {
        self.at(self.layout.span_first_row)
    }

    pub(crate) fn span_rows(&self) -> Address {
        self.at(self.layout.span_rows)
    }

    pub(crate) fn span_start(&self) -> Address {
        self.at(self.layout.span_start)
    }

    pub(crate) fn span_prompt(&self) -> Address {
        self.at(self.layout.span_prompt)
    }

    pub(crate) fn span_first_page(&self) -> Address {
        self.at(self.layout.span_first_page)
    }

    pub(crate) fn sampled(&self) -> Address {
        self.at(self.layout.sampled)
    }

    pub(crate) fn tile_span(&self) -> Address {
        self.at(self.layout.tile_span)
    }

    pub(crate) fn tile_row(&self) -> Address {
        self.at(self.layout.tile_row)
    }

    /// The page table of a layer, by whether it has a window of its own.
    pub(crate) fn table(&self, is_windowed: bool) -> Address {
        self.at(if is_windowed { self.layout.windows } else { self.layout.pages })
    }

    /// Writes a step, which was held against the limits, and enqueues its copy. The buffer must not be in use by an earlier step.
    pub(crate) fn fill(&mut self, step: &Step, stream: &Stream) -> Result<Counts, DriverFault> {
        let (layout, bounds) = (self.layout, self.bounds);
        let list = self.host.as_i32_mut();
        let mut counts = Counts { rows: step.rows, sampled: step.sampled.len() as u32, ..Counts::default() };
        for (number, span) in step.spans.iter().enumerate() {
            let prompt = span.prompt_rows();
            for row in 0..span.rows {
                let at = (span.first_row + row) as usize;
                list[layout.row_position as usize + at] = (span.start + row) as i32;
                list[layout.row_span as usize + at] = number as i32;
                if row >= prompt {
                    list[(layout.generated + counts.generated) as usize] = at as i32;
                    counts.generated += 1;
                }
            }
            for first in (0..prompt).step_by(bounds.tile_rows as usize) {
                list[(layout.tile_span + counts.tiles) as usize] = number as i32;
                list[(layout.tile_row + counts.tiles) as usize] = first as i32;
                counts.tiles += 1;
            }
            if prompt < span.rows {
                counts.splits = counts.splits.max((span.start + span.rows).div_ceil(SPLIT));
            }
            for (list_at, value) in [
                (layout.span_first_row, span.first_row),
                (layout.span_rows, span.rows),
                (layout.span_start, span.start),
                (layout.span_prompt, span.prompt),
                (layout.span_first_page, span.first_page),
            ] {
                list[list_at as usize + number] = value.min(i32::MAX as u32) as i32;
            }
        }
        list[0] = step.rows as i32;
        list[1] = step.sampled.len() as i32;
        list[2] = counts.tiles as i32;
        counts.spans = step.spans.len() as u32;
        counts.snapshots = step.snapshots.len() as u32;
        list[3] = counts.spans as i32;
        list[4] = counts.snapshots as i32;
        states(&layout, step, list);
        for number in 0..bounds.limits.rows_max.div_ceil(bounds.portion) {
            let left = counts.generated.saturating_sub(number * bounds.portion).min(bounds.portion);
            list[(layout.portions + number) as usize] = left as i32;
        }
        copy(&mut list[layout.sampled as usize..], &step.sampled);
        copy(&mut list[layout.pages as usize..], &step.pages);
        copy(&mut list[layout.windows as usize..], &step.windows);
        let used = |from: u32, length: usize| from as usize * 4..(from as usize + length) * 4;
        let ranges = [used(0, layout.pages as usize + step.pages.len()), used(layout.windows, step.windows.len())];
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            let to = self.device.address().offset(range.start as u64);
            // SAFETY: host and device have the same length, and the caller's word that nobody uses the buffer.
            unsafe { stream.upload(&self.host.as_bytes()[range], to)? };
        }
        Ok(counts)
    }

    /// Splits that a sequence can have.
    pub(crate) fn splits_max(limits: &Limits) -> u32 {
        (limits.span_pages_max * PAGE_ROWS).div_ceil(SPLIT).max(1)
    }
}

/// Writes where the states of a step lie.
fn states(layout: &Layout, step: &Step, list: &mut [i32]) {
    let mut put = |from: u32, at: usize, value: u32| list[from as usize + at] = value as i32;
    for (number, state) in step.states.iter().enumerate() {
        put(layout.state_from, number, state.from.unwrap_or(GONE));
        put(layout.state_to, number, state.to);
        put(layout.span_first_snap, number, state.first_snapshot);
        put(layout.span_first_snap, number + 1, state.first_snapshot + state.snapshots);
        for (behind, snapshot) in step.snapshots_of(state).iter().enumerate() {
            let at = state.first_snapshot as usize + behind;
            put(layout.snap_span, at, number as u32);
            put(layout.snap_end, at, snapshot.end);
            put(layout.snap_slot, at, snapshot.slot);
        }
    }
}

/// Numbers as the device reads them; a page that is gone is below zero.
fn copy(to: &mut [i32], from: &[u32]) {
    const _: () = assert!(GONE as i32 == -1, "a page that is gone is below zero");
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from as i32;
    }
}
