//! Draws a sketch: devices and their boxes in a row, a line down from each box, and below them what flows in a step, a row a link, from top
//! to bottom in the order of the plan.
//!
//! Invariant: every text has a rectangle of its own, made for the widest font that a viewer may take, and nothing leaves the picture.

use super::escape::markup;
use super::sketch::{Block, Group, Kind, Link, Sketch};
use graph::plan::explain::gib;
use std::fmt::{self, Write};

const MARGIN: f64 = 16.0;
/// Between the edge of a group and its boxes.
const PAD: f64 = 10.0;
const GAP: f64 = 14.0;
const BOX_WIDTH: f64 = 188.0;
const LINE: f64 = 16.0;
/// A character of text of 12 pixels, in the widest font that is usual.
const CHAR: f64 = 8.0;
const WIDTH_MIN: f64 = 840.0;
const ROW: f64 = 38.0;
/// Lines of what an actor does.
const LINES_MAX: usize = 4;

const STYLE: &str = include_str!("svg.css");

/// A rectangle of the picture.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Rect {
    /// Whether it lies in another.
    pub(super) fn is_within(&self, outer: &Self) -> bool {
        self.x >= outer.x
            && self.y >= outer.y
            && self.x + self.width <= outer.x + outer.width
            && self.y + self.height <= outer.y + outer.height
    }
}

/// A picture, and where things are in it.
pub(super) struct Drawing {
    pub(super) text: String,
    pub(super) whole: Rect,
    pub(super) groups: Vec<Rect>,
    pub(super) boxes: Vec<Rect>,
    /// Lines of text.
    pub(super) labels: Vec<Rect>,
}

impl Drawing {
    /// Whether everything lies in the picture.
    fn is_whole(&self) -> bool {
        self.groups.iter().chain(&self.boxes).chain(&self.labels).all(|rect| rect.is_within(&self.whole))
    }
}

/// Draws `sketch`.
pub(super) fn draw(sketch: &Sketch) -> Drawing {
    let mut pen = Pen { svg: String::new(), labels: vec![] };
    let width = MARGIN.mul_add(2.0, groups_width(&sketch.groups)).max(WIDTH_MIN);
    let mut y = MARGIN;
    for line in sketch.about.iter().flat_map(|line| wrap(line, fitting(width - 2.0 * MARGIN), usize::MAX)) {
        pen.text("plan-about", (MARGIN, y), &line);
        y += LINE;
    }
    let (groups, boxes) = pen.groups(&sketch.groups, y + GAP / 2.0);
    let bottom = groups.iter().map(|group| group.y + group.height).fold(y, f64::max) + GAP;
    let lines_at = pen.svg.len();
    let height = pen.links(&sketch.links, &boxes, width, bottom);
    // Lines down are drawn first, so that labels lie over them.
    let mut down = String::new();
    for (number, own) in boxes.iter().enumerate() {
        let reaches = |link: &&Link| link.from == number || link.to.contains(&number);
        let Some(last) = sketch.links.iter().rposition(|link| reaches(&link)) else { continue };
        let (x, from, to) = (own.x + own.width / 2.0, own.y + own.height, bottom + (last as f64 + 1.0) * ROW - 8.0);
        put(&mut down, format_args!(r#"<path class="plan-life" d="M{x:.1} {from:.1}V{to:.1}"/>"#));
    }
    pen.svg.insert_str(lines_at, &down);
    let holds = sketch.groups.iter().map(|group| &group.holds).max_by_key(|holds| holds.len());
    let height = pen.legend(holds.map_or(&[], Vec::as_slice), height) + MARGIN;
    let mut text = String::new();
    let size = format!(r#"width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}""#);
    let name = sketch.about.first().map_or("a plan", |line| line);
    put(&mut text, format_args!(r#"<svg xmlns="http://www.w3.org/2000/svg" class="plan" {size} role="img">"#));
    put(&mut text, format_args!("<title>{}</title><style>{STYLE}</style>", markup(name)));
    put(&mut text, format_args!(r#"<rect class="plan-paper" width="100%" height="100%"/>"#));
    put(&mut text, format_args!("{}</svg>\n", pen.svg));
    let whole = Rect { x: 0.0, y: 0.0, width, height };
    let drawing = Drawing { text, whole, groups, boxes, labels: pen.labels };
    debug_assert!(drawing.is_whole(), "something leaves the picture");
    drawing
}

fn group_width(group: &Group) -> f64 {
    let boxes = group.boxes.len() as f64;
    (boxes - 1.0).mul_add(GAP, boxes * BOX_WIDTH) + 2.0 * PAD
}

fn groups_width(groups: &[Group]) -> f64 {
    groups.iter().map(group_width).sum::<f64>() + GAP * (groups.len() as f64 - 1.0).max(0.0)
}

/// What fills the memory of a device, in lines that fit under its name.
fn held_words(group: &Group) -> Vec<String> {
    if group.bytes == 0 {
        return vec![];
    }
    let held = group.holds.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let parts: Vec<String> = group.holds.iter().map(|(what, bytes)| format!("{what} {}", gib(*bytes))).collect();
    let words = format!("{} of {}: {}", gib(held), gib(group.bytes), parts.join(", "));
    wrap(&words, fitting(group_width(group) - 2.0 * PAD), LINES_MAX + 1)
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes any text");
}

/// Characters of text that fit in a width.
fn fitting(width: f64) -> usize {
    (width / CHAR).max(1.0) as usize
}

fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHAR
}

/// `text` cut to `most` characters.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.into(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// `text` in at most `lines` lines of at most `most` characters; the last says whether there was more.
fn wrap(text: &str, most: usize, lines: usize) -> Vec<String> {
    let mut wrapped: Vec<String> = vec![];
    for word in text.split_whitespace() {
        let full = wrapped.len() == lines;
        match wrapped.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            Some(line) if full => {
                *line = cut(&format!("{line} …"), most);
                break;
            }
            Some(_) | None => wrapped.push(cut(word, most)),
        }
    }
    wrapped
}

struct Pen {
    svg: String,
    labels: Vec<Rect>,
}

impl Pen {
    /// A line of text whose upper left corner is given.
    fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        self.labels.push(Rect { x, y, width: text_width(text), height: LINE - 2.0 });
        let below = y + 12.0;
        put(&mut self.svg, format_args!(r#"<text class="{class}" x="{x:.1}" y="{below:.1}">{}</text>"#, markup(text)));
    }

    fn rect(&mut self, class: &str, rect: Rect, round: f64) {
        let Rect { x, y, width, height } = rect;
        let size = format!(r#"x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="{round}""#);
        put(&mut self.svg, format_args!(r#"<rect class="{class}" {size}/>"#));
    }

    /// Devices side by side; returns where they and their boxes are.
    fn groups(&mut self, groups: &[Group], top: f64) -> (Vec<Rect>, Vec<Rect>) {
        let most = fitting(BOX_WIDTH - 16.0);
        let words = |block: &Block| wrap(&block.does, most, LINES_MAX);
        let measured = groups.iter().flat_map(|group| &group.boxes).any(|block| block.busy.is_some());
        let lines = groups.iter().flat_map(|group| &group.boxes).map(|block| words(block).len()).max().unwrap_or(0);
        let bar = if measured { LINE + 8.0 } else { 0.0 };
        let box_height = (lines as f64 + 1.0).mul_add(LINE, bar + 12.0);
        let held = groups.iter().map(|group| held_words(group).len()).max().unwrap_or(0);
        let head = if held > 0 { (held as f64).mul_add(LINE - 2.0, LINE + 14.0) } else { LINE };
        let (mut left, mut places, mut boxes) = (MARGIN, vec![], vec![]);
        for group in groups {
            let (width, height) = (group_width(group), head + box_height + 2.0 * PAD + 4.0);
            let place = Rect { x: left, y: top, width, height };
            self.rect("plan-group", place, 8.0);
            self.group_head(group, (left + PAD, top + PAD / 2.0), width - 2.0 * PAD);
            for (number, block) in group.boxes.iter().enumerate() {
                let (x, y) = ((number as f64).mul_add(BOX_WIDTH + GAP, left + PAD), top + PAD + head + 4.0);
                let own = Rect { x, y, width: BOX_WIDTH, height: box_height };
                self.block(block, own, &words(block));
                boxes.push(own);
            }
            places.push(place);
            left += width + GAP;
        }
        (places, boxes)
    }

    /// A device's name, and what fills its memory.
    fn group_head(&mut self, group: &Group, (x, y): (f64, f64), width: f64) {
        self.text("plan-device", (x, y), &cut(&group.title, fitting(width)));
        if group.bytes == 0 {
            return;
        }
        let bar = Rect { x, y: y + LINE + 2.0, width, height: 8.0 };
        self.rect("plan-room", bar, 2.0);
        let mut from = x;
        for (number, (_, bytes)) in group.holds.iter().enumerate() {
            let share = (*bytes as f64 / group.bytes as f64).min(1.0) * width;
            let share = share.min(x + width - from);
            self.rect(&format!("plan-held{}", number % 4), Rect { x: from, width: share, ..bar }, 0.0);
            from += share;
        }
        for (line, words) in held_words(group).iter().enumerate() {
            self.text("plan-small", (x, (line as f64).mul_add(LINE - 2.0, y + LINE + 12.0)), words);
        }
    }

    fn block(&mut self, block: &Block, own: Rect, words: &[String]) {
        let class = match block.kind {
            Kind::Stage => "plan-stage",
            Kind::Communicator => "plan-communicator",
            Kind::Pool => "plan-pool",
            Kind::Other => "plan-other",
        };
        put(&mut self.svg, format_args!("<g><title>{}: {}</title>", markup(&block.title), markup(&block.does)));
        self.rect(class, own, if block.kind == Kind::Communicator { 14.0 } else { 4.0 });
        let (x, mut y) = (own.x + 8.0, own.y + 5.0);
        self.text("plan-name", (x, y), &cut(&block.title, fitting(own.width - 16.0)));
        for line in words {
            y += LINE;
            self.text("plan-small", (x, y), line);
        }
        if let Some(busy) = block.busy {
            let bar = Rect { x, y: own.y + own.height - 12.0, width: own.width - 16.0, height: 6.0 };
            self.text("plan-small", (x, bar.y - LINE - 1.0), &format!("busy {:.1} %", busy * 100.0));
            self.rect("plan-room", bar, 2.0);
            self.rect("plan-busy", Rect { width: bar.width * busy.clamp(0.0, 1.0), ..bar }, 2.0);
        }
        self.svg.push_str("</g>");
    }

    /// A row a link; returns where they end.
    fn links(&mut self, links: &[Link], boxes: &[Rect], width: f64, top: f64) -> f64 {
        let middle = |place: usize| boxes[place].x + boxes[place].width / 2.0;
        for (row, link) in links.iter().enumerate() {
            let line = (row as f64 + 1.0).mul_add(ROW, top) - 8.0;
            let from = middle(link.from);
            let ends: Vec<f64> = link.to.iter().map(|to| middle(*to)).collect();
            let (least, most) = ends.iter().fold((from, from), |(a, b), x| (x.min(a), x.max(b)));
            let rate = link.rate.map(|rate| format!("; {rate:.1} a second")).unwrap_or_default();
            let buffers = if link.buffers.is_empty() { String::new() } else { format!("; {}", link.buffers) };
            let words = format!("{}{buffers}{rate}", link.what);
            put(&mut self.svg, format_args!("<g><title>{}</title>", markup(&words)));
            put(&mut self.svg, format_args!(r#"<path class="plan-link" d="M{least:.1} {line:.1}H{most:.1}"/>"#));
            put(&mut self.svg, format_args!(r#"<circle class="plan-from" cx="{from:.1}" cy="{line:.1}" r="4"/>"#));
            for (x, to) in ends.iter().zip(&link.to) {
                let (tail, tip) = if *to == link.from {
                    // To itself: out, down and back.
                    put(&mut self.svg, format_args!(r#"<path class="plan-link" d="M{x:.1} {line:.1}h26v7h-16"/>"#));
                    ((x + 10.0, line + 7.0), x + 2.0)
                } else {
                    ((if *x > from { x - 8.0 } else { x + 8.0 }, line), *x)
                };
                let d = format!("M{tip:.1} {:.1}L{:.1} {:.1}v9Z", tail.1, tail.0, tail.1 - 4.5);
                put(&mut self.svg, format_args!(r#"<path class="plan-to" d="{d}"/>"#));
            }
            let words = self.fitted(link, &format!("{buffers}{rate}"), width);
            let at = (least + 8.0).min(width - MARGIN - text_width(&words)).max(MARGIN);
            self.text("plan-words", (at, line - LINE - 6.0), &words);
            self.svg.push_str("</g>");
        }
        (links.len() as f64).mul_add(ROW, top)
    }

    /// What a link carries, shortened where it must be, and its figures.
    fn fitted(&self, link: &Link, figures: &str, width: f64) -> String {
        let room = fitting(width - 2.0 * MARGIN);
        let rest = figures.chars().count();
        cut(&format!("{}{figures}", cut(&link.what, room.saturating_sub(rest).max(12))), room)
    }

    /// What shapes mean; returns where it ends.
    fn legend(&mut self, holds: &[(String, u64)], top: f64) -> f64 {
        let y = top + GAP;
        let shapes = [
            ("plan-stage", 3.0, "stage: computes layers"),
            ("plan-communicator", 7.0, "communicator: moves values between ranks"),
            ("plan-pool", 3.0, "pool: owns memory"),
        ];
        let mut x = MARGIN;
        for (class, round, words) in shapes {
            self.rect(class, Rect { x, y: y + 1.0, width: 24.0, height: 13.0 }, round);
            self.text("plan-small", (x + 30.0, y), words);
            x += 30.0 + text_width(words) + 16.0;
        }
        x = MARGIN;
        for (number, (what, _)) in holds.iter().enumerate() {
            let y = y + LINE + 6.0;
            self.rect(&format!("plan-held{}", number % 4), Rect { x, y: y + 1.0, width: 24.0, height: 10.0 }, 0.0);
            let what = cut(what, 20);
            self.text("plan-small", (x + 30.0, y), &what);
            x += 30.0 + text_width(&what) + 16.0;
        }
        let y = if holds.is_empty() { y } else { y + LINE + 6.0 };
        let words = "a row is what flows in a step: ● writes, ▶ reads; buffers (credits) × bytes";
        self.text("plan-small", (MARGIN, y + LINE + 2.0), words);
        y + 2.0 * LINE + 2.0
    }
}
