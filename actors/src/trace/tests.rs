//! Recordings made by hand and by chance, written and read back.

mod chrome;
mod compare;
mod latency;
mod layer;
mod summary;

use super::*;

/// Two stages on lanes of their own and a sampler beside the second, fed by a batcher.
pub(super) struct Hand {
    pub(super) recording: Recording,
}

pub(super) const BATCHER: Track = Track(0);
pub(super) const FIRST: Track = Track(1);
pub(super) const SECOND: Track = Track(2);
pub(super) const SAMPLER: Track = Track(3);
/// From the batcher to the first stage.
pub(super) const TICKETS: Edge = Edge(0);
/// From the first stage to the second.
pub(super) const HIDDEN: Edge = Edge(1);
/// From the second stage to the sampler.
pub(super) const LOGITS: Edge = Edge(2);

impl Hand {
    pub(super) fn new() -> Self {
        let track = |lane: &str, actor: &str| TrackName {
            lane: lane.into(),
            actor: actor.into(),
            does: format!("{actor}'s work"),
        };
        let edge =
            |what: &str, from, to| EdgeName { what: what.into(), from, to, credits: 2, bytes: 64, by_turn: false };
        let recording = Recording {
            tracks: vec![
                track(CONTROL_LANE, "batcher"),
                track("cpu:0", "stage 0"),
                track("cpu:1", "stage 1"),
                track("cpu:1", "sampler"),
            ],
            edges: vec![
                edge("tickets", BATCHER, FIRST),
                edge("hidden", FIRST, SECOND),
                edge("logits", SECOND, SAMPLER),
            ],
            counters: vec!["pages in use".into()],
            causes: vec!["no requests".into()],
            names: vec!["plan".into()],
            ..Recording::default()
        };
        Self { recording }
    }

    pub(super) fn push(mut self, track: Track, from_us: u64, to_us: u64, event: Event) -> Self {
        self.recording.records.push(Record { start_ns: from_us * 1000, end_ns: to_us * 1000, track, event });
        self.recording.records.sort_unstable();
        self
    }

    pub(super) fn act(self, track: Track, from_us: u64, to_us: u64, step: u64) -> Self {
        self.push(track, from_us, to_us, Event::Act { step, rows: 4, bytes: 100 })
    }

    pub(super) fn wait(self, track: Track, from_us: u64, to_us: u64, wait: Wait) -> Self {
        self.push(track, from_us, to_us, Event::Wait(wait))
    }

    pub(super) fn point(self, track: Track, at_us: u64, event: Event) -> Self {
        self.push(track, at_us, at_us, event)
    }
}
