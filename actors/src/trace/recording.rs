//! What was recorded, with the names of everything it mentions.

use super::record::{Cause, Counter, Edge, Name, Record, Track, Wait};

/// Names a track.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrackName {
    /// The lane, or another heading under which tracks are drawn together.
    pub lane: String,
    /// The actor.
    pub actor: String,
    /// What it does, in words; empty where nobody said.
    pub does: String,
}

/// What a lane has room for, and what fills it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LaneName {
    /// The lane, as its tracks call it.
    pub lane: String,
    /// Bytes that it has.
    pub bytes: u64,
    /// What they are used for.
    pub holds: Vec<Held>,
}

/// Bytes that are used for one thing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// For what.
    pub what: String,
    /// How many.
    pub bytes: u64,
}

/// Names an edge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EdgeName {
    /// What it carries.
    pub what: String,
    /// Who sends.
    pub from: Track,
    /// Who receives.
    pub to: Track,
    /// Its buffers; 0 where nobody said.
    pub credits: u32,
    /// Bytes of one buffer; 0 where nobody said.
    pub bytes: u64,
    /// Whether its messages are numbered by turns of the sender, and not by steps.
    pub by_turn: bool,
}

/// A trace as data. Numbers in the records count these tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recording {
    /// What was deployed, in words, a line each.
    pub about: Vec<String>,
    /// The lanes of which more than the name is known.
    pub lanes: Vec<LaneName>,
    /// The tracks.
    pub tracks: Vec<TrackName>,
    /// The edges.
    pub edges: Vec<EdgeName>,
    /// The counters' names.
    pub counters: Vec<String>,
    /// The names of causes outside the ports.
    pub causes: Vec<String>,
    /// What marks say.
    pub names: Vec<String>,
    /// What happened, in the order of [`Record`].
    pub records: Vec<Record>,
    /// Records given up because a ring was full.
    pub lost: u64,
}

impl Recording {
    /// The actor of a track; `?` if the table has no such track.
    pub fn actor(&self, track: Track) -> &str {
        self.tracks.get(track.0 as usize).map_or("?", |name| &name.actor)
    }

    /// The lane of a track; `?` if the table has no such track.
    pub fn lane(&self, track: Track) -> &str {
        self.tracks.get(track.0 as usize).map_or("?", |name| &name.lane)
    }

    /// An edge's entry.
    pub fn edge(&self, edge: Edge) -> Option<&EdgeName> {
        self.edges.get(edge.0 as usize)
    }

    /// A counter's name; `?` if the table has no such counter.
    pub fn counter(&self, counter: Counter) -> &str {
        self.counters.get(counter.0 as usize).map_or("?", |name| name)
    }

    /// A cause's name; `?` if the table has no such cause.
    pub fn cause(&self, cause: Cause) -> &str {
        self.causes.get(cause.0 as usize).map_or("?", |name| name)
    }

    /// What a mark says; `?` if the table has no such name.
    pub fn name(&self, name: Name) -> &str {
        self.names.get(name.0 as usize).map_or("?", |name| name)
    }

    /// A wait in words: `input from stage 0`, `credit of sampler`.
    pub fn wait(&self, wait: Wait) -> String {
        match wait {
            Wait::Input(edge) => format!("input from {}", self.edge(edge).map_or("?", |name| self.actor(name.from))),
            Wait::Credit(edge) => format!("credit of {}", self.edge(edge).map_or("?", |name| self.actor(name.to))),
            Wait::Outside(cause) => self.cause(cause).to_owned(),
        }
    }
}
