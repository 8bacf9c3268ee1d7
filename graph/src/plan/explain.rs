//! A plan in words: what `plan --explain` prints.

pub use super::error::gib;
use super::raw::{ActorPlan, Carries, Role};
use super::{Move, Numerics, Plan};
use std::fmt::Write;

/// The plan as a page of text.
pub fn explain(plan: &Plan) -> String {
    let data = plan.data();
    let mut text = String::new();
    let mut line = |s: String| writeln!(text, "{s}").expect("a String takes any text");
    heading(plan).into_iter().for_each(&mut line);
    for (number, device) in data.devices.iter().enumerate() {
        let (weights, caches, states) = (device.weight_bytes, device.cache_bytes, device.state_bytes);
        let held = weights.saturating_add(caches).saturating_add(states).saturating_add(device.buffer_bytes);
        let states = match device.state_bytes {
            0 => String::new(),
            bytes => format!("recurrent state {}, ", gib(bytes)),
        };
        line(format!(
            "\n{}: {} of {} (weights {}, key/value cache {}, {states}buffers {})",
            device.name,
            gib(held),
            gib(device.memory_bytes),
            gib(device.weight_bytes),
            gib(device.cache_bytes),
            gib(device.buffer_bytes)
        ));
        let here = data.actors.iter().filter(|a| a.device.is_some_and(|d| d.index() == number));
        here.for_each(|actor| line(format!("  {}: {}", actor.name, does(actor))));
    }
    line("\ncontrol plane".into());
    data.actors.iter().filter(|a| a.device.is_none()).for_each(|a| line(format!("  {}: {}", a.name, does(a))));
    line("\nchannels".into());
    for channel in &data.channels {
        let name = |actor: super::ActorId| data.actors[actor.index()].name.as_str();
        let to: Vec<&str> = channel.to.iter().map(|e| name(e.actor)).collect();
        let to = if to.len() > 4 { format!("{} and {} more", to[..3].join(", "), to.len() - 3) } else { to.join(", ") };
        let carries = match channel.carries {
            Carries::Tensor { width, .. } => format!(" of {width} f32 a row"),
            Carries::Ticket | Carries::Samples | Carries::Ids => String::new(),
        };
        line(format!(
            "  {}{carries}: {} → {to}; {} × {}",
            channel.name,
            name(channel.from.actor),
            channel.credits,
            gib(channel.bytes)
        ));
    }
    text
}

/// What is deployed and how, in lines.
pub fn heading(plan: &Plan) -> Vec<String> {
    let data = plan.data();
    let s = &data.settings;
    let mut lines = vec![];
    let mut line = |s: String| lines.push(s);
    line(format!(
        "{} of {} layers, vocabulary {}: tensor {} × pipeline {}{}",
        data.family,
        data.layers,
        data.vocabulary,
        data.tensor,
        data.pipeline,
        if data.expert > 1 { format!(", experts over {} ranks", data.expert) } else { String::new() }
    ));
    if data.numerics == Numerics::Tree {
        line("sums over what ranks may share in a tree: the same bits under every degree".into());
    }
    line(format!(
        "steps of up to {} rows and {} sequences, {} in flight; sequences of up to {} positions; {} pages of {} positions",
        s.max_num_batched_tokens,
        s.max_num_seqs,
        s.in_flight,
        s.max_model_len,
        plan.pages(),
        super::PAGE_ROWS
    ));
    s.notes.iter().for_each(|note| line(format!("note: {note}")));
    lines
}

/// What an actor does, in words.
pub fn does(actor: &ActorPlan) -> String {
    match &actor.role {
        Role::Batcher => "forms steps from the requests".into(),
        Role::Pool { pages, page_rows, states, windows } => {
            let mut owns = format!("owns {pages} pages of {page_rows} positions");
            if windows.pages > 0 {
                owns += &format!("; {} pages for windows of {} positions", windows.pages, windows.window);
            }
            if states.running > 0 {
                let (running, snapshots) = (states.running, states.snapshots);
                owns += &format!("; {running} slots of recurrent state, and {snapshots} for snapshots");
            }
            owns
        }
        Role::Feed => "resolves token ids".into(),
        Role::Stage { layers, program, .. } => {
            let states = match program.states.len() {
                0 => String::new(),
                count => format!(", {count} states"),
            };
            format!(
                "layers {} to {}: {} calls, {} weights, {} cache layers{states}",
                layers.start,
                layers.end.saturating_sub(1),
                program.calls.len(),
                program.weights.len(),
                program.caches.len()
            )
        }
        Role::Communicator { group, rank, collectives } => {
            let count = |f: fn(&Move) -> bool| collectives.iter().filter(|c| f(&c.how)).count();
            format!(
                "rank {rank} of the {group}: {} all-reduces, {} all-gathers a step",
                count(|m| *m == Move::AllReduce),
                count(|m| matches!(m, Move::AllGather(_)))
            )
        }
        Role::Sampler { vocabulary, captures } if captures.is_empty() => format!("draws from {vocabulary} logits"),
        Role::Sampler { vocabulary, captures } => {
            format!("draws from {vocabulary} logits, sends along {} captured values", captures.len())
        }
    }
}
