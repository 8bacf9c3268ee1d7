//! What a picture of a plan shows: devices with boxes of actors, and links between boxes. Where a plan has many actors, boxes stand for
//! several: first the segments of a stage, then ranks that are alike, then stages that are.
//!
//! It is made from the tables of a recording, so that a plan and a run of it give the same picture.

use actors::trace::{Recording, Summary, Track};
use graph::plan::explain::gib;
use std::collections::{BTreeMap, BTreeSet};

/// Boxes that a picture shows apart; with more of them they are grouped.
const BOXES: usize = 14;

/// A picture's content.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Sketch {
    /// What is deployed, in lines.
    pub(super) about: Vec<String>,
    /// Devices, or groups of devices that are alike.
    pub(super) groups: Vec<Group>,
    /// What flows between boxes.
    pub(super) links: Vec<Link>,
}

/// A device, or several that are alike.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Group {
    /// The lanes.
    pub(super) title: String,
    /// Bytes of each thing on one of them, and bytes that it has; empty where that is not known.
    pub(super) holds: Vec<(String, u64)>,
    /// Bytes that one of them has.
    pub(super) bytes: u64,
    /// What stands on it.
    pub(super) boxes: Vec<Block>,
}

/// What a box is, and how it is drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    /// Computes layers.
    Stage,
    /// Moves values between ranks.
    Communicator,
    /// Owns memory.
    Pool,
    /// Anything else.
    Other,
}

/// An actor, or several.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Block {
    pub(super) kind: Kind,
    pub(super) title: String,
    /// What it does.
    pub(super) does: String,
    /// The share of the window in which it acted; where it stands for several lanes, the mean of them.
    pub(super) busy: Option<f64>,
}

/// Channels from one box to others.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Link {
    /// The box that writes, counted over all groups.
    pub(super) from: usize,
    /// The boxes that read.
    pub(super) to: Vec<usize>,
    /// What it carries.
    pub(super) what: String,
    /// Buffers and their bytes.
    pub(super) buffers: String,
    /// Messages a second, where they were counted.
    pub(super) rate: Option<f64>,
}

/// An actor's place in a plan, as its name tells it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Seat {
    kind: Kind,
    /// The stage; none for what is of no stage.
    stage: Option<u32>,
    /// The name without segment and rank.
    name: String,
}

/// `stage 0.3 rank 1` is of stage 0, a `communicator 0 rank 1` too; everything else stands for itself.
fn seat(actor: &str) -> Seat {
    let kinds = [("stage ", Kind::Stage), ("communicator ", Kind::Communicator)];
    for (prefix, kind) in kinds {
        let Some(rest) = actor.strip_prefix(prefix) else { continue };
        let digits = rest.split(['.', ' ']).next().unwrap_or_default();
        if let Ok(stage) = digits.parse() {
            return Seat { kind, stage: Some(stage), name: format!("{prefix}{stage}") };
        }
    }
    let kind = if actor == "pool" { Kind::Pool } else { Kind::Other };
    Seat { kind, stage: None, name: actor.into() }
}

/// How much a box stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Grouping {
    Actors,
    Segments,
    Ranks,
    Stages,
}

impl Sketch {
    /// What `recording` names, with the figures of `summary`.
    pub(super) fn of(recording: &Recording, summary: Option<&Summary>) -> Self {
        let whole = |grouping| Grouped::new(recording, grouping);
        let count = |grouped: &Grouped| grouped.groups.iter().map(|(_, seats)| seats.len()).sum::<usize>();
        let fits = |grouping: &Grouping| count(&whole(*grouping)) <= BOXES;
        let levels = [Grouping::Actors, Grouping::Segments, Grouping::Ranks];
        let grouping = levels.into_iter().find(fits).unwrap_or(Grouping::Stages);
        let grouped = whole(grouping);
        Self {
            about: recording.about.clone(),
            groups: grouped.groups.iter().map(|(lanes, seats)| grouped.group(lanes, seats, summary)).collect(),
            links: grouped.links(summary),
        }
    }
}

/// Tracks by the box that shows them.
struct Grouped<'a> {
    recording: &'a Recording,
    /// The lanes of each group, and the tracks of each of its boxes.
    groups: Vec<(Vec<&'a str>, Vec<Vec<Track>>)>,
}

impl<'a> Grouped<'a> {
    fn new(recording: &'a Recording, grouping: Grouping) -> Self {
        let connected: BTreeSet<Track> = recording.edges.iter().flat_map(|edge| [edge.from, edge.to]).collect();
        let mut lanes: Vec<(Vec<&str>, Vec<Vec<Track>>)> = vec![];
        let mut at_lane: BTreeMap<&str, usize> = BTreeMap::new();
        let mut at_box: BTreeMap<(usize, Seat), usize> = BTreeMap::new();
        for (number, name) in recording.tracks.iter().enumerate() {
            let track = Track(number as u16);
            // Threads of the process are no part of a plan.
            if !connected.contains(&track) && name.actor != "pool" {
                continue;
            }
            let lane = *at_lane.entry(&name.lane).or_insert(lanes.len());
            if lane == lanes.len() {
                lanes.push((vec![&name.lane], vec![]));
            }
            let boxes = &mut lanes[lane].1;
            let own = if grouping == Grouping::Actors { None } else { Some((lane, seat(&name.actor))) };
            let at = own.map_or(boxes.len(), |own| *at_box.entry(own).or_insert(boxes.len()));
            if at == boxes.len() {
                boxes.push(vec![]);
            }
            boxes[at].push(track);
        }
        let mut whole = Self { recording, groups: vec![] };
        let mut at_group: BTreeMap<Vec<Seat>, usize> = BTreeMap::new();
        for (names, boxes) in lanes {
            let keys = boxes.iter().map(|tracks| whole.key(tracks[0], grouping)).collect();
            let next = whole.groups.len();
            let at = if grouping >= Grouping::Ranks { *at_group.entry(keys).or_insert(next) } else { next };
            if at == next {
                whole.groups.push((names, boxes));
            } else {
                let (all, there) = &mut whole.groups[at];
                all.extend(names);
                there.iter_mut().zip(boxes).for_each(|(tracks, more)| tracks.extend(more));
            }
        }
        whole
    }

    /// What makes boxes of several lanes alike.
    fn key(&self, track: Track, grouping: Grouping) -> Seat {
        let seat = seat(self.recording.actor(track));
        match grouping {
            Grouping::Stages if seat.stage.is_some() => Seat { stage: None, name: String::new(), ..seat },
            Grouping::Actors | Grouping::Segments | Grouping::Ranks | Grouping::Stages => seat,
        }
    }

    fn group(&self, lanes: &[&str], boxes: &[Vec<Track>], summary: Option<&Summary>) -> Group {
        let known = self.recording.lanes.iter().find(|lane| lane.lane == lanes[0]);
        let holds = known.map(|lane| lane.holds.iter().map(|held| (held.what.clone(), held.bytes)).collect());
        let title = match lanes {
            [one] => (*one).into(),
            [first, .., last] => format!("{} lanes alike: {first} … {last}", lanes.len()),
            [] => String::new(),
        };
        let block = |tracks: &Vec<Track>| self.block(tracks, lanes.len(), summary);
        Group {
            title,
            holds: holds.unwrap_or_default(),
            bytes: known.map_or(0, |lane| lane.bytes),
            boxes: boxes.iter().map(block).collect(),
        }
    }

    fn block(&self, tracks: &[Track], lanes: usize, summary: Option<&Summary>) -> Block {
        let names: Vec<&str> = tracks.iter().map(|track| self.recording.actor(*track)).collect();
        let seats: Vec<Seat> = names.iter().map(|name| seat(name)).collect();
        let stages: BTreeSet<u32> = seats.iter().filter_map(|seat| seat.stage).collect();
        let title = match (&names[..], stages.first(), stages.last()) {
            ([one], ..) => (*one).into(),
            (_, Some(first), Some(last)) if first != last => {
                format!("{}s {first} to {last}", seats[0].name.split(' ').next().unwrap_or_default())
            }
            _ if lanes == 1 => match names[0].split_once(" rank ") {
                Some((_, rank)) => format!("{} rank {rank}", seats[0].name),
                None => seats[0].name.clone(),
            },
            _ => seats[0].name.clone(),
        };
        let busy = |summary: &Summary| {
            let all = tracks.iter().filter_map(|track| summary.track(*track)).map(|own| summary.share(own.busy_ns));
            let all: Vec<f64> = all.collect();
            // What neither acts nor waits, as the pool, is not idle either.
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / lanes as f64)
        };
        Block { kind: seats[0].kind, title, does: self.does(tracks), busy: summary.and_then(busy) }
    }

    /// What the actors do that all of them do, and how many they are.
    fn does(&self, tracks: &[Track]) -> String {
        let words: BTreeSet<&str> =
            tracks.iter().filter_map(|track| self.recording.tracks.get(track.0 as usize)).map(|n| &*n.does).collect();
        let many = if tracks.len() > 1 { format!("{} actors", tracks.len()) } else { String::new() };
        let heads: BTreeSet<&str> = words.iter().map(|words| words.split(": ").next().unwrap_or_default()).collect();
        let said = match (words.len(), heads.len()) {
            (1, _) => words.first(),
            (_, 1) => heads.first(),
            _ => None,
        };
        [many.as_str(), said.copied().unwrap_or_default()]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Channels between boxes, those with the same ends bundled, in the order of the plan.
    fn links(&self, summary: Option<&Summary>) -> Vec<Link> {
        let boxes = self.groups.iter().flat_map(|(_, boxes)| boxes);
        let place: BTreeMap<Track, usize> =
            boxes.enumerate().flat_map(|(number, tracks)| tracks.iter().map(move |track| (*track, number))).collect();
        let counts = summary.map(|_| self.recording.messages()).unwrap_or_default();
        let mut messages = vec![0_u64; self.recording.edges.len()];
        counts.iter().for_each(|message| messages[message.edge.0 as usize] += 1);
        // A channel is what one actor writes under one name; it has an edge a reader.
        let mut channels: Vec<Channel> = vec![];
        let mut known: BTreeMap<(Track, &str), usize> = BTreeMap::new();
        for (edge, messages) in self.recording.edges.iter().zip(messages) {
            let (Some(from), Some(to)) = (place.get(&edge.from), place.get(&edge.to)) else { continue };
            let at = *known.entry((edge.from, &edge.what)).or_insert_with(|| {
                let what = edge.what.clone();
                channels.push(Channel { what, from: *from, to: BTreeSet::new(), credits: 0, bytes: 0, messages: 0 });
                channels.len() - 1
            });
            let channel = &mut channels[at];
            channel.to.insert(*to);
            (channel.credits, channel.bytes) = (edge.credits, edge.bytes);
            channel.messages = channel.messages.max(messages);
        }
        let mut bundles: Vec<Vec<Channel>> = vec![];
        let mut same_ends: BTreeMap<(usize, BTreeSet<usize>), usize> = BTreeMap::new();
        for channel in channels {
            let at = *same_ends.entry((channel.from, channel.to.clone())).or_insert(bundles.len());
            if at == bundles.len() {
                bundles.push(vec![]);
            }
            bundles[at].push(channel);
        }
        let seconds = summary.map(|summary| summary.window_ns as f64 / 1e9).filter(|seconds| *seconds > 0.0);
        bundles.into_iter().map(|bundle| link(&bundle, seconds)).collect()
    }
}

struct Channel {
    what: String,
    from: usize,
    to: BTreeSet<usize>,
    credits: u32,
    bytes: u64,
    /// Those that its busiest reader took.
    messages: u64,
}

fn link(bundle: &[Channel], seconds: Option<f64>) -> Link {
    let first = &bundle[0];
    let what = match bundle {
        [one] => one.what.clone(),
        [one, .., last] => format!("{} channels, {} to {}", bundle.len(), one.what, last.what),
        [] => String::new(),
    };
    let same = bundle.iter().all(|channel| (channel.credits, channel.bytes) == (first.credits, first.bytes));
    let total = bundle.iter().map(|c| u64::from(c.credits).saturating_mul(c.bytes)).fold(0, u64::saturating_add);
    let buffers = match (first.credits, first.bytes, same) {
        (0, _, true) => String::new(),
        (credits, 0, true) => format!("{credits} credits"),
        (credits, bytes, true) if bundle.len() == 1 => format!("{credits} × {}", gib(bytes)),
        (credits, bytes, true) => format!("{credits} × {} each, {} in all", gib(bytes), gib(total)),
        _ => format!("{} in all", gib(total)),
    };
    let messages: u64 = bundle.iter().map(|channel| channel.messages).sum();
    let rate = seconds.map(|seconds| messages as f64 / seconds);
    Link { from: first.from, to: first.to.iter().copied().collect(), what, buffers, rate }
}
