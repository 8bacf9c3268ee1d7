//! What signals ask of a job: a pure state machine, the same for a process that is supervised and for one that is not.

use std::time::Duration;

/// After a stop was asked for, how long the process may take to end by itself.
const STOP_MAX: Duration = Duration::from_secs(1);

/// A signal that asks for the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// SIGINT: somebody is at the terminal and can ask again.
    Interrupt,
    /// SIGTERM: nobody will ask again before SIGKILL.
    Terminate,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

/// How far a job is to be ended. Each includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// No line is begun; what is in flight is finished.
    Drain,
    /// What is in flight is given up.
    Stop,
    /// The process ends, because the time to stop is over.
    Overdue,
    /// The process ends, because it was asked a third time.
    Exit,
}

/// What has been asked so far.
#[derive(Debug)]
pub(crate) struct Wishes {
    level: Option<Level>,
    /// When the next level is due by itself.
    due: Option<Duration>,
    /// How long a drain may take that nobody watches.
    drain_max: Duration,
    /// Whether a lost terminal is none of the job's business.
    detach: bool,
}

impl Wishes {
    /// Nothing asked. A drain after SIGTERM or SIGHUP takes `drain_max` at most; with `detach` SIGHUP asks nothing.
    pub(crate) fn new(drain_max: Duration, detach: bool) -> Self {
        Self { level: None, due: None, drain_max, detach }
    }

    /// The level that was reached last.
    pub(crate) fn level(&self) -> Option<Level> {
        self.level
    }

    /// When [`Wishes::pass`] has to be called at the latest, since the origin of the caller's clock.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Takes a signal in; the level that it leads to, if that is a new one.
    pub(crate) fn ask(&mut self, ask: Ask, now: Duration) -> Option<Level> {
        if ask == Ask::HangUp && (self.detach || self.level.is_some()) {
            return None;
        }
        let next = match self.level {
            None => Level::Drain,
            Some(Level::Drain) => Level::Stop,
            Some(Level::Stop | Level::Overdue) => Level::Exit,
            Some(Level::Exit) => return None,
        };
        let unwatched = matches!(ask, Ask::Terminate | Ask::HangUp);
        self.reach(next, now, unwatched)
    }

    /// Takes time in; the level that is due, if one is.
    pub(crate) fn pass(&mut self, now: Duration) -> Option<Level> {
        self.due.filter(|&due| due <= now)?;
        match self.level {
            Some(Level::Drain) => self.reach(Level::Stop, now, true),
            Some(Level::Stop) => self.reach(Level::Overdue, now, true),
            None | Some(Level::Overdue | Level::Exit) => None,
        }
    }

    fn reach(&mut self, level: Level, now: Duration, unwatched: bool) -> Option<Level> {
        self.level = Some(level);
        self.due = match level {
            Level::Drain => unwatched.then(|| now.saturating_add(self.drain_max)),
            Level::Stop => Some(now.saturating_add(STOP_MAX)),
            Level::Overdue | Level::Exit => None,
        };
        Some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(30);

    /// Signals at seconds, and the levels they lead to.
    fn check(detach: bool, asked: &[(Ask, u64, Option<Level>)]) -> Wishes {
        let mut wishes = Wishes::new(DRAIN, detach);
        for &(ask, second, expect) in asked {
            assert_eq!(wishes.ask(ask, Duration::from_secs(second)), expect, "{asked:?}");
        }
        wishes
    }

    #[test]
    fn the_first_drains_the_second_stops_the_third_exits() {
        use Ask::{HangUp, Interrupt, Terminate};
        for ask in [Interrupt, Terminate] {
            check(false, &[(ask, 0, Some(Level::Drain)), (ask, 1, Some(Level::Stop)), (ask, 2, Some(Level::Exit))]);
        }
        // A terminal that goes says so once, however often the signal comes; a watcher's second signal still counts.
        check(false, &[(HangUp, 0, Some(Level::Drain)), (HangUp, 0, None), (Terminate, 1, Some(Level::Stop))]);
        check(true, &[(HangUp, 0, None), (HangUp, 1, None), (Interrupt, 2, Some(Level::Drain))]);
    }

    #[test]
    fn a_drain_that_nobody_watches_has_an_end() {
        let mut wishes = check(false, &[(Ask::Terminate, 10, Some(Level::Drain))]);
        assert_eq!(wishes.due(), Some(Duration::from_secs(40)));
        assert_eq!(wishes.pass(Duration::from_secs(39)), None);
        assert_eq!(wishes.pass(Duration::from_secs(40)), Some(Level::Stop));
        assert_eq!(wishes.pass(Duration::from_secs(40)), None);
        assert_eq!(wishes.pass(Duration::from_secs(41)), Some(Level::Overdue));
        assert_eq!((wishes.due(), wishes.pass(Duration::MAX)), (None, None));
    }

    #[test]
    fn a_drain_that_somebody_watches_takes_its_time() {
        let mut wishes = check(false, &[(Ask::Interrupt, 10, Some(Level::Drain))]);
        assert_eq!((wishes.due(), wishes.pass(Duration::MAX)), (None, None));
        assert_eq!(wishes.ask(Ask::Interrupt, Duration::from_secs(50)), Some(Level::Stop));
        assert_eq!(wishes.due(), Some(Duration::from_secs(51)));
    }
}
