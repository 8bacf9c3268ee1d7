//! The page of a run: one file that needs nothing else. Rust makes the data and the words; the scripts draw.

mod data;
mod figures;
mod pack;
mod rows;

use super::escape::{markup, script};
use super::recorded_svg;
use actors::trace::{Recording, Summary};

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// In the order in which they need each other.
const SCRIPTS: [&str; 5] = [
    include_str!("data.js"),
    include_str!("spans.js"),
    include_str!("lanes.js"),
    include_str!("charts.js"),
    include_str!("page.js"),
];

/// The page of what was recorded. `lonely` ends of messages had been left out of the recording before.
pub(crate) fn page(recording: &Recording, lonely: u64) -> String {
    let summary = Summary::of(recording);
    let (data, columns) = data::data(recording, &summary, lonely + recording.lonely_ends());
    let title = recording.about.first().map_or("a run of millstream", |line| line);
    let parts = [
        ("TITLE", markup(title)),
        ("STYLE", STYLE.to_owned()),
        ("PLAN", recorded_svg(recording, &summary)),
        ("DATA", script(&data.to_string())),
        ("COLUMNS", columns),
        ("SCRIPT", SCRIPTS.concat()),
    ];
    fill(FRAME, &parts)
}

/// `frame` with each `{{NAME}}` replaced, in one pass: what is put in is not looked at again.
fn fill(frame: &str, parts: &[(&str, String)]) -> String {
    let mut text = String::with_capacity(frame.len() + parts.iter().map(|(_, part)| part.len()).sum::<usize>());
    let mut pieces = frame.split("{{");
    text.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or(("", piece));
        if let Some((_, part)) = parts.iter().find(|(own, _)| *own == name) {
            text.push_str(part);
        }
        text.push_str(rest);
    }
    text
}
