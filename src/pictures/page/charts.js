// Small charts of what was counted, over the same time as the lanes.

const charts = [];

function makeCharts() {
  const list = document.getElementById("chart-list");
  const watch = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) charts[target.dataset.chart].seen = isIntersecting;
    later();
  }, { rootMargin: "200px" });
  for (const series of data.series) {
    const box = element("div", "chart"), head = element("div");
    const name = element("span", "name", series.name), value = element("span", "value");
    name.title = series.name;
    const own = document.createElement("canvas");
    head.append(name, value);
    box.append(head, own);
    box.dataset.chart = charts.length;
    list.append(box);
    let most = 0;
    for (let i = series.from; i < series.to; i++) most = Math.max(most, columns.point_value[i]);
    charts.push({ series, canvas: own, context: own.getContext("2d"), value, most, seen: false, told: "" });
    watch.observe(box);
    own.addEventListener("pointermove", (event) => {
      const share = event.offsetX / own.clientWidth;
      cursor = view.start + share * view.width * view.perPixel;
      later();
    });
    own.addEventListener("pointerleave", () => { cursor = null; later(); });
  }
  const left = data.queues_left_out ? " The " + data.queues_left_out + " queues that were emptiest are in the words below." : "";
  const nothing = data.series.length ? "" : "Nothing was counted: --trace-level hop does.";
  document.getElementById("charts-note").textContent = nothing || "The time that the lanes show; a queue is messages that wait on an edge." + left;
}

function resizeCharts() {
  for (const chart of charts) {
    chart.canvas.width = Math.round(chart.canvas.clientWidth * view.ratio);
    chart.canvas.height = Math.round(chart.canvas.clientHeight * view.ratio);
  }
}

function drawCharts() {
  for (const chart of charts) if (chart.seen) drawChart(chart);
}

// A line of steps; where several points share a pixel, from the least to the most of them.
function drawChart(chart) {
  const { series, canvas, context, most } = chart, full = Math.max(most, 1);
  const { width, height } = canvas, ratio = view.ratio;
  context.clearRect(0, 0, width, height);
  context.fillStyle = colours.line;
  context.fillRect(0, height - ratio, width, ratio);
  const start = view.start, perDot = view.width * view.perPixel / width, times = columns.point_time, values = columns.point_value;
  const top = 3 * ratio, yOf = (value) => height - ratio - value / full * (height - top - ratio);
  let i = firstWhere(series.from, series.to, (at) => times[at] > start);
  let value = i > series.from ? values[i - 1] : null, since = 0;
  context.beginPath();
  if (value !== null) context.moveTo(0, yOf(value));
  while (i < series.to) {
    const dot = Math.floor((times[i] - start) / perDot);
    if (dot >= width) break;
    const end = start + (dot + 1) * perDot;
    let least = Infinity, largest = -Infinity, last = 0;
    for (; i < series.to && times[i] < end; i++) {
      last = values[i];
      if (last < least) least = last;
      if (last > largest) largest = last;
    }
    if (least === Infinity) { least = largest = last = values[i]; i++; }
    if (value === null) context.moveTo(since = dot, yOf(least)); else context.lineTo(dot, yOf(value));
    context.lineTo(dot, yOf(least));
    if (largest !== least) context.lineTo(dot, yOf(largest));
    context.lineTo(dot, yOf(last));
    value = last;
  }
  if (value !== null) {
    context.lineTo(width, yOf(value));
    context.strokeStyle = colours.act;
    context.lineWidth = 1.4 * ratio;
    context.stroke();
    context.lineTo(width, height);
    context.lineTo(since, height);
    context.globalAlpha = 0.15;
    context.fillStyle = colours.act;
    context.fill();
    context.globalAlpha = 1;
  }
  const at = cursor === null ? null : firstWhere(series.from, series.to, (place) => times[place] > cursor) - 1;
  let told = "at most " + most;
  if (at !== null) {
    told = at >= series.from ? values[at].toString() : "–";
    context.fillStyle = colours.soft;
    context.fillRect((cursor - start) / perDot, 0, ratio, height);
  }
  if (told !== chart.told) chart.value.textContent = chart.told = told;
}
