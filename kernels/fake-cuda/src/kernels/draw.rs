//! Tokens from logits.

use crate::arguments::Arguments;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The row of a program, unless the step has fewer.
fn row(a: &Arguments<'_>, id: [usize; 3]) -> Option<usize> {
    ((id[0] as i64) < a.buffer("rows").int(0)).then_some(id[0])
}

/// The logits of a row that may be drawn.
fn allowed(a: &Arguments<'_>, name: &str, row: usize) -> Vec<f32> {
    let (vocab, logits) = (a.int("vocab"), a.buffer(name));
    (0..a.int("allowed")).map(|id| logits.get(row * vocab + id)).collect()
}

pub(super) fn survey_blocks(a: &Arguments<'_>, id: [usize; 3], grid: [u32; 3]) {
    let Some(row) = row(a, id) else { return };
    let (logits, block) = (allowed(a, "logits", row), a.constant("BLOCK"));
    let own = &logits[(id[1] * block).min(logits.len())..((id[1] + 1) * block).min(logits.len())];
    let strange = own.iter().filter(|logit| !logit.is_finite()).count();
    a.buffer("strange").put_int(row * grid[1] as usize + id[1], strange as i32);
}

/// What is found here `draw` finds by itself.
pub(super) fn weigh_blocks(_: &Arguments<'_>, _: [usize; 3], _: [u32; 3]) {}

/// The order of tokens: the largest logit first, of equals the lowest id.
fn ranked(logits: &[f32], ids: &mut [usize]) {
    ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
}

fn uniform(a: &Arguments<'_>, row: usize) -> f64 {
    let (words, mut key) = (a.buffer("words"), [0; 32]);
    for (word, at) in key.chunks_exact_mut(4).take(5).enumerate() {
        at.copy_from_slice(&(words.int(row * 5 + word) as i32).to_le_bytes());
    }
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(u64::from(a.buffer("row_position").int(row) as u32));
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

pub(super) fn draw(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let Some(row) = row(a, id) else { return };
    let tell = |token: i32, fault: i32| {
        a.buffer("token").put_int(row, token);
        a.buffer("fault").put_int(row, fault);
    };
    let blocks = a.int("blocks");
    if (0..blocks).any(|block| a.buffer("strange").int(row * blocks + block) > 0) {
        return tell(-1, 1);
    }
    let given = a.buffer("given").int(row);
    if given != -1 {
        return tell(given.max(-1) as i32, 0);
    }
    let logits = allowed(a, "shaped", row);
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let temperature = f64::from(a.buffer("temperature").get(row));
    if temperature == 0.0 {
        return tell(ids.iter().find(|&&id| logits[id] == top).map_or(-1, |&id| id as i32), 0);
    }
    let scaled = |id: usize| (f64::from(logits[id]) - f64::from(top)) / temperature;
    let floor = f64::from(a.buffer("min_p").get(row)).max(1e-37).ln().max(-64.0);
    ids.retain(|&id| scaled(id) >= floor);
    let most = a.buffer("top_k").int(row) as usize;
    if 0 < most && most < ids.len() {
        ranked(&logits, &mut ids);
        ids.truncate(most);
    }
    let nucleus = f64::from(a.buffer("top_p").get(row));
    if nucleus < 1.0 {
        let reach = nucleus * ids.iter().map(|&id| scaled(id).exp()).sum::<f64>();
        ranked(&logits, &mut ids);
        let mut total = 0.0;
        let end = ids.iter().position(|&id| {
            total += scaled(id).exp();
            total >= reach
        });
        ids.truncate(end.map_or(ids.len(), |end| end + 1));
    }
    let target = uniform(a, row) * ids.iter().map(|&id| scaled(id).exp()).sum::<f64>();
    let mut total = 0.0;
    let drawn = ids.iter().find(|&&id| {
        total += scaled(id).exp();
        total > target
    });
    tell(*drawn.or(ids.last()).unwrap_or(&0) as i32, 0);
}

pub(super) fn score(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let Some(row) = row(a, id) else { return };
    let (token, logits) = (a.buffer("token").int(row), allowed(a, "logits", row));
    let Ok(token) = usize::try_from(token) else { return };
    let top = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let log_sum = top + logits.iter().map(|&logit| (f64::from(logit) - top).exp()).sum::<f64>().ln();
    let logprob = |id: usize| (f64::from(logits[id]) - log_sum) as f32;
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).expect("numbers").then(a.cmp(&b)));
    a.buffer("logprob").set(row, logprob(token));
    let rank = ids.iter().position(|&id| id == token).expect("a token is one of them");
    a.buffer("rank").put_int(row, rank as i32 + 1);
    let most = a.int("most");
    for (number, &id) in ids.iter().take(a.buffer("counts").int(row) as usize).enumerate() {
        a.buffer("top_id").put_int(row * most + number, id as i32);
        a.buffer("top_logprob").set(row * most + number, logprob(id));
    }
}
