//! A summary in words, the verdict first.

use super::latency::{Communication, Percentiles, Requests};
use super::record::Track;
use super::recording::Recording;
use super::summary::{Blocked, Summary, TrackSummary, is_stage};
use super::verdict::{BOUND, Link, Verdict};
use std::collections::BTreeSet;

/// Causes of one actor's waiting that are told, from half a percent on; the rest is small.
const CAUSES: usize = 3;

/// A summary beside the names of what it mentions.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    summary: &'a Summary,
    recording: &'a Recording,
}

impl<'a> Words<'a> {
    /// Words for a summary of `recording`.
    pub fn new(summary: &'a Summary, recording: &'a Recording) -> Self {
        Self { summary, recording }
    }

    /// All lines: the verdict, the figures of the whole, one line an actor, an edge and a counter, and the longest waits.
    pub fn lines(&self) -> Vec<String> {
        let (summary, recording) = (self.summary, self.recording);
        let mut lines = vec![self.verdict()];
        if summary.lost > 0 {
            lines.push(format!(
                "{} records before these were lost, the rings were full: all figures are of the last {}",
                summary.lost,
                time(summary.window_ns)
            ));
        }
        if summary.verdict == Verdict::Empty {
            return lines;
        }
        lines.push(format!(
            "{} steps, {} rows, {:.1} rows/s; at least two stages at once {}",
            summary.steps,
            summary.rows,
            summary.rows_per_second(),
            percent(summary.overlap)
        ));
        lines.extend(self.devices());
        lines.extend(self.requests());
        lines.extend(summary.tracks.iter().map(|own| self.track(own)));
        for edge in &summary.edges {
            let Some(name) = recording.edge(edge.edge) else { continue };
            let (from, to) = (recording.actor(name.from), recording.actor(name.to));
            lines.push(format!("queue {from} → {to}: {}: mean {:.2}, at most {}", name.what, edge.mean, edge.max));
        }
        for counter in &summary.counters {
            let name = recording.counter(counter.counter);
            lines.push(format!("{name}: mean {:.1}, at most {}", counter.mean, counter.max));
        }
        for wait in &summary.longest_waits {
            lines.push(format!(
                "long wait: {} {} for {}, {} into the window",
                recording.actor(wait.track),
                time(wait.ns),
                self.blocked(wait.track, wait.blocked),
                time(wait.after_ns)
            ));
        }
        lines
    }

    /// What bounded the run, in one line.
    pub fn verdict(&self) -> String {
        let (summary, window) = (self.summary, time(self.summary.window_ns));
        let actor = |track: Track| self.recording.actor(track);
        match &summary.verdict {
            Verdict::Empty => "nothing acted: no step was recorded".into(),
            Verdict::Actor { track, waiter } => {
                let busy = self.busy(*track);
                let lane = self.lane_beyond(*track).map(|lane| format!(" ({lane})")).unwrap_or_default();
                let waits =
                    |(other, share): &(Track, f64)| format!("; {} waits for it {}", actor(*other), percent(*share));
                let waits = waiter.as_ref().map(waits).unwrap_or_default();
                format!("bound by {}: busy {busy} of {window}{lane}{waits}", actor(*track))
            }
            Verdict::Balanced { tracks } => {
                let busy = |&track: &Track| format!("{} busy {}", actor(track), self.busy(track));
                format!("balanced: {} of {window}", tracks.iter().map(busy).collect::<Vec<_>>().join(", "))
            }
            Verdict::InTurn { track, acting } => format!(
                "bound by the order of steps: some actor acts {} of {window}, but one after the other, {} the most with {}",
                percent(*acting),
                actor(*track),
                self.busy(*track)
            ),
            Verdict::Batcher { chain } => format!("bound by the batcher: {} of {window}", self.chain(chain)),
            Verdict::Credit { chain } => {
                let what = chain.first().map_or("credit".into(), |link| self.blocked(link.track, link.blocked));
                format!("bound by {what}: {} of {window}", self.chain(chain))
            }
            Verdict::Waiting { chain } if chain.is_empty() => {
                format!(
                    "bound by nothing recorded: no actor is busy {} of {window}, and no waits are recorded",
                    percent(BOUND)
                )
            }
            Verdict::Waiting { chain } => format!("bound by waiting: {} of {window}", self.chain(chain)),
        }
    }

    /// `devices with stages idle 41 %; communication 5 % of their time, 20 % of it while a stage computed`
    fn devices(&self) -> Option<String> {
        let (summary, recording) = (self.summary, self.recording);
        let lanes: BTreeSet<&str> = summary
            .tracks
            .iter()
            .map(|own| own.track)
            .filter(|track| is_stage(recording.actor(*track)))
            .map(|track| recording.lane(track))
            .collect();
        if lanes.is_empty() {
            return None;
        }
        let Communication { ns, hidden_ns } = summary.communication;
        let moved = if ns == 0 {
            String::new()
        } else {
            let share = summary.share(ns) / lanes.len() as f64;
            let hidden = hidden_ns as f64 / ns as f64;
            format!(
                "; communication {} of their time, {} of it while a stage computed",
                percent(share),
                percent(hidden)
            )
        };
        Some(format!("devices with stages idle {}{moved}", percent(summary.bubble)))
    }

    /// `12 requests, 576 tokens; of 50, 90, 99 in 100 at most: first token 7.0, 9.0, 9.1 ms; between tokens …`
    fn requests(&self) -> Option<String> {
        let Requests { ended, tokens, first_token, between_tokens, longest_gap } = &self.summary.requests;
        let named = [("first token", first_token), ("between tokens", between_tokens), ("longest gap", longest_gap)];
        let told = |(name, times): (&str, &Option<Percentiles>)| {
            let Percentiles { p50_ns, p90_ns, p99_ns } = (*times)?;
            Some(format!("; {name} {}, {}, {}", time(p50_ns), time(p90_ns), time(p99_ns)))
        };
        let told: String = named.into_iter().filter_map(told).collect();
        let what = if told.is_empty() { "" } else { "; for 50, 90 and 99 in 100 at most" };
        (*ended > 0).then(|| format!("{ended} requests ended, {tokens} tokens{what}{told}"))
    }

    fn lane(&self, track: Track) -> &'a str {
        self.recording.lane(track)
    }

    fn busy(&self, track: Track) -> String {
        percent(self.summary.track(track).map_or(0.0, |own| self.summary.share(own.busy_ns)))
    }

    /// How busy the lane of `track` is, if that is much more than the actor itself.
    fn lane_beyond(&self, track: Track) -> Option<String> {
        let own_lane = self.lane(track);
        let whole_ns = self
            .summary
            .tracks
            .iter()
            .filter(|own| self.lane(own.track) == own_lane)
            .fold(0, |sum: u64, own| sum.saturating_add(own.busy_ns));
        let (whole, own) = (self.summary.share(whole_ns), self.summary.share(self.summary.track(track)?.busy_ns));
        (whole > own + 0.1).then(|| format!("all of {own_lane}: {}", percent(whole)))
    }

    /// `stage 0 waits for input from feed 80 %, feed for input from batcher 92 %`
    fn chain(&self, chain: &[Link]) -> String {
        let link = |(index, link): (usize, &Link)| {
            let verb = if index == 0 { "waits for" } else { "for" };
            format!(
                "{} {verb} {} {}",
                self.recording.actor(link.track),
                self.blocked(link.track, link.blocked),
                percent(link.share)
            )
        };
        chain.iter().enumerate().map(link).collect::<Vec<_>>().join(", ")
    }

    /// `stage 1 idle 18 %: credit of pool 71 %, input from stage 0 22 % (cpu:1, 312 acts of 2.6 ms)`
    fn track(&self, own: &TrackSummary) -> String {
        let idle_ns = self.summary.window_ns.saturating_sub(own.busy_ns);
        let cause = |(blocked, ns): &(Blocked, u64)| {
            let share = if idle_ns == 0 { 0.0 } else { *ns as f64 / idle_ns as f64 };
            format!("{} {}", self.blocked(own.track, *blocked), percent(share))
        };
        let told = own.waits.iter().take(CAUSES).filter(|(_, ns)| ns.saturating_mul(200) >= idle_ns);
        let causes: Vec<_> = told.map(cause).collect();
        let causes = if causes.is_empty() { String::new() } else { format!(": {}", causes.join(", ")) };
        let lane = self.lane(own.track);
        let acts = match own.busy_ns.checked_div(own.acts) {
            Some(mean_ns) => format!("{} acts of {}", own.acts, time(mean_ns)),
            None => "no acts".into(),
        };
        let idle = percent(self.summary.share(idle_ns));
        format!("{} idle {idle}{causes} ({lane}, {acts})", self.recording.actor(own.track))
    }

    /// What `track` waited for, in words.
    pub fn blocked(&self, track: Track, blocked: Blocked) -> String {
        match blocked {
            Blocked::Input(from) => format!("input from {}", self.recording.actor(from)),
            Blocked::Credit(of) => format!("credit of {}", self.recording.actor(of)),
            Blocked::Outside(cause) => self.recording.cause(cause).to_owned(),
            Blocked::Turn => format!("its turn on {}", self.lane(track)),
        }
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A duration with three digits and its unit.
pub fn time(ns: u64) -> String {
    match ns as f64 {
        ns if ns >= 1e9 => format!("{:.2} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.1} µs", ns / 1e3),
    }
}
