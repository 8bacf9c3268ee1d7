"use strict";
// What the page holds: names and words as JSON, numbers as typed arrays over one block of bytes.
const data = JSON.parse(document.getElementById("data").textContent);
const columns = unpack(document.getElementById("columns"));

const ACT = 0, REQUEST = 65534, MARK = 65535, NO_STEP = 4294967295;
// Classes of spans, in the order of their colours.
const CLASSES = ["act", "input", "credit", "outside", "mark", "request"];
const CLASS_OF = new Uint8Array(65536);
data.waits.forEach((wait, number) => { CLASS_OF[number + 1] = CLASSES.indexOf(wait.class); });
CLASS_OF[MARK] = 4;
CLASS_OF[REQUEST] = 5;

function unpack(element) {
  const text = element.textContent.trim();
  element.remove();
  let bytes;
  if (Uint8Array.fromBase64) {
    bytes = Uint8Array.fromBase64(text);
  } else {
    const binary = atob(text);
    bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  }
  const kinds = { Float64Array, Uint32Array, Uint16Array };
  const found = {};
  for (const [name, [kind, at, length]] of Object.entries(data.columns)) {
    found[name] = new kinds[kind](bytes.buffer, bytes.byteOffset + at, length);
  }
  return found;
}

// A duration with three digits and its unit.
function duration(ns) {
  if (ns >= 1e9) return (ns / 1e9).toFixed(ns >= 1e10 ? 1 : 2) + " s";
  if (ns >= 1e6) return (ns / 1e6).toFixed(2) + " ms";
  if (ns >= 1e3) return (ns / 1e3).toFixed(1) + " µs";
  return ns.toFixed(0) + " ns";
}

// A time of the trace, as fine as `step` asks for.
function moment(ns, step) {
  const unit = step >= 1e8 ? [1e9, "s"] : step >= 1e5 ? [1e6, "ms"] : [1e3, "µs"];
  const digits = Math.max(0, Math.min(3, Math.ceil(-Math.log10(step / unit[0]) - 1e-9)));
  return (ns / unit[0]).toFixed(digits) + " " + unit[1];
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit + 1 < units.length) { count /= 1024; unit++; }
  return count.toFixed(unit ? 1 : 0) + " " + units[unit];
}

function percent(share) {
  const value = share * 100;
  return (value > 0 && value < 0.95 ? value.toFixed(1) : value.toFixed(0)) + " %";
}

// An element with text in it; never markup, since names come from outside.
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// The first index from `from` to `to` for which `holds` is true, where it is false before and true from there on.
function firstWhere(from, to, holds) {
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (holds(middle)) to = middle; else from = middle + 1;
  }
  return from;
}

// The colours of the theme that is on, for canvases.
let colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "ink", "soft", "line", "panel", "lane", "pick", "on-act", "turn", ...CLASSES];
  for (const name of names) colours[name] = style.getPropertyValue("--" + name).trim();
  colours.hatched = striped(colours.credit, 4, 6);
  colours.dotted = striped(colours.outside, 3, 5);
  colours.under = word(colours.lane);
  colours.blank = word(colours.paper);
  colours.words = CLASSES.map((name) => word(colours[name]));
  colours.fontSize = parseFloat(getComputedStyle(document.body).fontSize);
  colours.family = getComputedStyle(document.body).fontFamily;
  colours.font = colours.fontSize + "px " + colours.family;
}

// Stripes across: `on` pixels of each `of` have the colour.
function striped(colour, on, of) {
  const tile = document.createElement("canvas");
  tile.width = of;
  tile.height = 1;
  const pen = tile.getContext("2d");
  pen.fillStyle = colour;
  pen.fillRect(0, 0, on, 1);
  return pen.createPattern(tile, "repeat");
}

// A colour as the bytes of a pixel.
function word(hex) {
  const full = hex.length === 4 ? "#" + [...hex.slice(1)].map((c) => c + c).join("") : hex;
  const value = parseInt(full.slice(1), 16);
  return (0xff000000 | (value & 0xff) << 16 | (value & 0xff00) | value >> 16) >>> 0;
}
