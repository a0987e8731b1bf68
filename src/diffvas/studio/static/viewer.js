// The pictures: views side by side, clicks on them, playing, the timeline.

import { loadAll, ready } from "./images.js";
import { missing, paint, paintClicks, parts, VIEWS } from "./draw.js";
import { frameAt, paintTimeline } from "./timeline.js";
import { $, activeObject, change, complain, currentRun, onRefresh, refresh, ui } from "./state.js";

const LAYOUTS = [["one", "One"], ["views", "Views side by side"], ["samples", "Samples side by side"]];
const CLICKED = ["input", "modal"]; // views that take clicks
let cells = []; // {figure, canvas, overlay, note, view, sample}
let drag = null; // {cell, x0, y0, x1, y1, button, mode}

// what is shown -----------------------------------------------------------------------------------------------------

function wanted() {
  const run = currentRun();
  if (ui.layout === "views") return VIEWS.filter((v) => ui.several.includes(v.key)).map((v) => ({ view: v.key, sample: ui.sample }));
  if (ui.layout === "samples" && run?.samples.length) {
    const view = ["input", "modal", "confidence"].includes(ui.view) ? "amodal" : ui.view;
    return run.samples.map((s) => ({ view, sample: s.key }));
  }
  return [{ view: ui.view, sample: ui.sample }];
}

export const sampleName = (key) => (key === "mean" ? "Mean" : `Sample ${key}`);

function caption(cell, many) {
  if (ui.layout === "samples" && many) return sampleName(cell.sample);
  const name = VIEWS.find((v) => v.key === cell.view).name;
  const run = currentRun();
  const sampled = run?.samples.length > 1 && ["amodal", "content", "compose"].includes(cell.view);
  return sampled ? `${name}, ${sampleName(cell.sample).toLowerCase()}` : name;
}

function buildCells() {
  const list = wanted();
  while (cells.length > list.length) cells.pop().figure.remove();
  while (cells.length < list.length) cells.push(makeCell());
  list.forEach((want, k) => {
    const cell = cells[k];
    Object.assign(cell, want);
    cell.caption.textContent = caption(cell, list.length > 1);
    cell.caption.hidden = list.length === 1;
    cell.canvas.setAttribute("aria-label", `${caption(cell, list.length > 1)}, frame ${ui.t}`);
    cell.figure.classList.toggle("clickable", CLICKED.includes(cell.view));
    cell.figure.classList.toggle("movable", cell.view === "compose");
    cell.figure.dataset.view = cell.view;
  });
  layOut(list.length);
}

function makeCell() {
  const figure = document.createElement("figure");
  figure.className = "cell";
  const [canvas, overlay] = [document.createElement("canvas"), document.createElement("canvas")];
  canvas.setAttribute("role", "img");
  overlay.setAttribute("aria-hidden", "true");
  const title = document.createElement("figcaption"), note = document.createElement("p");
  note.className = "missing";
  figure.append(canvas, overlay, title, note);
  const cell = { figure, canvas, overlay, caption: title, note, shown: null };
  overlay.addEventListener("pointerdown", (event) => pointerDown(cell, event));
  overlay.addEventListener("pointermove", (event) => pointerMove(cell, event));
  overlay.addEventListener("pointerup", (event) => pointerUp(cell, event));
  overlay.addEventListener("pointercancel", () => { drag = null; refresh(); });
  overlay.addEventListener("contextmenu", (event) => event.preventDefault());
  $("grid").append(figure);
  return cell;
}

// Columns and rows that make the pictures largest.
function layOut(count) {
  const grid = $("grid"), gap = 8;
  const { clientWidth: W, clientHeight: H } = grid;
  if (!W || !H) return;
  const aspect = ui.clip.width / ui.clip.height;
  let best = { scale: 0, columns: 1 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const scale = Math.min((W - gap * (columns - 1)) / columns, ((H - gap * (rows - 1)) / rows) * aspect);
    if (scale > best.scale + 0.5) best = { scale, columns };
  }
  grid.style.gridTemplateColumns = `repeat(${best.columns}, minmax(0, 1fr))`;
  grid.style.gridTemplateRows = `repeat(${Math.ceil(count / best.columns)}, minmax(0, 1fr))`;
  for (const cell of cells) fit(cell, aspect);
}

function fit(cell, aspect) {
  const { clientWidth: W, clientHeight: H } = cell.figure;
  let width = Math.min(W, H * aspect), height = width / aspect;
  width = Math.max(1, Math.floor(width));
  height = Math.max(1, Math.floor(height));
  const ratio = window.devicePixelRatio || 1;
  cell.scale = width / ui.clip.width; // CSS pixels per pixel of the clip
  cell.density = ratio;
  for (const canvas of [cell.canvas, cell.overlay]) {
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.style.left = `${Math.floor((W - width) / 2)}px`;
    canvas.style.top = `${Math.floor((H - height) / 2)}px`;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      cell.key = null; // that has cleared it
    }
  }
}

// painting ------------------------------------------------------------------------------------------------------------

const urls = (cell, t) => {
  const run = currentRun();
  return missing(cell.view, ui.clip, run, cell.sample) ? [] : parts(cell.view, ui.clip, run, cell.sample, t).map(([, url]) => url);
};

function paintCell(cell) {
  const run = currentRun(), why = missing(cell.view, ui.clip, run, cell.sample);
  cell.note.textContent = why || "";
  cell.note.hidden = !why;
  cell.canvas.hidden = cell.overlay.hidden = Boolean(why);
  if (why) return;
  const list = urls(cell, ui.t);
  if (ready(list)) {
    paintNow(cell);
  } else {
    // a picture of another frame may stay for a moment, one of another view would be taken for this one
    cell.figure.classList.toggle("stale", cell.shown !== `${cell.view} ${cell.sample}`);
    const ask = (cell.ask = {});
    const late = setTimeout(() => cell.ask === ask && cell.figure.classList.add("busy"), 400);
    loadAll(list).then(() => {
      clearTimeout(late);
      if (cell.ask === ask && ui.clip) paintNow(cell); // the last picture stays until the new one is whole
    });
  }
  paintOverlay(cell);
}

function paintNow(cell) {
  cell.ask = null;
  cell.figure.classList.remove("busy");
  const run = currentRun();
  if (missing(cell.view, ui.clip, run, cell.sample)) return;
  const options = { active: ui.active, bare: ui.bare, background: ui.background, moves: moves(), density: cell.density };
  const { width, height } = cell.canvas;
  const key = JSON.stringify([cell.view, ui.t, urls(cell, ui.t), options, width, height]);
  if (key !== cell.key) paint(cell.canvas, cell.view, ui.clip, run, cell.sample, ui.t, options); // a poll changes little
  cell.key = ready(urls(cell, ui.t)) ? key : null; // what could not be had may come yet
  cell.shown = `${cell.view} ${cell.sample}`;
  cell.figure.classList.remove("stale");
  cell.figure.dataset.frame = ui.t;
}

function moves() {
  if (drag?.mode !== "move") return ui.moves;
  const [dx, dy] = ui.moves[drag.object] || [0, 0];
  return { ...ui.moves, [drag.object]: [dx + drag.x1 - drag.x0, dy + drag.y1 - drag.y0] };
}

function paintOverlay(cell) {
  const context = cell.overlay.getContext("2d");
  context.setTransform(cell.density, 0, 0, cell.density, 0, 0);
  context.clearRect(0, 0, cell.overlay.width, cell.overlay.height);
  if (!CLICKED.includes(cell.view) || ui.bare) return;
  const box = drag?.cell === cell && drag.mode === "box" ? dragBox() : null;
  paintClicks(context, ui.clip.objects, ui.t, ui.active, cell.scale, ui.pending, box);
}

const dragBox = () => [Math.min(drag.x0, drag.x1), Math.min(drag.y0, drag.y1), Math.max(drag.x0, drag.x1), Math.max(drag.y0, drag.y1)];

// the frames that come next, so that playing and arrows do not wait
let ahead = 0;
function prefetch() {
  clearTimeout(ahead);
  ahead = setTimeout(async () => {
    const clip = ui.clip;
    const near = VIEWS.map((v) => ({ view: v.key, sample: ui.sample })); // another view of this frame
    for (const cell of near) if (clip) await loadAll(urls(cell, ui.t));
    for (const d of [1, -1, 2, 3, 4, 5, 6, 7, 8]) {
      const t = (ui.t + d + (clip?.frames || 0)) % (clip?.frames || 1);
      if (ui.clip !== clip || !clip) return;
      for (const cell of cells) await loadAll(urls(cell, t));
    }
  }, 60);
}

// clicks --------------------------------------------------------------------------------------------------------------

function place(cell, event) {
  const box = cell.overlay.getBoundingClientRect();
  const limit = (v, most) => Math.min(most, Math.max(0, v));
  return [limit((event.clientX - box.left) / cell.scale, ui.clip.width), limit((event.clientY - box.top) / cell.scale, ui.clip.height)];
}

function pointerDown(cell, event) {
  if (event.button > 2 || event.button === 1) return;
  const [x, y] = place(cell, event);
  const mode = cell.view === "compose" ? "move" : CLICKED.includes(cell.view) ? "point" : null;
  if (!mode) {
    if (event.button === 0) complain("Clicks on objects are for the views Input and Visible.");
    return;
  }
  const run = currentRun();
  const object = run?.objects.some((o) => o.id === ui.active) ? ui.active : run?.objects[0]?.id;
  drag = { cell, x0: x, y0: y, x1: x, y1: y, negative: event.button === 2 || event.shiftKey || event.altKey || ui.take, mode, object };
  cell.overlay.setPointerCapture(event.pointerId);
}

function pointerMove(cell, event) {
  if (drag?.cell !== cell) return;
  [drag.x1, drag.y1] = place(cell, event);
  const far = Math.hypot(drag.x1 - drag.x0, drag.y1 - drag.y0) * cell.scale > 8;
  if (drag.mode === "point" && far && !drag.negative) drag.mode = "box";
  refresh();
}

function pointerUp(cell, event) {
  if (drag?.cell !== cell) return;
  [drag.x1, drag.y1] = place(cell, event);
  const done = drag;
  if (done.mode === "move") ui.moves = moves();
  const box = dragBox();
  drag = null;
  refresh();
  if (done.mode === "box") add({ frame: ui.t, box });
  else if (done.mode === "point" && !removeNear(cell, done.x0, done.y0)) {
    const x = Math.min(done.x0, ui.clip.width - 0.01), y = Math.min(done.y0, ui.clip.height - 0.01);
    add({ frame: ui.t, x, y, positive: !done.negative });
  }
}

function removeNear(cell, x, y) {
  const object = activeObject();
  const index = object?.clicks.findIndex((c) => c.frame === ui.t && !c.box && Math.hypot(c.x - x, c.y - y) * cell.scale < 8) ?? -1;
  if (index < 0) return false;
  change("DELETE", `/objects/${object.id}/clicks/${index}`);
  return true;
}

async function add(click) {
  if (!ui.clip.objects.length) {
    if (!(await change("POST", "/objects"))) return;
  }
  const object = activeObject();
  if (!object) return;
  if (ui.view === "input" && ui.layout === "one") ui.view = "modal"; // where the mask can be seen
  const shown = { ...click, colour: object.colour };
  ui.pending.push(shown);
  refresh();
  await change("POST", `/objects/${object.id}/clicks`, click);
  ui.pending = ui.pending.filter((p) => p !== shown);
  refresh();
}

export function undo() {
  const object = activeObject();
  if (object?.clicks.length) change("DELETE", `/objects/${object.id}/clicks/${object.clicks.length - 1}`);
}

// playing -------------------------------------------------------------------------------------------------------------

export function go(t) {
  if (!ui.clip) return;
  ui.t = Math.min(ui.clip.frames - 1, Math.max(0, t));
  refresh();
}

let lastStep = 0;
export function play(on = !ui.playing) {
  ui.playing = on && ui.clip?.frames > 1;
  lastStep = performance.now();
  if (ui.playing) requestAnimationFrame(step);
  refresh();
}

function step(now) {
  if (!ui.playing || !ui.clip) return;
  if (now - lastStep >= 1000 / ui.clip.fps) {
    const next = (ui.t + 1) % ui.clip.frames;
    const list = cells.flatMap((cell) => urls(cell, next));
    if (ready(list)) {
      lastStep = Math.max(lastStep + 1000 / ui.clip.fps, now - 100);
      go(next);
    } else loadAll(list);
  }
  requestAnimationFrame(step);
}

// the rest ------------------------------------------------------------------------------------------------------------

export function lowFrames() {
  const confidence = currentRun()?.confidence[ui.active];
  return confidence ? confidence.flatMap((v, t) => (v < ui.session.doubtful ? [t] : [])) : [];
}

function hint() {
  const object = activeObject();
  if (ui.pending.length) return "Finding the object…";
  if (ui.layout === "one" && ui.view === "compose") return "Drag to move the object. What stands behind it is not known, so nothing is removed.";
  if (!wanted().some((c) => CLICKED.includes(c.view))) return "To change masks, go to Input or Visible and click.";
  if (!object?.clicks.length) return "Click an object, or drag a box around it.";
  if (ui.take) return "Click what does not belong to the object (X: back to adding).";
  return "Click adds · right click takes off · drag draws a box · click a dot to undo it";
}

function button(text, pressed, title, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  element.title = title;
  if (pressed !== null) element.setAttribute("aria-pressed", pressed);
  element.addEventListener("click", action);
  return element;
}

function extras() {
  const views = wanted().map((c) => c.view), items = [];
  const words = (text) => Object.assign(document.createElement("span"), { textContent: text });
  if (views.includes("confidence")) items.push(words("few samples"), Object.assign(words(""), { className: "legend" }), words("all"));
  if (views.includes("content")) {
    const group = document.createElement("div");
    group.className = "segmented small";
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Background of the content");
    const kinds = [["checker", "Checker"], ["scene", "Scene"], ["#000000", "Black"], ["#ffffff", "White"]];
    group.append(...kinds.map(([key, name]) => button(name, ui.background === key, `Show the content on: ${name.toLowerCase()}`, () => { ui.background = key; refresh(); })));
    items.push(group);
  }
  if (views.includes("compose")) items.push(button("Put back", null, "Back to its own place", () => { ui.moves = {}; refresh(); }));
  items.push(button("Save picture", null, "Save what is shown as a PNG", savePicture));
  const key = JSON.stringify([views, ui.background]);
  if ($("extras").dataset.key === key) return;
  $("extras").dataset.key = key;
  $("extras").replaceChildren(...items);
}

function savePicture() {
  const shown = cells.filter((c) => !c.canvas.hidden);
  if (!shown.length) return;
  const { width, height } = shown[0].canvas;
  const columns = Math.min(shown.length, Math.ceil(Math.sqrt(shown.length)));
  const sheet = document.createElement("canvas");
  sheet.width = columns * width;
  sheet.height = Math.ceil(shown.length / columns) * height;
  shown.forEach((c, k) => sheet.getContext("2d").drawImage(c.canvas, (k % columns) * width, Math.floor(k / columns) * height));
  sheet.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `frame-${String(ui.t).padStart(5, "0")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 5000);
  });
}

function segments(holder, items) {
  const key = JSON.stringify(items.map(([, name, , pressed]) => [name, pressed]));
  if (holder.dataset.key === key) return;
  holder.dataset.key = key;
  const focused = [...holder.children].indexOf(document.activeElement);
  holder.replaceChildren(...items.map(([, name, title, pressed, action]) => button(name, pressed, title, action)));
  if (focused >= 0) holder.children[focused]?.focus();
}

export function pickView(key) {
  if (ui.layout === "views") {
    const on = ui.several.includes(key);
    if (on && ui.several.length === 1) return;
    ui.several = on ? ui.several.filter((v) => v !== key) : [...ui.several, key];
  } else ui.view = key;
  refresh();
}

export function pickLayout(key) {
  ui.layout = key;
  refresh();
}

export const nextLayout = () => pickLayout(LAYOUTS[(LAYOUTS.findIndex(([key]) => key === ui.layout) + 1) % LAYOUTS.length][0]);

export function setUpViewer() {
  $("back").addEventListener("click", () => go(ui.t - 1));
  $("forward").addEventListener("click", () => go(ui.t + 1));
  $("play").addEventListener("click", () => play());
  const line = $("timeline");
  line.addEventListener("pointerdown", (event) => { line.setPointerCapture(event.pointerId); play(false); go(frameAt(line, event, ui.clip.frames)); });
  line.addEventListener("pointermove", (event) => { if (line.hasPointerCapture(event.pointerId)) go(frameAt(line, event, ui.clip.frames)); });
  new ResizeObserver(refresh).observe($("grid"));
  new ResizeObserver(refresh).observe(line);

  onRefresh(() => {
    if (!ui.clip) return;
    segments($("views"), VIEWS.map((v, k) => [v.key, v.name, `${v.title} (${k + 1})`, ui.layout === "views" ? ui.several.includes(v.key) : wanted()[0].view === v.key, () => pickView(v.key)]));
    segments($("layouts"), LAYOUTS.map(([key, name]) => [key, name, `${name} (S)`, ui.layout === key, () => pickLayout(key)]));
    extras();
    buildCells();
    for (const cell of cells) paintCell(cell);
    if (!ui.playing) prefetch();
    $("hint").textContent = hint();
    transport();
  });
}

function transport() {
  const { clip, t } = ui, object = activeObject(), low = lowFrames();
  paintTimeline($("timeline"), { clip, object, run: currentRun(), sample: ui.sample, t, low });
  $("timeline").setAttribute("aria-valuemax", clip.frames - 1);
  $("timeline").setAttribute("aria-valuenow", t);
  const counter = `${t} / ${clip.frames - 1}|${(t / clip.fps).toFixed(2)} s`;
  if ($("counter").dataset.key !== counter) {
    $("counter").dataset.key = counter;
    const small = document.createElement("small");
    small.textContent = counter.split("|")[1];
    $("counter").replaceChildren(`Frame ${counter.split("|")[0]}`, small);
  }
  if ($("play").dataset.on !== String(ui.playing)) {
    $("play").dataset.on = String(ui.playing);
    $("play").firstElementChild.className = ui.playing ? "icon-pause" : "icon-play";
    $("play").setAttribute("aria-label", ui.playing ? "Pause" : "Play");
  }
  timelineKey(object, low.length);
}

function timelineKey(object, low) {
  const run = currentRun();
  const items = [];
  const own = object && run?.objects.some((o) => o.id === object.id) && run.samples.length;
  if (object?.areas) items.push([object.colour, 1, "visible area"]);
  if (own) items.push([object.colour, 0.38, "hidden area"]);
  if (object?.clicks.length) items.push(["dot", 1, "clicks"]);
  if (low) items.push(["warn", 1, "samples disagree"]);
  const key = JSON.stringify(items);
  if ($("timeline-key").dataset.key === key) return;
  $("timeline-key").dataset.key = key;
  $("timeline-key").replaceChildren(...items.map(([colour, alpha, text]) => {
    const item = document.createElement("span"), mark = document.createElement("i");
    if (colour.startsWith("#")) { mark.style.background = colour; mark.style.opacity = alpha; } else mark.className = colour;
    item.append(mark, text);
    return item;
  }));
}
