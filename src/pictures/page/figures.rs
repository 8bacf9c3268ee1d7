//! The figures on top of the page, and the bars of its actors.

use actors::trace::{Blocked, Percentiles, Recording, Requests, Summary, Words, time};
use serde_json::{Value, json};

/// Figures of the whole run, each with what it means.
pub(super) fn figures(recording: &Recording, summary: &Summary) -> Vec<Value> {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let figure = |name: &str, value: String, means: &str| json!({"name": name, "value": value, "means": means});
    let mut figures = vec![
        figure("window", time(summary.window_ns), "from the first act to the last"),
        figure("steps", summary.steps.to_string(), "micro-batches that went through the stages"),
        figure("rows a second", format!("{:.1}", summary.rows_per_second()), "each step's rows counted once"),
        figure(
            "bubble",
            percent(summary.bubble),
            "the share of the time of devices with stages in which nothing acted on them",
        ),
        figure(
            "two stages at once",
            percent(summary.overlap),
            "the share of the time in which two stages or more acted",
        ),
    ];
    let moved = summary.communication;
    if moved.ns > 0 {
        let exposed = moved.ns.saturating_sub(moved.hidden_ns);
        let means = "acts of communicators, added up, while some stage computed";
        figures.push(figure("communication, hidden", time(moved.hidden_ns), means));
        let means = "acts of communicators, added up, while no stage computed";
        figures.push(figure("communication, exposed", time(exposed), means));
    }
    let Requests { ended, tokens, first_token, between_tokens, longest_gap } = summary.requests;
    if ended > 0 {
        let three = |times: Percentiles| [time(times.p50_ns), time(times.p90_ns), time(times.p99_ns)].join(" · ");
        figures.push(figure("requests", format!("{ended} ({tokens} tokens)"), "those that ended in the window"));
        let told = [
            (
                "first token",
                first_token,
                "from when the batcher took a request in; 50, 90, 99 in 100 are at most so long",
            ),
            ("between tokens", between_tokens, "the mean of each request; 50, 90, 99 in 100 are at most so long"),
            ("longest gap", longest_gap, "between two tokens of a request; 50, 90, 99 in 100 are at most so long"),
        ];
        for (name, times, means) in told {
            figures.extend(times.map(|times| figure(name, three(times), means)));
        }
    }
    // Each replica counts its own.
    let most = |name: &str| -> Vec<u64> {
        let named = summary.counters.iter().filter(|counter| recording.counter(counter.counter) == name);
        named.map(|counter| counter.max).collect()
    };
    if let Some(pages) = most("pool: pages in use").into_iter().max() {
        let means = "pages of key/value memory that the sequences of a replica held";
        figures.push(figure("pages in use, at most", pages.to_string(), means));
    }
    if let Some(count) = most("batcher: preemptions so far").into_iter().reduce(u64::saturating_add) {
        figures.push(figure("preemptions", count.to_string(), "sequences sent back to the queue for want of memory"));
    }
    figures
}

/// How each actor spent the window: busy, and waiting by cause.
pub(super) fn bars(recording: &Recording, summary: &Summary) -> Vec<Value> {
    let words = Words::new(summary, recording);
    let bar = |own: &actors::trace::TrackSummary| {
        let wait = |(blocked, ns): &(Blocked, u64)| {
            let class = match blocked {
                Blocked::Input(_) => "input",
                Blocked::Credit(_) => "credit",
                Blocked::Outside(_) => "outside",
                Blocked::Turn => "turn",
            };
            json!({"words": words.blocked(own.track, *blocked), "class": class, "share": summary.share(*ns)})
        };
        json!({"actor": recording.actor(own.track), "lane": recording.lane(own.track), "acts": own.acts,
            "busy": summary.share(own.busy_ns), "waits": own.waits.iter().map(wait).collect::<Vec<_>>()})
    };
    summary.tracks.iter().map(bar).collect()
}
