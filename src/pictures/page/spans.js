// Strips of spans: which there are at a time, and what lies in a pixel too narrow to show them one by one.

// A strip is a run of spans sorted by time, none of which overlaps another: a row, or all acts of a device.
function strip(order, from, to) {
  const length = order ? order.length : to - from;
  const sums = CLASSES.map(() => new Float64Array(0));
  const present = new Set();
  const made = { order, from, length, sums, kinds: [] };
  for (let i = 0; i < length; i++) present.add(CLASS_OF[columns.kind[spanAt(made, i)]]);
  for (const kind of present) sums[kind] = new Float64Array(length + 1);
  for (let i = 0; i < length; i++) {
    const span = spanAt(made, i), own = CLASS_OF[columns.kind[span]];
    for (const kind of present) sums[kind][i + 1] = sums[kind][i];
    sums[own][i + 1] += columns.length[span];
  }
  made.kinds = [...present].sort((a, b) => a - b);
  return made;
}

function spanAt(strip, i) { return strip.order ? strip.order[i] : strip.from + i; }
function startOf(span) { return columns.start[span]; }
function endOf(span) { return columns.start[span] + columns.length[span]; }

// The first span of a strip that ends after `time`, looked for from place `from` on.
function firstAfter(strip, time, from = 0) {
  return firstWhere(from, strip.length, (i) => endOf(spanAt(strip, i)) > time);
}

// The first span from place `from` on that starts at `time` or later; it is near, where columns are looked for one by one.
function nextFrom(strip, time, from) {
  const { order, length } = strip, starts = columns.start, base = strip.from;
  let low = from, step = 1;
  while (low < length && starts[order ? order[low] : base + low] < time) { from = low + 1; low += step; step *= 2; }
  let high = Math.min(low, length);
  while (from < high) {
    const middle = (from + high) >>> 1;
    if (starts[order ? order[middle] : base + middle] < time) from = middle + 1; else high = middle;
  }
  return from;
}

const WIDE = 3;
// Pixels of a line by their height, and those of the line that is being laid.
const images = new Map();
let image = null, pixels = null;
// Spans with a shape of their own, line by line.
const wides = { span: new Int32Array(1 << 16), count: 0 };

function imageOf(across, tall) {
  const kept = images.get(tall);
  if (kept && kept.image.width === across) return kept;
  const made = { image: new ImageData(across, tall), pixels: null };
  made.pixels = new Uint32Array(made.image.data.buffer);
  images.set(tall, made);
  return made;
}

// Lays a strip: a column a pixel for spans that are narrow, in which each class has the height of its share, put on the canvas at once;
// the others are noted for `drawSpan`. Shapes come later for all lines: pixels that are put between shapes make the canvas draw them first.
function layStrip(context, strip, view, y, height, under) {
  const { left, width, start, perPixel, ratio } = view;
  const end = start + width * perPixel;
  let i = firstAfter(strip, start);
  if (i >= strip.length || startOf(spanAt(strip, i)) >= end) return;
  // Where pixels are fine a column is two of them.
  const grain = width * ratio > 2000 ? 2 : 1, across = Math.ceil(width * ratio / grain), tall = Math.max(1, Math.round(height * ratio));
  ({ image, pixels } = imageOf(across * grain, tall));
  let narrow = false, firstDot = across, lastDot = 0, cursor = 0;
  const perDot = perPixel * grain / ratio;
  while (i < strip.length) {
    const span = spanAt(strip, i), from = startOf(span);
    if (from >= end) break;
    if (columns.length[span] >= WIDE * perPixel) {
      if (wides.count < wides.span.length) wides.span[wides.count++] = span;
      i++;
      continue;
    }
    if (!narrow) { narrow = true; pixels.fill(under); }
    const dot = Math.max(cursor, Math.floor((from - start) / perDot));
    if (dot >= across) break;
    const dotStart = start + dot * perDot, dotEnd = dotStart + perDot;
    const last = nextFrom(strip, dotEnd, i + 1);
    column(strip, i, last, dotStart, dotEnd, dot * grain, grain);
    cursor = dot + 1;
    firstDot = Math.min(firstDot, dot);
    lastDot = dot;
    // A span that reaches into the next column goes on there.
    i = endOf(spanAt(strip, last - 1)) > dotEnd ? last - 1 : last;
  }
  if (narrow) context.putImageData(image, Math.round(left * ratio), Math.round(y * ratio), firstDot * grain, 0, (lastDot + 1 - firstDot) * grain, tall);
}

// Paints one column at pixel `x`, `grain` pixels wide: acts by their share of its time, waits by theirs in the low part that waits
// have. It reaches from time `from` to time `to`, and from place `first` to before place `last`.
function column(strip, first, last, from, to, x, grain) {
  const { kinds, sums } = strip, { height } = image, part = height / (to - from);
  const head = spanAt(strip, first), tail = spanAt(strip, last - 1);
  const headKind = CLASS_OF[columns.kind[head]], tailKind = CLASS_OF[columns.kind[tail]];
  const early = Math.max(0, from - columns.start[head]), late = Math.max(0, columns.start[tail] + columns.length[tail] - to);
  let row = height, drawn = false;
  for (let at = 0; at < kinds.length; at++) {
    const kind = kinds[at];
    let ns = sums[kind][last] - sums[kind][first];
    if (ns <= 0) continue;
    if (kind === headKind) ns -= early;
    if (kind === tailKind) ns -= late;
    drawn = true;
    const tall = Math.round(ns * part * (kind > 0 && kind < 4 ? 0.35 : 1)) || 1;
    row = paint(kind, Math.max(0, row - tall), row, x, grain);
  }
  // A point in time has no length, and is seen nevertheless.
  if (!drawn) paint(headKind, 0, height, x, grain);
}

function paint(kind, top, below, x, grain) {
  const colour = colours.words[kind], width = image.width;
  for (let at = top * width + x, end = below * width; at < end; at += width) {
    pixels[at] = colour;
    if (grain > 1) pixels[at + 1] = colour;
  }
  return top;
}

// A span by its shape: acts are full, waits for input low, for credit hatched in the middle, for what is outside dotted on top.
function drawSpan(context, span, view, y, height) {
  const from = Math.max(xOf(view, startOf(span)), view.left), to = Math.min(xOf(view, endOf(span)), view.left + view.width);
  const width = Math.max(1, to - from), kind = CLASS_OF[columns.kind[span]];
  drawShape(context, kind, from, y, width, height);
  return width;
}

function drawShape(context, kind, x, y, width, height) {
  context.fillStyle = colours[CLASSES[kind]];
  if (kind === 0) {
    context.fillRect(x, y, width > 4 ? width - 0.5 : width, height);
  } else if (kind === 1) {
    context.fillRect(x, y + height * 0.66, width, height * 0.28);
  } else if (kind === 2) {
    const top = y + height * 0.3, tall = height * 0.42;
    context.fillStyle = colours.hatched;
    context.fillRect(x, top, width, tall);
  } else if (kind === 3) {
    context.fillStyle = colours.dotted;
    context.fillRect(x, y + height * 0.06, width, height * 0.25);
  } else {
    context.fillRect(x, y + 1, width > 3 ? width - 1 : width, height - 2);
    if (kind === 4 && width > 6) {
      context.fillStyle = colours.paper;
      context.fillRect(x + 1.5, y + 2.5, width - 4, height - 5);
    }
  }
}

function xOf(view, time) { return view.left + (time - view.start) / view.perPixel; }
function timeOf(view, x) { return view.start + (x - view.left) * view.perPixel; }

// What a span is, in a few words.
function spanName(span, row = rowOf(span)) {
  const kind = columns.kind[span];
  // Who stands behind no step counts turns.
  if (kind === ACT) return (row.part === null ? "turn " : "step ") + columns.step[span];
  if (kind === REQUEST) return "request " + columns.step[span];
  if (kind === MARK) return data.names[columns.step[span]] ?? "?";
  return data.waits[kind - 1].words;
}
