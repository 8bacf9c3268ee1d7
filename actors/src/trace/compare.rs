//! What changed between two runs: per actor, per cause. Two summaries in, figures and words out.
//!
//! Actors are the same if they have the same name, in the order of tracks where several do. Durations are compared by the row, since
//! windows and steps differ in length; shares are of each run's own window.

use super::recording::Recording;
use super::summary::{Blocked, CounterSummary, Summary, TrackSummary};
use super::words::{Words, percent, time};
use std::collections::{BTreeMap, BTreeSet};

/// A share that moved by less than this is not told.
const WORTH_TELLING: f64 = 0.01;
/// A change explains a row's if it has this part of it.
const PART: f64 = 0.25;
/// A row's time that changed by less than this needs no cause.
const SAME: f64 = 0.02;
/// Steps with so many more or fewer rows are other steps.
const OTHER_STEPS: f64 = 0.2;

/// A figure of both runs.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Change {
    /// Of the first run.
    pub before: f64,
    /// Of the second.
    pub after: f64,
}

impl Change {
    /// By how much it grew.
    pub fn by(&self) -> f64 {
        self.after - self.before
    }
}

/// What an actor waited for, in both runs.
#[derive(Clone, PartialEq, Debug)]
pub struct WaitChange {
    /// For what, in words.
    pub what: String,
    /// Whether it was a message: those are late because something else is.
    pub of_input: bool,
    /// The share of the window.
    pub share: Change,
    /// Nanoseconds a row.
    pub row_ns: Change,
}

/// An actor in both runs.
#[derive(Clone, PartialEq, Debug)]
pub struct ActorChange {
    /// Its name.
    pub actor: String,
    /// Nanoseconds of one act, in the mean.
    pub act_ns: Change,
    /// The share of the window that it acted.
    pub busy: Change,
    /// Nanoseconds a row that it acted.
    pub row_ns: Change,
    /// What it waited for in either run, what moved most first.
    pub waits: Vec<WaitChange>,
}

/// Something counted in both runs.
#[derive(Clone, PartialEq, Debug)]
pub struct CounterChange {
    /// Its name.
    pub counter: String,
    /// The mean over the window.
    pub mean: Change,
    /// The largest value.
    pub max: Change,
}

/// Two runs beside each other.
#[derive(Clone, PartialEq, Debug)]
pub struct Comparison {
    /// Rows a second.
    pub rows_per_second: Change,
    /// Rows of a step, in the mean.
    pub rows_a_step: Change,
    /// Nanoseconds from one step to the next, in the mean.
    pub step_ns: Change,
    /// The share of the time of devices with stages in which nothing acted on them.
    pub bubble: Change,
    /// What bounded each run, in words.
    pub verdicts: [String; 2],
    /// What explains the change of a row's time, in words; none where it hardly changed.
    pub cause: Option<String>,
    /// The actors of both runs, the one that moved most first.
    pub actors: Vec<ActorChange>,
    /// What both runs counted and of which the most changed.
    pub counters: Vec<CounterChange>,
    /// Actors of the first run alone.
    pub gone: Vec<String>,
    /// Actors of the second run alone.
    pub new: Vec<String>,
}

/// One run: its figures, and the names in them.
type Side<'a> = (&'a Summary, &'a Recording);

impl Comparison {
    /// What changed from one run to another.
    pub fn of(before: Side<'_>, after: Side<'_>) -> Self {
        let (mine, theirs) = (named(before), named(after));
        let sides = (before, after);
        let pair = |(name, own): (&Name, &&TrackSummary)| Some(actor(sides, &name.0, own, theirs.get(name)?));
        let mut actors: Vec<ActorChange> = mine.iter().filter_map(pair).collect();
        actors.sort_by(|a, b| b.moved().total_cmp(&a.moved()));
        let alone = |these: &BTreeMap<Name, &TrackSummary>, those: &BTreeMap<Name, &TrackSummary>| {
            these.keys().filter(|name| !those.contains_key(name)).map(|name| name.0.clone()).collect()
        };
        let both = |of: fn(&Summary) -> f64| Change { before: of(before.0), after: of(after.0) };
        let rows_a_step = both(|summary| divided(summary.rows, summary.steps));
        let row_ns = both(|summary| divided(summary.window_ns, summary.rows));
        Self {
            rows_per_second: both(Summary::rows_per_second),
            rows_a_step,
            step_ns: both(|summary| divided(summary.window_ns, summary.steps)),
            bubble: both(|summary| summary.bubble),
            verdicts: [before, after].map(|(summary, recording)| Words::new(summary, recording).verdict()),
            cause: cause(row_ns, rows_a_step, &actors),
            counters: counters(before, after),
            gone: alone(&mine, &theirs),
            new: alone(&theirs, &mine),
            actors,
        }
    }

    /// All of it in words: the whole, what explains it, and a line for each actor that moved.
    pub fn lines(&self) -> Vec<String> {
        let Self { rows_per_second: rate, rows_a_step, step_ns, bubble, verdicts, cause, actors, counters, gone, new } =
            self;
        let mut lines = vec![
            format!(
                "{:.1} → {:.1} rows/s{}; a step {} with {}",
                rate.before,
                rate.after,
                relative(rate),
                times(step_ns),
                rows(rows_a_step)
            ),
            cause.clone().unwrap_or_else(|| "no row takes much longer or shorter".into()),
            format!("before: {}", verdicts[0]),
            format!("after: {}", verdicts[1]),
        ];
        if bubble.by().abs() >= WORTH_TELLING {
            lines.push(format!("devices with stages idle {}", shares(bubble)));
        }
        let told = actors.iter().filter_map(ActorChange::words);
        lines.extend(told);
        let same = actors.iter().filter(|actor| actor.words().is_none()).count();
        if same > 0 {
            lines.push(format!("{same} {} the same as before", if same == 1 { "actor did" } else { "actors did" }));
        }
        lines.extend(counters.iter().map(|CounterChange { counter, mean, max }| {
            format!("{counter}: mean {:.1} → {:.1}, at most {} → {}", mean.before, mean.after, max.before, max.after)
        }));
        for (which, names) in [("only before", gone), ("only after", new)] {
            if !names.is_empty() {
                lines.push(format!("{which}: {}", names.join(", ")));
            }
        }
        lines
    }
}

impl ActorChange {
    /// The most that any of its shares moved.
    fn moved(&self) -> f64 {
        self.waits.iter().map(|wait| wait.share).chain([self.busy]).fold(0.0, |most, share| share.by().abs().max(most))
    }

    /// `stage 1: busy 40 % → 80 %, an act 10.00 ms → 20.00 ms (+100 %); waits: input from stage 0 50 % → 10 %`
    fn words(&self) -> Option<String> {
        let moved = |share: &Change| share.by().abs() >= WORTH_TELLING;
        let slower = self.act_ns.before > 0.0 && (self.act_ns.by() / self.act_ns.before).abs() >= PART;
        // A long act that is rare, or one that is nothing beside the rest, is no news.
        let acts = moved(&self.busy) || (slower && self.busy.before.max(self.busy.after) >= WORTH_TELLING);
        let told = self.waits.iter().filter(|wait| moved(&wait.share));
        let waits: Vec<String> = told.map(|wait| format!("{} {}", wait.what, shares(&wait.share))).collect();
        if !acts && waits.is_empty() {
            return None;
        }
        let waits = if waits.is_empty() { String::new() } else { format!("; waits: {}", waits.join(", ")) };
        Some(format!("{}: busy {}, an act {}{waits}", self.actor, shares(&self.busy), times(&self.act_ns)))
    }
}

/// What was counted in both runs, under one name, and came to another most.
fn counters((before, mine): Side<'_>, (after, theirs): Side<'_>) -> Vec<CounterChange> {
    let change = |own: &CounterSummary| {
        let counter = mine.counter(own.counter);
        let other = after.counters.iter().find(|other| theirs.counter(other.counter) == counter)?;
        let mean = Change { before: own.mean, after: other.mean };
        let max = Change { before: own.max as f64, after: other.max as f64 };
        (own.max != other.max).then(|| CounterChange { counter: counter.into(), mean, max })
    };
    before.counters.iter().filter_map(change).collect()
}

/// An actor's name, and how many before it have the same.
type Name = (String, usize);

fn named<'a>((summary, recording): Side<'a>) -> BTreeMap<Name, &'a TrackSummary> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for own in &summary.tracks {
        let name = recording.actor(own.track);
        let before = seen.entry(name).or_default();
        all.insert((name.to_owned(), *before), own);
        *before += 1;
    }
    all
}

/// The mean of what has `count` parts; 0 of nothing.
fn divided(whole: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { whole as f64 / count as f64 }
}

fn actor((before, after): (Side<'_>, Side<'_>), name: &str, mine: &TrackSummary, theirs: &TrackSummary) -> ActorChange {
    let act_ns = |own: &TrackSummary| own.busy_ns.checked_div(own.acts).unwrap_or(0) as f64;
    let (first, second) = (waited(before, mine), waited(after, theirs));
    let share = |a, b| Change { before: before.0.share(a), after: after.0.share(b) };
    let row_ns = |a, b| Change { before: divided(a, before.0.rows), after: divided(b, after.0.rows) };
    let wait = |what: &&(String, bool)| {
        let of = |side: &BTreeMap<(String, bool), u64>| side.get(*what).copied().unwrap_or(0);
        let (a, b) = (of(&first), of(&second));
        WaitChange { what: what.0.clone(), of_input: what.1, share: share(a, b), row_ns: row_ns(a, b) }
    };
    let all: BTreeSet<&(String, bool)> = first.keys().chain(second.keys()).collect();
    let mut waits: Vec<WaitChange> = all.iter().map(wait).collect();
    waits.sort_by(|a, b| b.share.by().abs().total_cmp(&a.share.by().abs()));
    ActorChange {
        actor: name.into(),
        act_ns: Change { before: act_ns(mine), after: act_ns(theirs) },
        busy: share(mine.busy_ns, theirs.busy_ns),
        row_ns: row_ns(mine.busy_ns, theirs.busy_ns),
        waits,
    }
}

/// How long an actor waited for each thing, by its words: numbers of tracks differ between runs.
fn waited((summary, recording): Side<'_>, own: &TrackSummary) -> BTreeMap<(String, bool), u64> {
    let words = Words::new(summary, recording);
    let mut waits = BTreeMap::new();
    for (blocked, ns) in &own.waits {
        let of_input = matches!(blocked, Blocked::Input(_) | Blocked::Turn);
        let waited_ns: &mut u64 = waits.entry((words.blocked(own.track, *blocked), of_input)).or_default();
        *waited_ns = waited_ns.saturating_add(*ns);
    }
    waits
}

/// What moved as a row's time did: steps with fewer rows or more; then acts, then what is no message, since a message is late because
/// something else is.
fn cause(row_ns: Change, rows_a_step: Change, actors: &[ActorChange]) -> Option<String> {
    if row_ns.before <= 0.0 || (row_ns.by() / row_ns.before).abs() < SAME {
        return None;
    }
    let how = if row_ns.by() > 0.0 { "slower" } else { "faster" };
    let fuller = rows_a_step.by() / rows_a_step.before;
    if fuller.abs() >= OTHER_STEPS && (fuller < 0.0) == (row_ns.by() > 0.0) {
        return Some(format!("{how} because a step has {}", rows(&rows_a_step)));
    }
    let part = |change: &Change| change.by() / row_ns.by();
    let most = |found: Vec<(f64, String)>| {
        found.into_iter().filter(|(part, _)| *part >= PART).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, words)| words)
    };
    let acts = |own: &ActorChange| (part(&own.row_ns), format!("{} acts {} a row", own.actor, times(&own.row_ns)));
    let waits = |of_input: bool| {
        let of = actors.iter().flat_map(|own| own.waits.iter().map(move |wait| (own, wait)));
        let of = of.filter(move |(_, wait)| wait.of_input == of_input);
        of.map(|(own, wait)| {
            (part(&wait.row_ns), format!("{} waits {} a row for {}", own.actor, times(&wait.row_ns), wait.what))
        })
        .collect()
    };
    let found = most(actors.iter().map(acts).collect()).or_else(|| most(waits(false))).or_else(|| most(waits(true)))?;
    Some(format!("{how} because {found}"))
}

/// `20.4 → 4.1 rows (-80 %)`
fn rows(change: &Change) -> String {
    format!("{:.1} → {:.1} rows{}", change.before, change.after, relative(change))
}

fn shares(change: &Change) -> String {
    format!("{} → {}", percent(change.before), percent(change.after))
}

fn times(change: &Change) -> String {
    format!("{} → {}{}", time(change.before as u64), time(change.after as u64), relative(change))
}

/// ` (+25 %)`
fn relative(change: &Change) -> String {
    if change.before <= 0.0 { String::new() } else { format!(" ({:+.0} %)", 100.0 * change.by() / change.before) }
}
