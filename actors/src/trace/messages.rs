//! Messages of a recording: the sending and the taking of each, matched.

use super::record::{Edge, Event, Record, Track};
use super::recording::Recording;
use std::collections::HashMap;

/// A message with both its ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Message {
    /// The number it carries: a step's, or a turn's of its sender.
    pub step: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// When it was taken.
    pub taken_ns: u64,
    /// Over which edge.
    pub edge: Edge,
}

impl Recording {
    /// The messages of which both ends were recorded, by step and then in the order they were sent.
    pub fn messages(&self) -> Vec<Message> {
        let message = |(tail, head): (usize, usize)| match self.records[tail].event {
            Event::Send { edge, step } => {
                let (sent_ns, taken_ns) = (self.records[tail].start_ns, self.records[head].start_ns);
                Some(Message { step, sent_ns, taken_ns, edge })
            }
            Event::Act { .. }
            | Event::Wait(_)
            | Event::Receive { .. }
            | Event::Depth { .. }
            | Event::Count { .. }
            | Event::Request { .. }
            | Event::Mark { .. } => None,
        };
        let mut messages: Vec<Message> = pairs(&self.records).0.into_iter().filter_map(message).collect();
        messages.sort_unstable();
        messages
    }

    /// For each track the part of the run it belongs to, by one track of that part; none where no step comes by. Tracks are of one part
    /// if messages that carry the number of a step join them; a number means another step in another part, as in another replica.
    pub fn parts(&self) -> Vec<Option<Track>> {
        let mut above: Vec<usize> = (0..self.tracks.len()).collect();
        let top = |above: &mut Vec<usize>, mut at: usize| {
            while above[at] != at {
                above[at] = above[above[at]];
                at = above[at];
            }
            at
        };
        let ends = || self.edges.iter().filter(|edge| !edge.by_turn).map(|edge| [edge.from, edge.to]);
        for [from, to] in ends() {
            let (from, to) = (top(&mut above, from.0.into()), top(&mut above, to.0.into()));
            above[from.max(to)] = from.min(to);
        }
        let mut parts = vec![None; above.len()];
        for track in ends().flatten() {
            parts[usize::from(track.0)] = Some(Track(top(&mut above, track.0.into()) as u16));
        }
        parts
    }

    /// Ends of messages of which the other end was not recorded, or not in order.
    pub fn lonely_ends(&self) -> u64 {
        pairs(&self.records).1
    }
}

/// The records of a message's sending and taking.
type Ends = (Option<usize>, Option<usize>);

/// Where the sending and the taking of each message stand, in order, and how many ends have no other. A message is known by its edge
/// and step, and among several of one step by its place, since an edge keeps their order.
pub(super) fn pairs(records: &[Record]) -> (Vec<(usize, usize)>, u64) {
    let mut ends: HashMap<(Edge, u64, u32), Ends> = HashMap::new();
    let mut places: HashMap<(Edge, u64), (u32, u32)> = HashMap::new();
    let mut all = 0;
    for (index, record) in records.iter().enumerate() {
        match record.event {
            Event::Send { edge, step } => {
                let (place, _) = places.entry((edge, step)).or_default();
                ends.entry((edge, step, *place)).or_default().0 = Some(index);
                *place += 1;
            }
            Event::Receive { edge, step } => {
                let (_, place) = places.entry((edge, step)).or_default();
                ends.entry((edge, step, *place)).or_default().1 = Some(index);
                *place += 1;
            }
            Event::Act { .. }
            | Event::Wait(_)
            | Event::Depth { .. }
            | Event::Count { .. }
            | Event::Request { .. }
            | Event::Mark { .. } => continue,
        }
        all += 1;
    }
    let whole = |(tail, head): Ends| Some((tail?, head?));
    let forward = |(tail, head): &(usize, usize)| records[*tail].start_ns <= records[*head].start_ns;
    let mut pairs: Vec<_> = ends.into_values().filter_map(whole).filter(forward).collect();
    pairs.sort_unstable();
    let lonely = all - 2 * pairs.len() as u64;
    (pairs, lonely)
}
