//! How often something may be started again before that stops being a remedy. The clock is the caller's.

use std::collections::VecDeque;
use std::time::Duration;

/// Restarts within [`WINDOW`].
pub(crate) const RESTARTS_MAX: usize = 5;
/// Over which restarts are counted.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// When something was restarted lately. Times are since any one origin.
#[derive(Debug, Default)]
pub(crate) struct Intensity {
    restarts: VecDeque<Duration>,
}

impl Intensity {
    /// Which restart of the window one more would be, counted; `None` beyond the limit.
    pub(crate) fn allows(&mut self, now: Duration) -> Option<usize> {
        while self.restarts.front().is_some_and(|&at| now.saturating_sub(at) > WINDOW) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= RESTARTS_MAX {
            return None;
        }
        self.restarts.push_back(now);
        Some(self.restarts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_limited_within_a_window_that_moves() {
        let mut intensity = Intensity::default();
        for second in 0..5 {
            assert_eq!(intensity.allows(Duration::from_secs(second)), Some(second as usize + 1));
        }
        assert_eq!(intensity.allows(Duration::from_secs(30)), None);
        // The first one has left the window.
        assert_eq!(intensity.allows(WINDOW + Duration::from_nanos(1)), Some(5));
        assert_eq!(intensity.allows(WINDOW + Duration::from_nanos(2)), None);
    }
}
