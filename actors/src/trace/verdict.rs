//! What bounded a run: a verdict over the figures of a summary.
//!
//! A lane does one thing at a time, so the busiest lane, not the busiest actor, is what bounds.

use super::CONTROL_LANE;
use super::record::{Event, Track};
use super::recording::Recording;
use super::summary::{Blocked, Summary, TrackSummary, at_once};
use std::collections::BTreeMap;

/// A lane busy for this share of the window is what the run was bound by; with less, it is what its actors waited for.
pub(super) const BOUND: f64 = 0.6;
/// Lanes within this share of the busiest are as busy as it is.
const EQUAL: f64 = 0.9;
/// A smaller share than this is nothing to tell.
const WORTH_TELLING: f64 = 0.005;
/// With some actor acting for this share of the window and no lane bound, the actors acted one after the other.
const IN_TURN: f64 = 0.75;

/// An actor and what it waited for most.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link {
    /// Who waited.
    pub track: Track,
    /// For what.
    pub blocked: Blocked,
    /// For how much of the window.
    pub share: f64,
}

/// What bounded the run. A chain begins at the busiest actor and follows what it waited for one hop upstream.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// Nothing acted.
    Empty,
    /// An actor was busy most of the time.
    Actor {
        /// Which.
        track: Track,
        /// The actor of another lane that waited for it most, and for how much of the window.
        waiter: Option<(Track, f64)>,
    },
    /// Several lanes were equally busy; the busiest actor of each.
    Balanced {
        /// The actors, the busiest first.
        tracks: Vec<Track>,
    },
    /// Some actor acted most of the time, but in turn: each step waited for the one before it.
    InTurn {
        /// The busiest actor.
        track: Track,
        /// The share of the window in which any actor acted.
        acting: f64,
    },
    /// The batcher gave no steps.
    Batcher {
        /// Who waited for them.
        chain: Vec<Link>,
    },
    /// Buffers did not come back.
    Credit {
        /// Who waited for them.
        chain: Vec<Link>,
    },
    /// Something else was waited for: messages of an actor that was not busy itself, or something outside.
    Waiting {
        /// Who waited; empty where no wait was recorded.
        chain: Vec<Link>,
    },
}

impl Summary {
    /// What bounded the run.
    pub(super) fn judge(&self, recording: &Recording) -> Verdict {
        let lane = |track: Track| recording.lane(track);
        let mut lanes: BTreeMap<&str, (u64, &TrackSummary)> = BTreeMap::new();
        for own in self.tracks.iter().filter(|own| own.acts > 0) {
            let (busy_ns, most) = lanes.entry(lane(own.track)).or_insert((0, own));
            *busy_ns = busy_ns.saturating_add(own.busy_ns);
            if own.busy_ns > most.busy_ns {
                *most = own;
            }
        }
        let mut lanes: Vec<(f64, Track)> =
            lanes.into_values().map(|(busy_ns, most)| (self.share(busy_ns), most.track)).collect();
        lanes.sort_by(|a, b| b.0.total_cmp(&a.0));
        let Some(&(busy, track)) = lanes.first() else { return Verdict::Empty };
        if busy >= BOUND {
            let equal = |&(share, track): &(f64, Track)| (share >= EQUAL * busy).then_some(track);
            let tracks: Vec<Track> = lanes.iter().filter_map(equal).collect();
            if tracks.len() > 1 {
                return Verdict::Balanced { tracks };
            }
            return Verdict::Actor { track, waiter: self.waiter(track, |other| lane(other) != lane(track)) };
        }
        let (start_ns, end_ns) = (self.start_ns, self.start_ns + self.window_ns);
        let acts = recording.records.iter().filter(|record| matches!(record.event, Event::Act { .. }));
        let clipped = acts.map(|record| (record.start_ns.max(start_ns), record.end_ns.min(end_ns)));
        let acting = self.share(at_once(clipped.filter(|(from_ns, to_ns)| from_ns < to_ns).collect(), 1));
        if acting >= IN_TURN {
            return Verdict::InTurn { track, acting };
        }
        let chain = self.chain(track);
        let of_batcher = |link: &Link| matches!(link.blocked, Blocked::Input(other) if lane(other) == CONTROL_LANE);
        if chain.iter().any(of_batcher) {
            Verdict::Batcher { chain }
        } else if matches!(chain.first(), Some(Link { blocked: Blocked::Credit(_), .. })) {
            Verdict::Credit { chain }
        } else {
            Verdict::Waiting { chain }
        }
    }

    /// Who, of those that `of` allows, waited for `track` most.
    fn waiter(&self, track: Track, of: impl Fn(Track) -> bool) -> Option<(Track, f64)> {
        let for_it =
            |(blocked, _): &&(Blocked, u64)| matches!(blocked, Blocked::Input(t) | Blocked::Credit(t) if *t == track);
        let waited =
            |own: &TrackSummary| own.waits.iter().filter(for_it).fold(0, |sum: u64, (_, ns)| sum.saturating_add(*ns));
        let all = self.tracks.iter().filter(|own| of(own.track)).map(|own| (waited(own), own.track));
        let (ns, waiter) = all.max_by_key(|(ns, _)| *ns)?;
        Some((waiter, self.share(ns))).filter(|(_, share)| *share >= WORTH_TELLING)
    }

    /// What `track` waited for most, and what that waited for most.
    fn chain(&self, track: Track) -> Vec<Link> {
        let link = |track: Track| {
            let (blocked, ns) = *self.track(track)?.waits.first()?;
            Some(Link { track, blocked, share: self.share(ns) })
        };
        let Some(first) = link(track) else { return vec![] };
        let next = match first.blocked {
            Blocked::Input(other) | Blocked::Credit(other) => link(other),
            Blocked::Outside(_) | Blocked::Turn => None,
        };
        [Some(first), next].into_iter().flatten().collect()
    }
}
