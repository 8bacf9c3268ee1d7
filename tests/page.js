// Looks at a page in headless Chromium: two sizes, light and dark; a click, a search and every key; no error, no request, nothing
// wider than the window; how long it takes to open and to redraw. Run by hand, with puppeteer-core from npm and Chromium:
//
//   millstream trace trace.json --html page.html
//   NODE_PATH=DIR/node_modules node tests/page.js page.html OUT_FOLDER
//
// Screenshots go to OUT_FOLDER, to be looked at. Ends with 1 where something is wrong.
const fs = require("fs");
const path = require("path");
const puppeteer = require("puppeteer-core");

const [file, out] = process.argv.slice(2);
const chromium = process.env.CHROMIUM ?? "/usr/bin/chromium";
if (!fs.existsSync(chromium)) {
  console.log("skipped: no " + chromium + "; set CHROMIUM");
  process.exit(0);
}
const wrong = [];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function open(browser, width, height, theme) {
  const page = await browser.newPage();
  page.on("console", (said) => { if (["error", "warning", "warn"].includes(said.type())) wrong.push(said.text()); });
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("request", (request) => { if (!request.url().startsWith("file:")) wrong.push("asks for " + request.url()); });
  await page.setViewport({ width, height });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
  await page.goto("file://" + path.resolve(file));
  const opened = await page.evaluate(() => performance.getEntriesByType("navigation")[0].loadEventEnd);
  await pause(300);
  const [inside, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  if (inside > window) wrong.push("the page is " + inside + " wide in a window of " + window);
  const cut = await page.evaluate(() => [...document.querySelectorAll("#figures dd, #verdict, h1, button, #bars .how")]
    .filter((box) => box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).display !== "inline").map((box) => box.textContent));
  if (cut.length) wrong.push("cut off: " + cut.join(" | "));
  return { page, opened };
}

// The least and the middle of a dozen redraws, a frame each as in use, at ever narrower times.
function redraws(page) {
  return page.evaluate(async () => {
    const found = [];
    const measure = async (what) => {
      const times = [];
      for (let at = 0; at < 12; at++) {
        await new Promise((frame) => requestAnimationFrame(frame));
        const since = performance.now();
        redraw();
        times.push(performance.now() - since);
      }
      times.sort((a, b) => a - b);
      found.push(what + " " + times[0].toFixed(1) + "/" + times[6].toFixed(1));
    };
    await measure("whole");
    for (let times = 4; times <= 4096; times *= 4) { view.perPixel /= 4; bound(); await measure("1/" + times); }
    for (const lane of lanes) lane.open = true;
    resize();
    fit();
    await measure("all open");
    return found.join(", ");
  });
}

// Where to click for an act of a stage in the middle of the run, and its step.
function target(page) {
  return page.evaluate(() => {
    const row = rows.find((row) => row.sort === "actor" && row.part !== null && row.name.startsWith("stage"));
    if (!row) return null;
    let span = (row.from + row.to) >> 1;
    while (span < row.to && columns.kind[span] !== ACT) span++;
    if (span === row.to) return null;
    show(span);
    redraw();
    const line = lineOf(span), box = canvas.getBoundingClientRect();
    const x = box.left + xOf(view, startOf(span) + columns.length[span] / 2);
    return { x, y: box.top + view.axis + line.y + line.height / 2 - lanesBox.scrollTop, step: columns.step[span] };
  });
}

async function use(page) {
  await page.evaluate(() => document.getElementById("time").scrollIntoView());
  const text = (id) => page.evaluate((id) => document.getElementById(id).textContent, id);
  const at = await target(page);
  if (at) {
    await page.mouse.move(at.x, at.y);
    await pause(100);
    if (!(await text("tip")).includes("step " + at.step)) wrong.push("the tip of step " + at.step + " says " + await text("tip"));
    await page.mouse.click(at.x, at.y);
    await pause(100);
    if (!(await text("followed")).startsWith("step " + at.step + ":")) wrong.push("a click on step " + at.step + " follows " + await text("followed"));
    await page.evaluate(() => {
      const first = startOf(picked.spans[0]), last = Math.max(...picked.spans.map(endOf));
      view.perPixel = (last - first) * 1.1 / view.width;
      view.start = first - (last - first) * 0.05;
      forget();
      redraw();
    });
    await page.screenshot({ path: path.join(out, "follow.png") });
    await page.keyboard.press("]");
    await page.keyboard.press("Escape");
    await page.keyboard.press("/");
    await page.keyboard.type("step " + at.step);
    await page.keyboard.press("Enter");
    await pause(100);
    if (!/^\d+ of \d+ spans$/.test(await text("matches"))) wrong.push("a search for step " + at.step + " finds " + await text("matches"));
    await page.screenshot({ path: path.join(out, "search.png") });
    await page.keyboard.press("Escape");
  }
  for (const key of "wwsadnplltttf[]??".split("").concat("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Escape")) await page.keyboard.press(key);
  const box = await page.evaluate(() => { const { left, top } = canvas.getBoundingClientRect(); return [left + view.left, top]; });
  await page.mouse.move(box[0] + 300, box[1] + 60);
  const before = await page.evaluate(() => view.perPixel);
  await page.mouse.wheel({ deltaY: -300 });
  await pause(100);
  const zoomed = await page.evaluate(() => [view.perPixel, view.start]);
  if (!(zoomed[0] < before)) wrong.push("the wheel does not zoom");
  await page.mouse.down();
  await page.mouse.move(box[0] + 200, box[1] + 60, { steps: 4 });
  await page.mouse.up();
  if (await page.evaluate(() => view.start) <= zoomed[1]) wrong.push("a drag does not move");
}

(async () => {
  fs.mkdirSync(out, { recursive: true });
  const browser = await puppeteer.launch({ executablePath: chromium, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
  for (const [width, height] of [[1280, 800], [3840, 2160]]) {
    for (const theme of ["light", "dark"]) {
      const { page, opened } = await open(browser, width, height, theme);
      await page.screenshot({ path: path.join(out, width + "-" + theme + ".png") });
      await page.screenshot({ path: path.join(out, width + "-" + theme + "-whole.png"), fullPage: true });
      console.log(width + " " + theme + ": open in " + opened.toFixed(0) + " ms; redraws in ms, least/middle: " + await redraws(page));
      await use(page);
      await page.close();
    }
  }
  await browser.close();
  console.log(wrong.length ? "wrong:\n" + wrong.join("\n") : "nothing is wrong");
  process.exit(wrong.length ? 1 : 0);
})();
