//! Routing and experts.

use crate::arguments::Arguments;

fn rows(a: &Arguments<'_>) -> usize {
    a.buffer("rows").int(0) as usize
}

/// Numbers by descending key, equal ones by number.
fn by_key(keys: &[f32], mut numbers: Vec<usize>) -> Vec<usize> {
    numbers.sort_by(|a, b| keys[*b].total_cmp(&keys[*a]).then(a.cmp(b)));
    numbers
}

pub(super) fn route(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    if id[0] >= rows(a) {
        return;
    }
    let names = ["groups", "size", "choices", "groups_kept", "group_best", "begin", "held"];
    let [groups, size, choices, groups_kept, group_best, begin, held] = names.map(|name| a.int(name));
    let experts = groups * size;
    let (x, y) = (a.buffer("x"), a.buffer("y"));
    let logits: Vec<f32> = (0..experts).map(|expert| x.get(id[0] * experts + expert)).collect();
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|x| (x - top).exp()).sum();
    let is_sigmoid = a.int("is_sigmoid") != 0;
    let score = |x: &f32| if is_sigmoid { 1.0 / (1.0 + (-x).exp()) } else { (x - top).exp() / sum };
    let scores: Vec<f32> = logits.iter().map(score).collect();
    let mut keys = scores.clone();
    if a.int("has_bias") != 0 {
        let bias = a.buffer("bias");
        keys.iter_mut().enumerate().for_each(|(expert, key)| *key += bias.get(expert));
    }
    let members = |group: usize| (group * size..(group + 1) * size).collect::<Vec<_>>();
    let best = |group| by_key(&keys, members(group)).iter().take(group_best).map(|expert| keys[*expert]).sum();
    let group_keys: Vec<f32> = (0..groups).map(best).collect();
    let kept = by_key(&group_keys, (0..groups).collect()).into_iter().take(groups_kept);
    let chosen = by_key(&keys, kept.flat_map(members).collect());
    let chosen = &chosen[..choices];
    let total: f32 = chosen.iter().map(|expert| scores[*expert]).sum();
    let divisor = if a.int("normalises") != 0 { total + 1e-20 } else { 1.0 };
    for (expert, score) in scores.iter().enumerate().skip(begin).take(held) {
        let gate = if chosen.contains(&expert) { score / divisor * a.float("scale") } else { 0.0 };
        y.set(id[0] * held + expert - begin, gate);
    }
}

pub(super) fn choose(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let row = id[0];
    if row >= rows(a) {
        return;
    }
    let [experts, choices, begin, held] = ["experts", "choices", "begin", "held"].map(|name| a.int(name));
    let (gates, entry, gate) = (a.buffer("gates"), a.buffer("entry"), a.buffer("gate"));
    let mut chosen = (0..experts).filter(|expert| gates.get(row * experts + expert) != 0.0);
    for choice in 0..choices {
        let expert = chosen.next();
        let own = expert.and_then(|expert| expert.checked_sub(begin)).filter(|own| *own < held);
        entry.put_int(row * choices + choice, own.map_or(-1, |own| own as i32));
        gate.set(row * choices + choice, expert.map_or(0.0, |expert| gates.get(row * experts + expert)));
    }
}

/// The slots of an entry; those without any are of entry `held`.
fn slots_of(a: &Arguments<'_>, number: usize) -> Vec<usize> {
    let (held, entry) = (a.int("held"), a.buffer("entry"));
    let own = |slot: usize| usize::try_from(entry.int(slot)).unwrap_or(held);
    (0..rows(a) * a.int("choices")).filter(|slot| own(*slot) == number).collect()
}

pub(super) fn count(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    a.buffer("counts").put_int(id[0], slots_of(a, id[0]).len() as i32);
}

pub(super) fn place(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let (number, held, tile) = (id[0], a.int("held"), a.int("tile"));
    let (counts, at, tile_entry) = (a.buffer("counts"), a.buffer("at"), a.buffer("tile_entry"));
    let tiles = |entry: usize| (counts.int(entry) as usize).div_ceil(tile);
    let first: usize = (0..number).map(tiles).sum();
    if number == held {
        a.buffer("tiles").put_int(0, (first + tiles(number)) as i32);
    }
    let slots = slots_of(a, number);
    for place in 0..tiles(number) * tile {
        at.put_int(first * tile + place, slots.get(place).map_or(-1, |slot| *slot as i32));
    }
    (first..first + tiles(number)).for_each(|own| tile_entry.put_int(own, number as i32));
}

pub(super) fn experts(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    if id[1] as i64 >= a.buffer("tiles").int(0) {
        return;
    }
    let [choices, parts, held, n, k] = ["choices", "parts", "held", "n", "k"].map(|name| a.int(name));
    let [block_n, block_r] = ["BLOCK_N", "BLOCK_R"].map(|name| a.constant(name));
    let entry = a.buffer("tile_entry").int(id[1]) as usize;
    let (x, w, y, at) = (a.buffer("x"), a.buffer("w"), a.buffer("y"), a.buffer("at"));
    for slot in (0..block_r).filter_map(|own| usize::try_from(at.int(id[1] * block_r + own)).ok()) {
        let row = if parts == 1 { slot / choices } else { slot };
        for output in id[0] * block_n..n.min((id[0] + 1) * block_n) {
            let weights = (entry * n + output) * k;
            let product = |sum: f32, term| w.rounded(x.get(row * k + term)).mul_add(w.get(weights + term), sum);
            y.set(slot * n + output, if entry < held { (0..k).fold(0.0, product) } else { 0.0 });
        }
    }
}

pub(super) fn weigh(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let row = id[0];
    if row >= rows(a) {
        return;
    }
    let [choices, n, block] = [a.int("choices"), a.int("n"), a.constant("BLOCK")];
    let (gate, x, y) = (a.buffer("gate"), a.buffer("x"), a.buffer("y"));
    for column in id[1] * block..n.min((id[1] + 1) * block) {
        let slots = (row * choices..(row + 1) * choices).filter(|slot| gate.get(*slot) != 0.0);
        y.set(row * n + column, slots.fold(0.0, |sum, slot| sum + gate.get(slot) * x.get(slot * n + column)));
    }
}

pub(super) fn expert_bias(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let slot = id[0];
    let [choices, n, block] = [a.int("choices"), a.int("n"), a.constant("BLOCK")];
    if slot >= rows(a) * choices {
        return;
    }
    let (entry, x, w, y) = (a.buffer("entry"), a.buffer("x"), a.buffer("w"), a.buffer("y"));
    let own = usize::try_from(entry.int(slot)).ok();
    for column in id[1] * block..n.min((id[1] + 1) * block) {
        let added = own.map_or(0.0, |own| w.get(own * n + column));
        y.set(slot * n + column, x.get(slot * n + column) + added);
    }
}

pub(super) fn contract_each(a: &Arguments<'_>, id: [usize; 3], _: [u32; 3]) {
    let [each, n, k] = ["each", "n", "k"].map(|name| a.int(name));
    let [block_n, block_r] = ["BLOCK_N", "BLOCK_R"].map(|name| a.constant(name));
    let (x, w, y) = (a.buffer("x"), a.buffer("w"), a.buffer("y"));
    for row in id[1] * block_r..rows(a).min((id[1] + 1) * block_r) {
        let run = row * each + id[2];
        for output in id[0] * block_n..n.min((id[0] + 1) * block_n) {
            let weights = (id[2] * n + output) * k;
            let product = |sum: f32, term| w.rounded(x.get(run * k + term)).mul_add(w.get(weights + term), sum);
            y.set(run * n + output, (0..k).fold(0.0, product));
        }
    }
}
