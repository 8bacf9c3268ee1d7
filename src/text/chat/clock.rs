//! The date that templates ask for. It is part of the conversation, so that a request made again is the same.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Utc};
use minijinja::{Error, ErrorKind, State};
use std::time::{SystemTime, UNIX_EPOCH};

/// The name under which a rendering holds the seconds since 1970; templates cannot spell it.
pub(super) const NOW: &str = " now";

/// Seconds since 1970.
pub(super) fn seconds(now: SystemTime) -> i64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// `strftime_now(format)`: the conversation's time, in UTC.
pub(super) fn strftime_now(state: &State<'_, '_>, format: &str) -> Result<String, Error> {
    let invalid = |why: String| Error::new(ErrorKind::InvalidOperation, why);
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        return Err(invalid(format!("strftime_now: {format:?} is not a format")));
    }
    let seconds = state.lookup(NOW).and_then(|now| now.as_i64()).unwrap_or_default();
    let now: DateTime<Utc> =
        DateTime::from_timestamp(seconds, 0).ok_or_else(|| invalid("strftime_now: the time is out of range".into()))?;
    Ok(now.format_with_items(items.into_iter()).to_string())
}
