//! How long requests waited for their tokens, and how long devices waited for each other.

use super::record::{Event, Record};
use super::recording::Recording;
use super::summary::{is_communicator, is_stage};

/// Of a set of durations: half of them, nine in ten and 99 in 100 are at most so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Percentiles {
    /// Half of them.
    pub p50_ns: u64,
    /// Nine in ten.
    pub p90_ns: u64,
    /// 99 in 100.
    pub p99_ns: u64,
}

impl Percentiles {
    /// Those of `durations`, each one that is among them; none of nothing.
    pub fn of(mut durations: Vec<u64>) -> Option<Self> {
        durations.sort_unstable();
        let last = durations.len().checked_sub(1)?;
        let at = |hundredths: usize| durations[((last + 1) * hundredths).div_ceil(100).clamp(1, last + 1) - 1];
        Some(Self { p50_ns: at(50), p90_ns: at(90), p99_ns: at(99) })
    }
}

/// The requests that ended in the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Requests {
    /// How many.
    pub ended: u64,
    /// Tokens that they were told.
    pub tokens: u64,
    /// From when the batcher took a request in to its first token. None where none was told.
    pub first_token: Option<Percentiles>,
    /// Between two tokens: of each request its mean. None where no request was told two.
    pub between_tokens: Option<Percentiles>,
    /// Between two tokens: of each request its longest.
    pub longest_gap: Option<Percentiles>,
}

impl Requests {
    /// Those of `recording` that ended from `start_ns` on.
    pub(super) fn of(recording: &Recording, start_ns: u64) -> Self {
        let mut requests = Self::default();
        let (mut first, mut between, mut longest) = (vec![], vec![], vec![]);
        for record in recording.records.iter().filter(|record| record.end_ns >= start_ns) {
            let Event::Request { tokens, first_ns, gap_ns, .. } = record.event else { continue };
            requests.ended += 1;
            requests.tokens += u64::from(tokens);
            if tokens > 0 {
                first.push(first_ns);
            }
            if tokens > 1 {
                let rest_ns = (record.end_ns - record.start_ns).saturating_sub(first_ns);
                between.push(rest_ns / u64::from(tokens - 1));
                longest.push(gap_ns);
            }
        }
        requests.first_token = Percentiles::of(first);
        requests.between_tokens = Percentiles::of(between);
        requests.longest_gap = Percentiles::of(longest);
        requests
    }
}

/// What communicators did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Communication {
    /// How long they acted, all together.
    pub ns: u64,
    /// How long of it some stage computed meanwhile, on whatever device.
    pub hidden_ns: u64,
}

impl Communication {
    /// What they did between two times.
    pub(super) fn of(recording: &Recording, (start_ns, end_ns): (u64, u64)) -> Self {
        let clip = |record: &Record| {
            let (from_ns, to_ns) = (record.start_ns.max(start_ns), record.end_ns.min(end_ns));
            (from_ns < to_ns && matches!(record.event, Event::Act { .. })).then_some((from_ns, to_ns))
        };
        let acts = |of: fn(&str) -> bool| {
            let own = move |record: &&Record| of(recording.actor(record.track));
            recording.records.iter().filter(own).filter_map(clip)
        };
        let computing = union(acts(is_stage).collect());
        let mut sum = Self::default();
        for (from_ns, to_ns) in acts(is_communicator) {
            sum.ns = sum.ns.saturating_add(to_ns - from_ns);
            let first = computing.partition_point(|(_, end_ns)| *end_ns <= from_ns);
            for (start_ns, end_ns) in computing[first..].iter().take_while(|(start_ns, _)| *start_ns < to_ns) {
                sum.hidden_ns += to_ns.min(*end_ns) - from_ns.max(*start_ns);
            }
        }
        sum
    }
}

/// The times in which any of the spans was open.
fn union(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut whole: Vec<(u64, u64)> = vec![];
    for (from_ns, to_ns) in spans {
        match whole.last_mut() {
            Some((_, end_ns)) if from_ns <= *end_ns => *end_ns = to_ns.max(*end_ns),
            Some(_) | None => whole.push((from_ns, to_ns)),
        }
    }
    whole
}
