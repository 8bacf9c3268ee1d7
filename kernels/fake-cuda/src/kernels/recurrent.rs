//! Short convolutions and scans.

use crate::arguments::{Arguments, Buffer};

const CHUNK: usize = 16;

fn list(a: &Arguments<'_>, name: &str, at: usize) -> usize {
    a.buffer(name).int(at) as usize
}

pub(super) fn convolve(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let row = id[0];
    if row as i64 >= a.buffer("rows").int(0) {
        return;
    }
    let [channels, taps, slot_len, block] = [a.int("channels"), a.int("taps"), a.int("slot_len"), a.constant("BLOCK")];
    let span = list(a, "row_span", row);
    let inside = row - list(a, "span_first_row", span);
    let slot = usize::try_from(a.buffer("state_from").int(span)).ok();
    let (x, w, y, states) = (a.buffer("x"), a.buffer("w"), a.buffer("y"), a.buffer("states"));
    for channel in id[1] * block..channels.min((id[1] + 1) * block) {
        let value = |tap: usize| match (inside + tap).checked_sub(taps - 1) {
            Some(_) => x.get((row + tap - (taps - 1)) * channels + channel),
            None => slot.map_or(0.0, |slot| states.get(slot * slot_len + (inside + tap) * channels + channel)),
        };
        y.set(row * channels + channel, (0..taps).fold(0.0, |sum, tap| sum + w.get(channel * taps + tap) * value(tap)));
    }
}

pub(super) fn keep(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let [channels, taps, slot_len, block] = [a.int("channels"), a.int("taps"), a.int("slot_len"), a.constant("BLOCK")];
    let (spans, snapshots) = (list(a, "spans", 0), list(a, "snapshots", 0));
    if id[0] >= spans + snapshots {
        return;
    }
    let (span, inside, to) = match id[0].checked_sub(spans) {
        None => (id[0], list(a, "span_rows", id[0]), list(a, "state_to", id[0])),
        Some(snapshot) => {
            let span = list(a, "snap_span", snapshot);
            let inside = list(a, "snap_end", snapshot) - list(a, "span_start", span);
            (span, inside, list(a, "snap_slot", snapshot))
        }
    };
    let slot = usize::try_from(a.buffer("state_from").int(span)).ok();
    let first = list(a, "span_first_row", span);
    let (x, states) = (a.buffer("x"), a.buffer("states"));
    for channel in id[1] * block..channels.min((id[1] + 1) * block) {
        for held in 0..taps - 1 {
            let value = match (inside + held).checked_sub(taps - 1) {
                Some(at) => x.get((first + at) * channels + channel),
                None => slot.map_or(0.0, |slot| states.get(slot * slot_len + (inside + held) * channels + channel)),
            };
            states.set(to * slot_len + held * channels + channel, value);
        }
    }
}

/// A head of values of a span, and the block of its values that a program has.
struct Head<'a> {
    a: &'a Arguments<'a>,
    head: usize,
    value_head: usize,
    values: usize,
    heads: usize,
    key_dim: usize,
    value_dim: usize,
    slot_len: usize,
    columns: std::ops::Range<usize>,
    states: Buffer,
    is_delta: bool,
}

impl<'a> Head<'a> {
    fn new(a: &'a Arguments<'a>, id: [usize; 3]) -> Self {
        let [heads, group, key_dim, value_dim, slot_len] =
            ["heads", "group", "key_dim", "value_dim", "slot_len"].map(|name| a.int(name));
        let block = a.constant("BLOCK_V");
        Self {
            a,
            head: id[1] / group,
            value_head: id[1],
            values: heads * group,
            heads,
            key_dim,
            value_dim,
            slot_len,
            columns: id[2] * block..value_dim.min((id[2] + 1) * block),
            states: a.buffer("states"),
            is_delta: a.constant("DELTA") == 1,
        }
    }

    fn slot(&self, list: &str, span: usize) -> Option<usize> {
        usize::try_from(self.a.buffer(list).int(span)).ok().map(|slot| slot * self.slot_len)
    }

    /// Where an element of the state lies in a slot.
    fn at(&self, key: usize, value: usize) -> usize {
        (self.value_head * self.key_dim + key) * self.value_dim + value
    }

    /// The state of a slot, a line of values a key.
    fn read(&self, slot: Option<usize>) -> Vec<Vec<f32>> {
        let element = |key, value| slot.map_or(0.0, |slot| self.states.get(slot + self.at(key, value)));
        (0..self.key_dim).map(|key| self.columns.clone().map(|value| element(key, value)).collect()).collect()
    }

    fn write(&self, slot: usize, state: &[Vec<f32>]) {
        for (key, line) in state.iter().enumerate() {
            let values = self.columns.clone().zip(line);
            values.for_each(|(value, element)| self.states.set(slot + self.at(key, value), *element));
        }
    }

    /// A query or a key of a row, as the recurrence takes it.
    fn vector(&self, name: &str, row: usize, scale: f32) -> Vec<f32> {
        let x = self.a.buffer(name);
        let begin = (row * self.heads + self.head) * self.key_dim;
        let vector: Vec<f32> = (0..self.key_dim).map(|key| x.get(begin + key)).collect();
        if !self.is_delta {
            return vector;
        }
        let length = (vector.iter().map(|x| x * x).sum::<f32>() + 1e-6).sqrt();
        vector.iter().map(|x| x * (scale / length)).collect()
    }

    fn query(&self, row: usize) -> Vec<f32> {
        self.vector("q", row, 1.0 / (self.key_dim as f32).sqrt())
    }

    fn value(&self, row: usize) -> Vec<f32> {
        let v = self.a.buffer("v");
        let begin = (row * self.values + self.value_head) * self.value_dim;
        self.columns.clone().map(|value| v.get(begin + value)).collect()
    }

    /// The time step of a row, within its limits.
    fn delta(&self, row: usize) -> f32 {
        let dt = self.a.buffer("dt").get(row * self.values + self.value_head);
        let delta = if dt > 20.0 { dt } else { dt.exp().ln_1p() };
        if self.is_delta { delta } else { delta.clamp(self.a.float("low"), self.a.float("high")) }
    }

    fn log_decay(&self, row: usize) -> f32 {
        -self.a.buffer("a_log").get(self.value_head).exp() * self.delta(row)
    }

    fn rate(&self, row: usize) -> f32 {
        1.0 / (1.0 + (-self.a.buffer("beta").get(row * self.values + self.value_head)).exp())
    }

    fn skip(&self) -> f32 {
        if self.a.int("has_skip") != 0 { self.a.buffer("skip").get(self.value_head) } else { 0.0 }
    }

    fn put(&self, row: usize, results: impl Iterator<Item = f32>) {
        let (y, begin) = (self.a.buffer("y"), (row * self.values + self.value_head) * self.value_dim);
        self.columns.clone().zip(results).for_each(|(value, result)| y.set(begin + value, result));
    }
}

/// x S, of a state.
fn through(x: &[f32], state: &[Vec<f32>], columns: usize) -> Vec<f32> {
    let of = |column: usize| x.iter().zip(state).map(|(x, line)| x * line[column]).sum();
    (0..columns).map(of).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What a row of a chunk adds to it.
#[derive(Clone)]
struct Line {
    key: Vec<f32>,
    update: Vec<f32>,
    log_decay: f32,
}

pub(super) fn scan_prompt(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let span = id[0];
    if span >= list(a, "spans", 0) {
        return;
    }
    let (start, prompt) = (list(a, "span_start", span), list(a, "span_prompt", span));
    let end = prompt.min(start + list(a, "span_rows", span));
    if end <= start {
        return;
    }
    let head = Head::new(a, id);
    let (from, to) = (head.slot("state_from", span), head.slot("state_to", span).expect("a slot"));
    let keys_at = head.values * head.key_dim * head.value_dim;
    let updates_at = keys_at + head.heads * CHUNK * head.key_dim;
    let decays_at = updates_at + head.values * CHUNK * head.value_dim;
    let first_row = list(a, "span_first_row", span);
    let snapshots = list(a, "span_first_snap", span)..list(a, "span_first_snap", span + 1);
    let mut state = head.read(from);
    let columns = head.columns.len();
    for base in (start / CHUNK * CHUNK..end).step_by(CHUNK) {
        let mut lines: Vec<Line> = vec![];
        for position in base..end.min(base + CHUNK) {
            let i = position - base;
            if position < start {
                let slot = from.expect("rows of an earlier step have a state");
                let get = |at: usize| head.states.get(slot + at);
                let key = (0..head.key_dim).map(|key| get(keys_at + (head.head * CHUNK + i) * head.key_dim + key));
                let update = |value| get(updates_at + (head.value_head * CHUNK + i) * head.value_dim + value);
                let update = head.columns.clone().map(update).collect();
                let log_decay = get(decays_at + head.value_head * CHUNK + i);
                lines.push(Line { key: key.collect(), update, log_decay });
                continue;
            }
            let row = first_row + position - start;
            let (key, value) = (head.vector("k", row, 1.0), head.value(row));
            let log_decay = head.log_decay(row);
            lines.push(Line { key: key.clone(), update: value.clone(), log_decay });
            let sums: Vec<f32> = lines
                .iter()
                .scan(0.0, |sum, line| {
                    *sum += line.log_decay;
                    Some(*sum)
                })
                .collect();
            let own = sums[i];
            let weigh = |x: &[f32], lines: &[Line], through: Vec<f32>| -> Vec<f32> {
                let add = |column: usize| {
                    let past = lines.iter().zip(&sums);
                    past.map(|(line, sum)| dot(x, &line.key) * (own - sum).exp() * line.update[column]).sum::<f32>()
                };
                through.iter().enumerate().map(|(column, seen)| seen * own.exp() + add(column)).collect()
            };
            lines[i].update = if head.is_delta {
                let seen = weigh(&key, &lines[..i], through(&key, &state, columns));
                value.iter().zip(&seen).map(|(v, seen)| head.rate(row) * (v - seen)).collect()
            } else {
                value.iter().map(|v| head.delta(row) * v).collect()
            };
            let query = head.query(row);
            let result = weigh(&query, &lines, through(&query, &state, columns));
            head.put(row, result.iter().zip(&value).map(|(result, v)| result + head.skip() * v));
        }
        let count = lines.len();
        if count == CHUNK || base + count == prompt {
            let whole: f32 = lines.iter().map(|line| line.log_decay).sum();
            let mut sum = 0.0;
            state.iter_mut().flatten().for_each(|element| *element *= whole.exp());
            for line in &lines {
                sum += line.log_decay;
                for (key, elements) in state.iter_mut().enumerate() {
                    let factor = line.key[key] * (whole - sum).exp();
                    elements.iter_mut().zip(&line.update).for_each(|(element, update)| *element += factor * update);
                }
            }
            for snapshot in snapshots.clone().filter(|snapshot| list(a, "snap_end", *snapshot) == base + count) {
                head.write(list(a, "snap_slot", snapshot) * head.slot_len, &state);
            }
            continue;
        }
        for (i, line) in lines.iter().enumerate() {
            let keys = keys_at + (head.head * CHUNK + i) * head.key_dim;
            line.key.iter().enumerate().for_each(|(key, x)| head.states.set(to + keys + key, *x));
            let updates = updates_at + (head.value_head * CHUNK + i) * head.value_dim;
            let own = head.columns.clone().zip(&line.update);
            own.for_each(|(value, x)| head.states.set(to + updates + value, *x));
            head.states.set(to + decays_at + head.value_head * CHUNK + i, line.log_decay);
        }
    }
    head.write(to, &state);
}

pub(super) fn scan_steps(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let span = id[0];
    if span >= list(a, "spans", 0) {
        return;
    }
    let (start, prompt) = (list(a, "span_start", span), list(a, "span_prompt", span));
    let (begin, end) = (start.max(prompt), start + list(a, "span_rows", span));
    if end <= begin {
        return;
    }
    let head = Head::new(a, id);
    let to = head.slot("state_to", span).expect("a slot");
    let mut state = head.read(if begin > start { Some(to) } else { head.slot("state_from", span) });
    for position in begin..end {
        let row = list(a, "span_first_row", span) + position - start;
        let (query, key, value) = (head.query(row), head.vector("k", row, 1.0), head.value(row));
        let decay = head.log_decay(row).exp();
        state.iter_mut().flatten().for_each(|element| *element *= decay);
        let seen = through(&key, &state, value.len());
        let update = |(v, seen): (&f32, &f32)| {
            if head.is_delta { head.rate(row) * (v - seen) } else { head.delta(row) * v }
        };
        let update: Vec<f32> = value.iter().zip(&seen).map(update).collect();
        for (key, line) in key.iter().zip(&mut state) {
            line.iter_mut().zip(&update).for_each(|(element, update)| *element += key * update);
        }
        let result = through(&query, &state, value.len());
        head.put(row, result.iter().zip(&value).map(|(result, v)| result + head.skip() * v));
    }
    head.write(to, &state);
}
