// What a view of a frame is made of, and how it is painted.

import { peek } from "./images.js";

export const VIEWS = [
  { key: "input", name: "Input", title: "The frames as they came" },
  { key: "modal", name: "Visible", title: "The visible part of each object (modal mask)" },
  { key: "amodal", name: "Whole", title: "The whole object; hidden parts are striped (amodal mask)" },
  { key: "content", name: "Content", title: "The object alone, hidden parts in the model's colours" },
  { key: "confidence", name: "Confidence", title: "How many of the samples cover a pixel" },
  { key: "compose", name: "Re-compose", title: "The completed object in front of everything; drag to move it" },
];

// addresses -----------------------------------------------------------------------------------------------------------

const frameUrl = (clip, t) => `/api/clips/${clip.id}/frames/${t}`;

export function maskUrl(clip, object, t) {
  const preview = object.previews?.[t];
  if (preview !== undefined) return `/api/clips/${clip.id}/masks/${object.id}/${t}?k=p${preview}`;
  return object.areas ? `/api/clips/${clip.id}/masks/${object.id}/${t}?k=t${clip.tracked}` : null;
}

const layerUrl = (clip, run, sample, object, kind, t) =>
  `/api/clips/${clip.id}/runs/${run.id}/${sample}/${object.id}/${kind}/${t}`;

// Why a view cannot be shown, or null.
export function missing(view, clip, run, sample) {
  if (view === "input") return null;
  if (view === "modal") return null;
  if (!run?.samples.length) return "Nothing is completed yet. Click an object, wait until it is tracked, then press Complete.";
  if ((view === "content" || view === "compose") && !run.asked.content) return "This run has masks only. Complete again with “Hidden content too”.";
  if (view === "confidence" && !run.samples.some((s) => s.key === "mean"))
    return run.asked.samples > 1 ? "Comes when all samples are drawn." : "Confidence compares samples. Complete again with two samples or more.";
  return null;
}

// [name, address] of all pictures of a view.
export function parts(view, clip, run, sample, t) {
  const list = [["frame", frameUrl(clip, t)]];
  if (view === "modal") for (const o of clip.objects) { const url = maskUrl(clip, o, t); if (url) list.push([`modal${o.id}`, url]); }
  if (!["amodal", "content", "confidence", "compose"].includes(view)) return list;
  for (const o of run.objects) {
    const add = (kind, key = sample) => list.push([`${kind}${o.id}`, layerUrl(clip, run, key, o, kind, t)]);
    if (view === "amodal") { add("amodal"); add("modal"); }
    if (view === "content") { add("content"); if (run.objects.length > 1) add("modal"); }
    if (view === "compose") add("content");
    if (view === "confidence") { add("probability", "mean"); add("amodal", "mean"); add("modal", "mean"); }
  }
  return list;
}

// painting ------------------------------------------------------------------------------------------------------------

const scratch = new Map();
function sheet(name, w, h) {
  let canvas = scratch.get(name);
  if (!canvas) scratch.set(name, (canvas = document.createElement("canvas")));
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "source-over";
  context.clearRect(0, 0, w, h);
  return context;
}

function tinted(mask, style, w, h, without) {
  const x = sheet("tint", w, h);
  x.drawImage(mask, 0, 0, w, h);
  if (without) { x.globalCompositeOperation = "destination-out"; x.drawImage(without, 0, 0, w, h); }
  x.globalCompositeOperation = "source-in";
  x.fillStyle = style;
  x.fillRect(0, 0, w, h);
  return x.canvas;
}

function outlined(mask, colour, w, h, width) {
  const x = sheet("outline", w, h);
  for (let k = 0; k < 12; k++) {
    const a = (k * Math.PI) / 6;
    x.drawImage(mask, Math.cos(a) * width, Math.sin(a) * width, w, h);
  }
  x.globalCompositeOperation = "destination-out";
  x.drawImage(mask, 0, 0, w, h);
  x.globalCompositeOperation = "source-in";
  x.fillStyle = colour;
  x.fillRect(0, 0, w, h);
  return x.canvas;
}

function clipped(picture, mask, w, h) {
  const x = sheet("clipped", w, h);
  x.drawImage(mask, 0, 0, w, h);
  x.globalCompositeOperation = "source-in";
  x.drawImage(picture, 0, 0, w, h);
  return x.canvas;
}

function stripes(colour, scale) {
  const side = Math.max(6, Math.round(9 * scale));
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const x = canvas.getContext("2d");
  x.globalAlpha = 0.35;
  x.fillStyle = colour;
  x.fillRect(0, 0, side, side);
  x.globalAlpha = 0.95;
  x.strokeStyle = colour;
  x.lineWidth = side * 0.36;
  for (const at of [-side, 0, side]) { x.beginPath(); x.moveTo(at - 1, side + 1); x.lineTo(at + side + 1, -1); x.stroke(); }
  return x.createPattern(canvas, "repeat");
}

function checker(x, w, h) {
  const cell = Math.max(6, Math.round(Math.max(w, h) / 64));
  x.fillStyle = "#d6d6d6";
  x.fillRect(0, 0, w, h);
  x.fillStyle = "#bebebe";
  for (let i = 0; i * cell < h; i++) for (let j = i % 2; j * cell < w; j += 2) x.fillRect(j * cell, i * cell, cell, cell);
}

// Paint one view. `options`: active (object id), bare (no masks), background, moves (object id -> [dx, dy] in clip pixels),
// density (canvas pixels per CSS pixel).
export function paint(canvas, view, clip, run, sample, t, options) {
  const context = canvas.getContext("2d");
  const { width: w, height: h } = canvas;
  const got = Object.fromEntries(parts(view, clip, run, sample, t).map(([name, url]) => [name, peek(url)]));
  const line = 1.6 * options.density;
  context.globalAlpha = 1;
  context.filter = "none";
  if (view === "content" && options.background !== "scene") {
    if (options.background === "checker") checker(context, w, h);
    else { context.fillStyle = options.background; context.fillRect(0, 0, w, h); }
  } else if (got.frame) {
    if (view === "confidence") context.filter = "grayscale(1) brightness(.45)";
    if (view === "content") context.filter = "grayscale(1) brightness(.6)";
    context.drawImage(got.frame, 0, 0, w, h);
    context.filter = "none";
  }
  if (options.bare && view !== "content" && view !== "compose") return;
  if (view === "modal") paintModal(context, clip.objects, got, w, h, line, options);
  if (view === "amodal") paintAmodal(context, run.objects, got, w, h, line, options);
  if (view === "content") paintContent(context, run.objects, got, w, h);
  if (view === "confidence") paintConfidence(context, run.objects, got, w, h, line);
  if (view === "compose") paintCompose(context, run.objects, got, w, h, clip, options);
}

function paintModal(context, objects, got, w, h, line, options) {
  for (const o of objects) {
    const mask = got[`modal${o.id}`];
    if (!mask) continue;
    context.globalAlpha = o.id === options.active ? 0.5 : 0.32;
    context.drawImage(tinted(mask, o.colour, w, h), 0, 0);
    context.globalAlpha = 1;
    context.drawImage(outlined(mask, o.id === options.active ? "#fff" : o.colour, w, h, line), 0, 0);
  }
}

function paintAmodal(context, objects, got, w, h, line, options) {
  for (const o of objects) {
    const whole = got[`amodal${o.id}`], seen = got[`modal${o.id}`];
    if (!whole) continue;
    if (seen) {
      context.globalAlpha = 0.36;
      context.drawImage(tinted(seen, o.colour, w, h), 0, 0);
      context.globalAlpha = 0.9;
      context.drawImage(tinted(whole, stripes(o.colour, options.density), w, h, seen), 0, 0);
    }
    context.globalAlpha = 1;
    context.drawImage(outlined(whole, "#fff", w, h, line), 0, 0);
  }
}

// Nobody said which object is in front, but what the camera saw is: visible pixels lie over all hidden ones.
function paintContent(context, objects, got, w, h) {
  for (const o of objects) if (got[`content${o.id}`]) context.drawImage(got[`content${o.id}`], 0, 0, w, h);
  for (const o of objects) if (got[`modal${o.id}`] && got.frame) context.drawImage(clipped(got.frame, got[`modal${o.id}`], w, h), 0, 0);
}

function paintConfidence(context, objects, got, w, h, line) {
  for (const o of objects) {
    if (got[`probability${o.id}`]) context.drawImage(got[`probability${o.id}`], 0, 0, w, h);
    if (got[`amodal${o.id}`]) context.drawImage(outlined(got[`amodal${o.id}`], "#fff", w, h, line * 0.8), 0, 0);
  }
}

function paintCompose(context, objects, got, w, h, clip, options) {
  const ordered = [...objects].sort((a, b) => (a.id === options.active) - (b.id === options.active));
  for (const o of ordered) {
    const picture = got[`content${o.id}`];
    const [dx, dy] = options.moves[o.id] || [0, 0];
    if (picture) context.drawImage(picture, (dx * w) / clip.width, (dy * h) / clip.height, w, h);
  }
}

// Clicks of a frame on a context in CSS pixels. `scale`: CSS pixels per clip pixel.
export function paintClicks(context, objects, t, active, scale, pending, drag) {
  for (const o of objects) {
    const own = o.id === active;
    o.clicks.filter((c) => c.frame === t).forEach((c) => {
      context.globalAlpha = own ? 1 : 0.55;
      if (c.box) box(context, c.box, o.colour, scale);
      else dot(context, c.x * scale, c.y * scale, c.positive, o.colour, own ? 6.5 : 4.5);
    });
  }
  context.globalAlpha = 1;
  for (const p of pending) if (p.frame === t) {
    if (p.box) box(context, p.box, p.colour, scale);
    else { context.globalAlpha = 0.75; dot(context, p.x * scale, p.y * scale, p.positive, p.colour, 6.5); context.globalAlpha = 1; ring(context, p.x * scale, p.y * scale); }
  }
  if (drag) box(context, drag, "#fff", scale);
}

function dot(x, cx, cy, positive, colour, r) {
  x.beginPath();
  x.arc(cx, cy, r, 0, 7);
  x.fillStyle = positive ? colour : "#17181a";
  x.fill();
  x.lineWidth = 2;
  x.strokeStyle = "#fff";
  x.stroke();
  if (r < 5) return;
  x.beginPath();
  x.moveTo(cx - 3, cy); x.lineTo(cx + 3, cy);
  if (positive) { x.moveTo(cx, cy - 3); x.lineTo(cx, cy + 3); }
  x.strokeStyle = positive ? "#111" : "#fff";
  x.stroke();
}

function ring(x, cx, cy) {
  x.beginPath();
  x.arc(cx, cy, 12, 0, 7);
  x.setLineDash([4, 4]);
  x.strokeStyle = "#fff";
  x.lineWidth = 1.5;
  x.stroke();
  x.setLineDash([]);
}

function box(x, [x0, y0, x1, y1], colour, s) {
  x.lineWidth = 3;
  x.strokeStyle = "#000a";
  x.strokeRect(x0 * s, y0 * s, (x1 - x0) * s, (y1 - y0) * s);
  x.lineWidth = 1.5;
  x.setLineDash([6, 4]);
  x.strokeStyle = colour;
  x.strokeRect(x0 * s, y0 * s, (x1 - x0) * s, (y1 - y0) * s);
  x.setLineDash([]);
}
