//! `otherData` of a trace file: the tables of names that the numbers in its events count.

use super::chrome_read::{ChromeFault, field};
use super::record::Track;
use super::recording::{EdgeName, Held, LaneName, Recording, TrackName};
use serde::Deserialize;

/// Entries of a table: its numbers have 16 bits.
const TABLE_MAX: usize = 1 << 16;

/// The part of a file that names things.
#[derive(Deserialize)]
pub(super) struct Head {
    #[serde(rename = "otherData")]
    pub(super) other: Option<Other>,
}

/// `otherData` on the wire.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Other {
    pub(super) format: String,
    lost_records: u64,
    pub(super) lonely_ends: u64,
    about: Vec<String>,
    lanes: Vec<WireLane>,
    tracks: Vec<WireTrack>,
    edges: Vec<WireEdge>,
    counters: Vec<String>,
    causes: Vec<String>,
    names: Vec<String>,
}

#[derive(Deserialize)]
struct WireTrack {
    lane: String,
    actor: String,
    #[serde(default)]
    does: String,
}

#[derive(Deserialize)]
struct WireLane {
    lane: String,
    bytes: u64,
    #[serde(default)]
    holds: Vec<WireHeld>,
}

#[derive(Deserialize)]
struct WireHeld {
    what: String,
    bytes: u64,
}

#[derive(Deserialize)]
struct WireEdge {
    what: String,
    from: u16,
    to: u16,
    #[serde(default)]
    credits: u32,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    by_turn: bool,
}

impl Other {
    /// The tables as a recording without records.
    pub(super) fn tables(self) -> Result<Recording, ChromeFault> {
        let tracks = self.tracks.len();
        let lengths = [
            ("about", self.about.len()),
            ("lanes", self.lanes.len()),
            ("tracks", tracks),
            ("edges", self.edges.len()),
            ("counters", self.counters.len()),
            ("causes", self.causes.len()),
            ("names", self.names.len()),
        ];
        if let Some((key, length)) = lengths.into_iter().find(|(_, length)| *length > TABLE_MAX) {
            let wanted = format!("at most {TABLE_MAX} entries");
            return Err(field(&format!("otherData.{key}"), &wanted, &length.to_string()));
        }
        for (index, edge) in self.edges.iter().enumerate() {
            for (end, track) in [("from", edge.from), ("to", edge.to)] {
                if usize::from(track) >= tracks {
                    let place = format!("otherData.edges[{index}].{end}");
                    return Err(field(&place, &one_of(tracks, "tracks"), &track.to_string()));
                }
            }
        }
        let track = |WireTrack { lane, actor, does }| TrackName { lane, actor, does };
        let edge = |WireEdge { what, from, to, credits, bytes, by_turn }| EdgeName {
            what,
            from: Track(from),
            to: Track(to),
            credits,
            bytes,
            by_turn,
        };
        let held = |WireHeld { what, bytes }| Held { what, bytes };
        let lane =
            |WireLane { lane, bytes, holds }| LaneName { lane, bytes, holds: holds.into_iter().map(held).collect() };
        Ok(Recording {
            about: self.about,
            lanes: self.lanes.into_iter().map(lane).collect(),
            tracks: self.tracks.into_iter().map(track).collect(),
            edges: self.edges.into_iter().map(edge).collect(),
            counters: self.counters,
            causes: self.causes,
            names: self.names,
            records: vec![],
            lost: self.lost_records,
        })
    }
}

pub(super) fn one_of(length: usize, what: &str) -> String {
    format!("the number of one of {length} {what}")
}
