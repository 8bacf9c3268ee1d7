// The picture of time: a line a device and a line an actor, zoomed and moved together.

const lanesBox = document.getElementById("lanes");
const canvas = document.getElementById("canvas");
const context = canvas.getContext("2d");
const tallBox = document.getElementById("tall");

const AXIS = 26, HEAD = 22, ROW = 17, GUTTER_MAX = 300;
const rows = data.rows.map((row) => ({ ...row, strip: strip(null, row.from, row.to) }));
// All times of the file, with what a glance needs on both sides.
const whole = extent();
const view = { left: 200, width: 800, start: whole.start, perPixel: 1, ratio: 1, height: 400, scale: 1 };
const lanes = devices();
let lines = [];
// The step that is followed, and the spans that were found.
let picked = null, found = { spans: [], at: -1 };
let hovered = -1, cursor = null;

function extent() {
  let start = Infinity, end = -Infinity;
  for (const row of data.rows) {
    for (let span = row.from; span < row.to; span++) {
      if (columns.start[span] < start) start = columns.start[span];
      const until = columns.start[span] + columns.length[span];
      if (until > end) end = until;
    }
  }
  return start <= end ? { start, end: Math.max(end, start + 1000) } : { start: 0, end: 1e6 };
}

// Rows by lane, each lane with a strip of all its acts: a lane does one thing at a time.
function devices() {
  const made = new Map();
  for (const row of rows) {
    if (!made.has(row.lane)) made.set(row.lane, { name: row.lane, rows: [], open: true, strip: null });
    made.get(row.lane).rows.push(row);
  }
  for (const lane of made.values()) {
    // Marks and requests overlap: of those their first row stands for all.
    if (lane.rows.length < 2 || lane.rows[0].sort !== "actor") { lane.strip = lane.rows[0].strip; continue; }
    const acts = [];
    for (const row of lane.rows) {
      for (let span = row.from; span < row.to; span++) {
        if (columns.kind[span] === ACT) acts.push(span);
      }
    }
    const order = Uint32Array.from(acts).sort((a, b) => columns.start[a] - columns.start[b]);
    lane.strip = strip(order, 0, 0);
  }
  // A screen full of actors is more than a first look takes in.
  const many = rows.length > 26;
  for (const lane of made.values()) lane.open = (!many && lane.rows.length <= 12) || lane.rows.length === 1;
  return [...made.values()];
}

// The lines that are there, from top to bottom, and where each is.
function layLines() {
  lines = [];
  let y = 0;
  const head = Math.round(HEAD * view.scale), row = Math.round(ROW * view.scale);
  for (const lane of lanes) {
    const single = lane.rows.length === 1 && lane.rows[0].sort === "actor";
    lines.push({ lane, row: single ? lane.rows[0] : null, head: true, strip: lane.strip, y, height: head, pad: 4, from: 0, to: 0 });
    y += head;
    if (single || !lane.open) continue;
    for (const own of lane.rows) {
      lines.push({ lane, row: own, head: false, strip: own.strip, y, height: row, pad: 2, from: 0, to: 0 });
      y += row;
    }
  }
  view.tall = y + view.axis;
  tallBox.style.height = view.tall + "px";
}

function resize() {
  view.scale = colours.fontSize / 13;
  view.axis = Math.round(AXIS * view.scale);
  layLines();
  const most = parseFloat(getComputedStyle(lanesBox).maxHeight) || 600;
  view.height = Math.min(view.tall + 2, most);
  lanesBox.style.height = view.height + "px";
  const across = lanesBox.clientWidth;
  view.ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(across * view.ratio);
  canvas.height = Math.round(view.height * view.ratio);
  canvas.style.width = across + "px";
  canvas.style.height = view.height + "px";
  context.font = "600 " + colours.font;
  const names = lines.map((line) => context.measureText(lineName(line)).width + 34);
  view.left = Math.round(Math.min(Math.max(110, ...names), Math.max(GUTTER_MAX * view.scale, across * 0.16), across * 0.35));
  const middle = view.start + view.width * view.perPixel / 2, before = view.width * view.perPixel;
  view.width = Math.max(50, across - view.left);
  if (view.fitted === undefined) return fit();
  view.perPixel = before / view.width;
  view.start = middle - before / 2;
  later();
}

function lineName(line) {
  const { sort } = line.lane.rows[0], most = line.lane.rows.length;
  if (line.head && sort === "request" && most > 1) return line.lane.name + " · " + most + " at once";
  if (line.head) return line.row ? line.row.name + " · " + line.lane.name : line.lane.name;
  return line.row.level ? "" : line.row.name;
}

function fit() {
  view.fitted = true;
  const [start, end] = data.window, room = Math.max(end - start, 1000) * 0.01;
  const [from, to] = end > start ? [start - room, end + room] : [whole.start, whole.end];
  view.start = from;
  view.perPixel = (to - from) / view.width;
  later();
}

// Keeps some of the run in sight.
function bound() {
  const length = whole.end - whole.start;
  view.perPixel = Math.min(Math.max(view.perPixel, 0.05), length * 1.2 / view.width);
  const shown = view.width * view.perPixel;
  view.start = Math.min(Math.max(view.start, whole.start - shown * 0.9), whole.end - shown * 0.1);
}

// What was under the pointer is elsewhere now.
function forget() {
  hovered = -1;
  cursor = null;
  document.getElementById("tip").hidden = true;
}

function zoom(factor, x = view.left + view.width / 2) {
  const time = timeOf(view, x);
  view.perPixel *= factor;
  bound();
  view.start = time - (x - view.left) * view.perPixel;
  bound();
  forget();
  later();
}

function pan(pixels) {
  view.start += pixels * view.perPixel;
  bound();
  forget();
  later();
}

// Shows a span in the middle, opened to where it can be seen.
function show(span) {
  forget();
  const line = lineOf(span);
  const length = Math.max(columns.length[span], 1);
  if (length < view.perPixel * 4) view.perPixel = length / 24;
  if (length > view.perPixel * view.width) view.perPixel = length * 1.4 / view.width;
  view.start = startOf(span) + length / 2 - view.width * view.perPixel / 2;
  bound();
  if (line) {
    const top = line.y, room = lanesBox.clientHeight - view.axis;
    if (top < lanesBox.scrollTop || top + line.height > lanesBox.scrollTop + room) lanesBox.scrollTop = top - room / 2;
  }
  later();
}

function rowOf(span) { return rows.find((row) => span >= row.from && span < row.to); }

// The line that shows a span: its actor's, or its device's where that is closed.
function lineOf(span) { return lineOfRow(rowOf(span)); }
function lineOfRow(row) { return lines.find((line) => line.row === row) ?? lines.find((line) => line.head && line.lane.name === row.lane); }

let waiting = false;
function later() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; redraw(); });
}

function redraw() {
  drawLanes();
  drawCharts();
}

function drawLanes() {
  const { left, width, height, ratio, axis } = view;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, left + width, height);
  context.font = colours.font;
  context.textBaseline = "middle";
  const scroll = lanesBox.scrollTop;
  const seen = lines.filter((line) => line.y + line.height > scroll && line.y < scroll + height - axis);
  context.fillStyle = colours.lane;
  for (const line of seen) if (line.head) context.fillRect(0, axis + line.y - scroll, left + width, line.height);
  wides.count = 0;
  for (const line of seen) layLine(line, axis + line.y - scroll);
  for (const line of seen) drawLine(line, axis + line.y - scroll);
  if (picked) drawPicked(scroll);
  drawGutter(seen, scroll);
  drawAxis();
}

// A line's pixels, and which of its spans have a shape.
function layLine(line, y) {
  line.from = wides.count;
  // Where rows of marks or requests are open, their first need not stand for all.
  const stands = !line.head || line.row || !line.lane.open || line.lane.rows[0].sort === "actor";
  if (line.strip && stands) layStrip(context, line.strip, view, y + line.pad, line.height - 2 * line.pad, line.head ? colours.under : colours.blank);
  line.to = wides.count;
}

function drawLine(line, y) {
  for (let at = line.from; at < line.to; at++) drawSpan(context, wides.span[at], view, y + line.pad, line.height - 2 * line.pad);
  drawLabels(line, y);
}

// Words on the spans just drawn that have room for them.
function drawLabels(line, y) {
  const size = view.scale * 11, letter = size * 0.58, least = 44 * view.scale, middle = y + line.height / 2 + 0.5;
  context.font = size + "px " + colours.family;
  for (let at = line.from; at < line.to; at++) {
    const span = wides.span[at];
    const x = Math.max(xOf(view, startOf(span)), view.left), until = Math.min(xOf(view, endOf(span)), view.left + view.width);
    if (until - x < least) continue;
    const kind = CLASS_OF[columns.kind[span]];
    if (kind > 0 && kind < 4 && until - x < 2 * least) continue;
    const room = Math.floor((until - x - 8) / letter);
    let words = kind === 0 && line.head && !line.row ? rowOf(span).name + ", " + spanName(span) : spanName(span, line.row ?? undefined);
    if (words.length > room) words = words.slice(0, Math.max(0, room - 1)) + "…";
    context.fillStyle = kind === 0 || kind === 5 ? colours["on-act"] : colours.ink;
    // Words of waits stand on a patch of their own, above the low bar of an input.
    const waits = kind > 0 && kind < 4, up = kind === 1 ? size * 0.2 : 0;
    if (waits) {
      context.fillStyle = line.head ? colours.lane : colours.paper;
      context.fillRect(x + 2, middle - up - size * 0.5, words.length * letter + 4, size * 0.9);
      context.fillStyle = colours.soft;
    }
    context.fillText(words, x + 4, middle - up);
  }
  context.font = colours.font;
}

function drawGutter(seen, scroll) {
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, view.left, view.height);
  context.save();
  context.beginPath();
  context.rect(0, view.axis, view.left - 6, view.height);
  context.clip();
  for (const line of seen) {
    const y = view.axis + line.y - scroll;
    if (line.head) {
      context.fillStyle = colours.lane;
      context.fillRect(0, y, view.left, line.height);
    }
    const closed = line.head && !line.row;
    context.fillStyle = line.head ? colours.ink : colours.soft;
    if (closed) context.fillText(line.lane.open ? "▾" : "▸", 7, y + line.height / 2);
    context.font = (line.head ? "600 " : "") + colours.font;
    context.fillText(lineName(line), closed ? 22 : line.head ? 8 : 22, y + line.height / 2);
    context.font = colours.font;
  }
  context.restore();
  context.fillStyle = colours.line;
  context.fillRect(view.left - 1, 0, 1, view.height);
}

function drawAxis() {
  const { left, width, axis, perPixel, start } = view;
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, left + width, axis);
  context.fillStyle = colours.line;
  context.fillRect(0, axis - 1, left + width, 1);
  // Ticks at round times, at least so far apart that their words do not touch.
  const least = 100 * view.scale * perPixel, ten = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((by) => by * ten).find((by) => by >= least);
  context.save();
  context.beginPath();
  context.rect(left, 0, width, view.height);
  context.clip();
  for (let time = Math.ceil(start / step) * step; time < start + width * perPixel; time += step) {
    const x = xOf(view, time);
    context.fillStyle = colours.line;
    context.globalAlpha = 0.6;
    context.fillRect(x, axis - 6, 1, view.height);
    context.globalAlpha = 1;
    context.fillStyle = colours.soft;
    context.fillText(moment(time, step), x + 4, axis / 2);
  }
  let before = -9;
  context.fillStyle = colours.credit;
  for (const span of found.spans) {
    const x = xOf(view, startOf(span));
    if (x - before < 2 || x < left || x > left + width) continue;
    before = x;
    context.beginPath();
    context.moveTo(x - 4, 0); context.lineTo(x + 4, 0); context.lineTo(x, 7);
    context.fill();
  }
  if (cursor !== null) {
    context.fillStyle = colours.soft;
    context.fillRect(xOf(view, cursor), 0, 1, view.height);
  }
  context.restore();
  if (found.at >= 0) outline(found.spans[found.at], colours.pick, 2.5);
  else if (hovered >= 0) outline(hovered, colours.pick, 1.5);
}

// A frame around a span.
function outline(span, colour, thick) {
  const line = lineOf(span);
  if (!line) return;
  const y = view.axis + line.y - lanesBox.scrollTop;
  if (y < view.axis - line.height || y > view.height) return;
  const x = Math.max(xOf(view, startOf(span)), view.left), to = Math.min(xOf(view, endOf(span)), view.left + view.width);
  if (to < view.left || x > view.left + view.width) return;
  context.strokeStyle = colour;
  context.lineWidth = thick;
  context.strokeRect(x - 0.5, Math.max(y + 1, view.axis), Math.max(to - x, 2) + 1, line.height - 2);
}
