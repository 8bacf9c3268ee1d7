// What people do with the page: follow a step, search, move, and the parts that are made once.

const tip = document.getElementById("tip");
const search = document.getElementById("search");
const $ = (id) => document.getElementById(id);

// ---- a step on its way ----

// The step that a span belongs to; that of a wait is the step its actor acts on behind it.
function stepOf(span) {
  const row = rowOf(span);
  if (!row || row.sort !== "actor" || row.part === null) return null;
  for (let at = span; at < row.to; at++) {
    if (columns.kind[at] === ACT) return { step: columns.step[at], part: row.part };
  }
  return null;
}

function pick(choice) {
  picked = null;
  $("followed").textContent = "";
  if (choice && choice.step !== NO_STEP) {
    const spans = [], of = new Set(rows.filter((row) => row.sort === "actor" && row.part === choice.part));
    for (const row of of) {
      for (let span = row.from; span < row.to; span++) {
        if (columns.kind[span] === ACT && columns.step[span] === choice.step) spans.push(span);
      }
    }
    const arrows = [], count = columns.arrow_step.length;
    const first = firstWhere(0, count, (at) => columns.arrow_step[at] >= choice.step);
    for (let at = first; at < count && columns.arrow_step[at] === choice.step; at++) {
      if (rows[columns.arrow_from[at]].part === choice.part) arrows.push(at);
    }
    if (spans.length) {
      spans.sort((a, b) => startOf(a) - startOf(b));
      picked = { ...choice, spans, arrows };
      $("followed").textContent = followedWords();
    }
  }
  later();
}

function followedWords() {
  const { step, spans, arrows } = picked;
  let end = 0, busy = 0;
  for (const span of spans) { end = Math.max(end, endOf(span)); busy += columns.length[span]; }
  for (const arrow of arrows) end = Math.max(end, columns.arrow_taken[arrow]);
  const most = spans.reduce((a, b) => (columns.length[b] > columns.length[a] ? b : a));
  return "step " + step + ": " + columns.rows[most] + " rows, " + spans.length + " acts, " + arrows.length + " messages, " +
    duration(end - startOf(spans[0])) + " from first act to last message, " + duration(busy) + " of acts; longest " +
    rowOf(most).name + " with " + duration(columns.length[most]);
}

// The next step of the same part, by the time it began.
function stepBy(direction) {
  if (!picked) return;
  const row = rowOf(picked.spans[0]);
  let at = picked.spans[0] + direction;
  while (at >= row.from && at < row.to && columns.kind[at] !== ACT) at += direction;
  if (at < row.from || at >= row.to) return;
  pick({ step: columns.step[at], part: picked.part });
  const shown = view.width * view.perPixel;
  if (startOf(at) < view.start || startOf(at) > view.start + shown * 0.8) { view.start = startOf(at) - shown * 0.3; bound(); }
}

// Fades everything, draws the step anew, and its messages as arrows.
function drawPicked(scroll) {
  const { left, width, axis, height } = view;
  context.save();
  context.beginPath();
  context.rect(left, axis, width, height - axis);
  context.clip();
  context.globalAlpha = 0.62;
  context.fillStyle = colours.paper;
  context.fillRect(left, axis, width, height);
  context.globalAlpha = 1;
  const places = new Map(rows.map((row) => [row, lineOfRow(row)]));
  for (const span of picked.spans) {
    const line = places.get(rowOf(span)), y = axis + line.y - scroll;
    if (endOf(span) < view.start || startOf(span) > view.start + width * view.perPixel) continue;
    const { pad } = line, from = Math.max(xOf(view, startOf(span)), left);
    const wide = drawSpan(context, span, view, y + pad, line.height - 2 * pad);
    context.strokeStyle = colours.pick;
    context.lineWidth = 1.2;
    context.strokeRect(from, y + pad - 0.5, wide, line.height - 2 * pad + 1);
  }
  context.strokeStyle = context.fillStyle = colours.pick;
  context.lineWidth = 1.1;
  for (const arrow of picked.arrows) {
    const tail = places.get(rows[columns.arrow_from[arrow]]), head = places.get(rows[columns.arrow_to[arrow]]);
    drawArrow(xOf(view, columns.arrow_sent[arrow]), tail, xOf(view, columns.arrow_taken[arrow]), head, scroll);
  }
  context.restore();
}

function drawArrow(x, tail, to, head, scroll) {
  if ((x < view.left && to < view.left) || (x > view.left + view.width && to > view.left + view.width)) return;
  const middle = (line) => view.axis + line.y - scroll + line.height / 2;
  const y = middle(tail), end = middle(head), bend = Math.max(8, Math.abs(to - x) * 0.4);
  context.globalAlpha = picked.arrows.length > 40 ? 0.55 : 0.85;
  context.beginPath();
  context.moveTo(x, y);
  context.bezierCurveTo(x + bend, y, to - bend, end, to, end);
  context.stroke();
  context.beginPath();
  context.moveTo(to, end);
  context.lineTo(to - 6, end - 3.5);
  context.lineTo(to - 6, end + 3.5);
  context.fill();
  context.globalAlpha = 1;
}

// ---- search ----

function seek(text) {
  const query = text.trim().toLowerCase();
  found = { spans: [], at: -1 };
  if (query) {
    const number = /^(?:step |request )?(\d+)$/.exec(query), request = query.startsWith("request ");
    const waits = data.waits.map((wait) => ("waits for " + wait.words + " " + wait.class).toLowerCase().includes(query));
    const names = data.names.map((name) => name.toLowerCase().includes(query));
    for (const row of rows) {
      const named = row.name.toLowerCase().includes(query);
      for (let span = row.from; span < row.to; span++) {
        const kind = columns.kind[span];
        const hit = kind === ACT ? (number ? !request && row.part !== null && columns.step[span] === +number[1] : named)
          : kind === REQUEST ? number && (request || !query.startsWith("step")) && columns.step[span] === +number[1]
          : kind === MARK ? names[columns.step[span]] : waits[kind - 1];
        if (hit) found.spans.push(span);
      }
    }
    found.spans.sort((a, b) => startOf(a) - startOf(b));
  }
  tellFound();
  later();
}

function go(direction) {
  const { spans } = found;
  if (!spans.length) return;
  found.at = found.at < 0 && direction > 0
    ? firstWhere(0, spans.length, (at) => startOf(spans[at]) >= view.start) % spans.length
    : (found.at + direction + spans.length) % spans.length;
  tellFound();
  show(spans[found.at]);
}

function tellFound() {
  const { spans, at } = found, asked = search.value.trim();
  $("matches").textContent = !asked ? "" : !spans.length ? "nothing found" : (at < 0 ? "" : at + 1 + " of ") + spans.length + " spans";
}

// ---- pointer ----

function spanUnder(x, y) {
  if (x < view.left || y < view.axis) return -1;
  const at = y - view.axis + lanesBox.scrollTop;
  const line = lines.find((line) => at >= line.y && at < line.y + line.height);
  if (!line || !line.strip) return -1;
  const time = timeOf(view, x), reach = 2 * view.perPixel;
  const i = firstAfter(line.strip, time - reach);
  // Of those within two pixels the one under the pointer, else the nearest.
  for (let at = i; at < Math.min(i + 4, line.strip.length); at++) {
    const span = spanAt(line.strip, at);
    if (startOf(span) <= time && endOf(span) >= time) return span;
  }
  if (i >= line.strip.length) return -1;
  const span = spanAt(line.strip, i);
  return startOf(span) <= time + reach ? span : -1;
}

function tell(span, x, y) {
  if (span < 0) { tip.hidden = true; return; }
  const row = rowOf(span), kind = columns.kind[span], facts = [];
  if (kind === ACT) facts.push(["rows", columns.rows[span]], ["bytes", bytes(columns.bytes[span])]);
  if (kind === REQUEST) facts.push(["tokens", columns.rows[span]], ["first token", duration(columns.bytes[span])]);
  const after = kind !== ACT && kind < REQUEST ? stepOf(span) : null;
  if (after) facts.push(["until", "step " + after.step]);
  facts.push([kind === ACT ? "acted" : kind < REQUEST ? "waited" : "lasted", duration(columns.length[span])]);
  facts.push(["at", (startOf(span) / 1e9).toFixed(6) + " s"]);
  if (row.does && kind === ACT) facts.push(["does", row.does]);
  const table = element("table");
  for (const [name, value] of facts) {
    const line = element("tr");
    line.append(element("td", "", name), element("td", "", String(value)));
    table.append(line);
  }
  const what = kind !== ACT && kind < REQUEST ? "waits for " + spanName(span) : spanName(span);
  tip.replaceChildren(element("b", "", row.sort === "request" ? what : row.name + " · " + what), table);
  tip.hidden = false;
  const { offsetWidth, offsetHeight } = tip;
  tip.style.left = Math.max(4, x + 16 + offsetWidth > innerWidth ? x - 16 - offsetWidth : x + 16) + "px";
  tip.style.top = Math.max(4, y + 18 + offsetHeight > innerHeight ? y - 12 - offsetHeight : y + 18) + "px";
}

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  lanesBox.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  drag = { x: event.clientX, y: event.clientY, moved: 0 };
});
canvas.addEventListener("pointermove", (event) => {
  if (drag) {
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    drag.moved += Math.abs(dx) + Math.abs(dy);
    if (drag.moved > 4) {
      tip.hidden = true;
      lanesBox.scrollTop -= dy;
      pan(-dx);
    }
    drag.x = event.clientX;
    drag.y = event.clientY;
    return;
  }
  cursor = event.offsetX >= view.left ? timeOf(view, event.offsetX) : null;
  hovered = spanUnder(event.offsetX, event.offsetY);
  tell(hovered, event.clientX, event.clientY);
  later();
});
canvas.addEventListener("pointerup", (event) => {
  const clicked = drag && drag.moved <= 4;
  drag = null;
  if (!clicked) return;
  const at = event.offsetY - view.axis + lanesBox.scrollTop;
  const line = lines.find((line) => at >= line.y && at < line.y + line.height);
  if (event.offsetX < view.left && line && line.head && !line.row) {
    line.lane.open = !line.lane.open;
    resize();
    return;
  }
  const span = spanUnder(event.offsetX, event.offsetY);
  pick(span < 0 ? null : stepOf(span));
});
canvas.addEventListener("pointerleave", () => {
  hovered = -1;
  cursor = null;
  tip.hidden = true;
  later();
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) return pan(event.deltaX || event.deltaY);
  zoom(Math.exp(Math.max(-240, Math.min(240, event.deltaY)) * 0.0022), Math.max(event.offsetX, view.left));
}, { passive: false });
lanesBox.addEventListener("scroll", later);

// ---- keys and buttons ----

function unfold() {
  const open = !lanes.every((lane) => lane.open);
  for (const lane of lanes) lane.open = open || lane.rows.length === 1;
  resize();
}

function keysShown() {
  const keys = $("keys");
  keys.hidden = !keys.hidden;
  $("help").setAttribute("aria-expanded", String(!keys.hidden));
}

const THEMES = ["system", "light", "dark"];
function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "system";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}
function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme;
  $("theme").textContent = "theme: " + theme;
  readColours();
  drawLegend();
  later();
}

function clear() {
  search.value = "";
  seek("");
  pick(null);
}

const KEYS = {
  w: () => zoom(1 / 1.35), s: () => zoom(1.35), a: () => pan(-view.width / 8), d: () => pan(view.width / 8),
  ArrowLeft: () => pan(-view.width / 8), ArrowRight: () => pan(view.width / 8),
  ArrowUp: () => { lanesBox.scrollTop -= 60; }, ArrowDown: () => { lanesBox.scrollTop += 60; },
  f: fit, l: unfold, n: () => go(1), p: () => go(-1), "[": () => stepBy(-1), "]": () => stepBy(1),
  t: nextTheme, "?": keysShown, "/": () => search.focus(), Escape: clear,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === search) {
    if (event.key === "Enter") go(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") { clear(); lanesBox.focus({ preventScroll: true }); }
    return;
  }
  const does = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  // Elsewhere on the page up and down move the page.
  if (!does || ((event.key === "ArrowUp" || event.key === "ArrowDown") && document.activeElement !== lanesBox)) return;
  event.preventDefault();
  does();
});
search.addEventListener("input", () => seek(search.value));
const BUTTONS = { next: () => go(1), previous: () => go(-1), in: KEYS.w, out: KEYS.s, fit, fold: unfold, help: keysShown, theme: nextTheme };
for (const [id, does] of Object.entries(BUTTONS)) $(id).addEventListener("click", does);

// ---- what is made once ----

const LEGEND = [[0, "acts"], [1, "waits for input"], [2, "waits for credit: a buffer"], [3, "waits for something outside"], [4, "span of the process"], [5, "request"]];
function drawLegend() {
  const legend = $("legend");
  const shown = LEGEND.map(([kind, words]) => {
    const item = element("span"), own = document.createElement("canvas");
    const wide = 34, tall = 15, ratio = window.devicePixelRatio || 1;
    own.width = wide * ratio;
    own.height = tall * ratio;
    own.style.width = wide + "px";
    own.style.height = tall + "px";
    const pen = own.getContext("2d");
    pen.scale(ratio, ratio);
    drawShape(pen, kind, 0, 0, wide, tall);
    item.append(own, words);
    return item;
  });
  legend.replaceChildren(...shown, element("span", "", "narrower than a pixel: heights are shares"));
}

function makeText() {
  $("verdict").textContent = data.verdict;
  for (const { name, value, means } of data.figures) {
    const box = element("div");
    box.append(element("dt", "", name), element("dd", "", value), element("dd", "means", means));
    $("figures").append(box);
  }
  const lonely = data.lonely ? [data.lonely + " messages have only one end in the file, and no arrow"] : [];
  for (const line of [...data.lines, ...lonely]) $("lines").append(element("li", "", line));
}

function makeBars() {
  const list = $("bars");
  for (const { actor, lane, acts, busy, waits } of data.bars) {
    const who = element("div", "who", actor + " "), bar = element("div", "strip");
    who.append(element("span", "lane", lane));
    const part = (className, share, words) => {
      const piece = element("i", className);
      piece.style.flex = share + " 0 0";
      piece.title = words + " " + percent(share);
      bar.append(piece);
    };
    part("busy", busy, "busy");
    for (const wait of waits) part(wait.class, wait.share, wait.words);
    const told = waits.filter((wait) => wait.share >= 0.005).slice(0, 3).map((wait) => wait.words + " " + percent(wait.share));
    const how = element("div", "how", "busy " + percent(busy) + " in " + acts + " acts" + (told.length ? "; " + told.join(", ") : ""));
    list.append(who, bar, how);
  }
  if (!data.bars.length) list.append(element("div", "", "nothing acted"));
}

// A plan that is hardly wider than the page is made to fit; a wider one is moved sideways.
function fitPlan() {
  const svg = document.querySelector("svg.plan"), room = svg.parentElement.clientWidth;
  const wide = svg.viewBox.baseVal.width * (parseFloat(getComputedStyle(svg).zoom) || 1);
  const fits = wide > room && wide < room * 1.35;
  svg.style.width = fits ? "100%" : "";
  svg.style.height = fits ? "auto" : "";
}

readColours();
makeText();
makeBars();
makeCharts();
drawLegend();
resize();
resizeCharts();
fitPlan();
redraw();
new ResizeObserver(() => { resize(); resizeCharts(); fitPlan(); }).observe(document.querySelector("main"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(document.documentElement.dataset.theme ?? "system"));
