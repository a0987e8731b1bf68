// The steps beside the picture: objects, completion, samples, export.

import { $, activeObject, attempt, change, currentRun, lastJob, onRefresh, openJob, refresh, ui } from "./state.js";
import { call } from "./api.js";
import { go, lowFrames, sampleName } from "./viewer.js";

const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function element(tag, props = {}, ...children) {
  const { dataset, ...rest } = props;
  const made = Object.assign(document.createElement(tag), rest);
  Object.assign(made.dataset, dataset || {});
  made.append(...children);
  return made;
}

// Build a holder's children again only where what they show has changed.
function rebuilt(holder, key, build) {
  const text = JSON.stringify(key);
  if (holder.dataset.key === text) return;
  holder.dataset.key = text;
  holder.replaceChildren(...build());
}

export function timeLeft(seconds) {
  if (seconds === null) return "";
  if (seconds < 90) return `${Math.ceil(seconds)} s left`;
  return `${Math.round(seconds / 60)} min left`;
}

// A job as words and a bar; null where there is none.
function jobStatus(holder, job, words) {
  const failed = job?.state === "failed" ? job.error : "";
  const open = job && ["waiting", "running", "stopping"].includes(job.state);
  let text = words, left = "", waiting = false;
  if (failed) text = failed;
  else if (open && job.state === "waiting") {
    text = job.position ? `Waiting: ${plural(job.position, "job")} ahead` : "Starting…";
    waiting = true;
  } else if (open) {
    const stopping = job.kind === "track" ? "tracking starts anew…" : "stopping after this step…";
    const stage = job.state === "stopping" ? stopping : job.stage || "starting…";
    text = stage[0].toUpperCase() + stage.slice(1);
    left = job.state === "stopping" ? "" : timeLeft(job.left);
    waiting = job.fraction === 0 || job.state === "stopping";
  }
  let line = holder.firstElementChild, bar = holder.children[1];
  if (!line) {
    line = element("div", { className: "line" }, element("span"), element("span", { className: "left" }));
    bar = element("div", { className: "bar" }, element("div", { className: "fill" }));
    bar.setAttribute("role", "progressbar");
    holder.append(line, bar);
  }
  [text, left].forEach((now, k) => { if (line.children[k].textContent !== now) line.children[k].textContent = now; });
  line.classList.toggle("bad", Boolean(failed));
  bar.hidden = !open;
  bar.classList.toggle("waiting", waiting);
  bar.firstElementChild.style.width = waiting ? "" : `${Math.round(100 * (job?.fraction || 0))}%`;
  bar.setAttribute("aria-valuenow", Math.round(100 * (job?.fraction || 0)));
}

// 1 objects -----------------------------------------------------------------------------------------------------------

function objectRow(o) {
  const name = element("input", { value: o.name, maxLength: 40, title: "Click to rename" });
  name.setAttribute("aria-label", `Name of ${o.name}`);
  name.addEventListener("change", () => change("PATCH", `/objects/${o.id}`, { name: name.value }));
  name.addEventListener("keydown", (event) => { if (event.key === "Enter") name.blur(); });
  const swatch = element("span", { className: "swatch" });
  swatch.style.background = o.colour;
  const remove = element("button", { type: "button", className: "plain", textContent: "×", title: `Remove ${o.name}` });
  remove.setAttribute("aria-label", `Remove ${o.name}`);
  remove.addEventListener("click", (event) => { event.stopPropagation(); change("DELETE", `/objects/${o.id}`); });
  const row = element("li", { className: o.id === ui.active ? "active" : "", dataset: { object: o.id } }, swatch, name, frontButton(o),
    element("span", { className: "count", textContent: o.clicks.length ? plural(o.clicks.length, "click") : "not clicked" }), remove);
  row.addEventListener("click", () => { ui.active = o.id; refresh(); });
  name.addEventListener("focus", () => { if (ui.active !== o.id) { ui.active = o.id; refresh(); } });
  return row;
}

// With two objects or more: whether one only hides the others.
function frontButton(o) {
  const front = element("button", { type: "button", className: "front", textContent: "in front", hidden: ui.clip.objects.length < 2 && !o.in_front,
    title: "It stands in front of the others: it hides them, and is not completed" });
  front.setAttribute("aria-label", `${o.name} stands in front`);
  front.setAttribute("aria-pressed", o.in_front);
  front.addEventListener("click", (event) => { event.stopPropagation(); change("PATCH", `/objects/${o.id}`, { in_front: !o.in_front }); });
  return front;
}

function paintObjects() {
  const { clip } = ui;
  const holder = $("objects");
  const key = JSON.stringify(clip.objects.map((o) => [o.id, o.name, o.clicks.length, o.in_front]));
  if (holder.dataset.key !== key && !holder.contains(document.activeElement?.closest?.("input"))) {
    holder.dataset.key = key;
    holder.replaceChildren(...clip.objects.map(objectRow));
  }
  for (const row of holder.children) row.classList.toggle("active", Number(row.dataset.object) === ui.active);
  $("objects-empty").hidden = clip.objects.length > 0;
  $("undo").disabled = !activeObject()?.clicks.length;
  $("mode-add").setAttribute("aria-pressed", !ui.take);
  $("mode-take").setAttribute("aria-pressed", ui.take);
  const job = openJob("track"), last = lastJob("track");
  const shown = clip.objects.filter((o) => o.clicks.length);
  let words = "";
  if (shown.length && clip.tracked === clip.version) words = `Tracked through ${plural(clip.frames, "frame")}. Scrub, and click again where it is wrong.`;
  const failed = !job && last?.state === "failed" && clip.tracked !== clip.version ? last : null;
  jobStatus($("track-status"), job || failed, words);
}

export async function addObject() {
  const before = new Set(ui.clip.objects.map((o) => o.id));
  const state = await change("POST", "/objects");
  const made = state?.objects.find((o) => !before.has(o.id));
  if (!made) return;
  ui.active = made.id;
  ui.take = false;
  if (ui.layout === "one" && !["input", "modal"].includes(ui.view)) ui.view = "modal";
  refresh();
}

// 2 completion --------------------------------------------------------------------------------------------------------

// Whether objects say what stands in front; depth is not asked for then.
const marked = () => ui.clip.objects.some((o) => o.in_front && o.clicks.length);
const whole = (id, fallback) => { const n = parseInt($(id).value, 10); return Number.isFinite(n) ? n : fallback; };

async function start() {
  const state = await change("POST", "/runs", {
    samples: whole("samples", 1), steps: whole("steps", null), seed: whole("seed", 0), depth: marked() ? "none" : $("depth").value, content: $("content").checked,
  });
  if (state) { ui.watched = state.run; refresh(); }
}

function paintComplete() {
  const { clip } = ui;
  const job = openJob("complete"), last = lastJob("complete");
  const tracked = clip.objects.some((o) => o.areas) && clip.tracked === clip.version;
  $("run").disabled = Boolean(job) || !tracked;
  $("run").textContent = clip.runs.some((r) => r.samples.length) && !job ? "Complete again" : "Complete";
  $("cancel").hidden = !job;
  $("cancel").disabled = job?.state === "stopping";
  let words = "";
  if (!job && !clip.objects.some((o) => o.clicks.length)) words = "Click an object first.";
  else if (!job && !tracked) words = openJob("track") ? "Ready when tracking is." : "";
  else if (!job && last?.state === "cancelled") {
    const run = clip.runs.find((r) => r.id === last.subject), n = run?.samples.filter((s) => s.key !== "mean").length || 0;
    words = n ? `Cancelled; ${plural(n, "sample")} kept.` : "Cancelled.";
  } else if (!job && last?.state === "done") {
    const run = clip.runs.find((r) => r.id === last.subject);
    words = run ? `Done in ${run.seconds < 90 ? `${run.seconds.toFixed(0)} s` : `${Math.round(run.seconds / 60)} min`}.` : "";
  }
  jobStatus($("run-status"), job || (last?.state === "failed" ? last : null), words);
  if ($("depth").dataset.clip !== clip.id || $("depth").disabled !== marked()) fillForm();
}

const FIELDS = ["samples", "steps", "seed", "depth", "content"];

function fillForm() {
  const { clip, form } = ui, exact = $("depth").querySelector("[value=exact]");
  $("depth").dataset.clip = clip.id;
  exact.hidden = exact.disabled = !clip.exact_depth;
  $("depth").disabled = marked();
  $("depth").querySelector("[value=marked]").hidden = !marked();
  const values = { samples: 1, steps: "", seed: 0, depth: clip.exact_depth ? "exact" : "auto", content: true, ...form };
  for (const key of FIELDS) $(key)[key === "content" ? "checked" : "value"] = values[key];
  if (marked()) $("depth").value = "marked";
}

function readForm() {
  // a depth that was chosen before counts again when nothing is marked any more
  const fields = marked() ? FIELDS.filter((key) => key !== "depth") : FIELDS;
  ui.form = { ...ui.form, ...Object.fromEntries(fields.map((key) => [key, $(key)[key === "content" ? "checked" : "value"]])) };
  refresh();
}

// 3 results -----------------------------------------------------------------------------------------------------------

export function stepSample(by) {
  const keys = currentRun()?.samples.map((s) => s.key) || [];
  if (!keys.length) return;
  ui.sample = keys[(keys.indexOf(ui.sample) + by + keys.length) % keys.length];
  refresh();
}

function runWords(run) {
  const drawn = run.samples.filter((s) => s.key !== "mean").length;
  const depth = run.in_front.length ? "order as marked" : run.note.startsWith("depth: none") ? "no depth" : { exact: "exact depth", auto: "estimated depth", none: "no depth" }[run.asked.depth];
  return `${run.number}: ${plural(drawn, "sample")}, ${depth}`;
}

function paintResults() {
  const { clip } = ui, run = currentRun();
  const some = clip.runs.some((r) => r.samples.length);
  $("results-empty").hidden = some;
  $("results").hidden = !some;
  if (!run) return;
  rebuilt($("run-select"), clip.runs.map((r) => [r.id, runWords(r)]), () => clip.runs.map((r) => element("option", { value: r.id, textContent: runWords(r) })));
  $("run-select").value = run.id;
  $("run-remove").disabled = openJob("complete")?.subject === run.id;
  rebuilt($("samples-row"), [run.id, run.samples.map((s) => s.key), ui.sample], () => run.samples.map((s) => {
    const made = element("button", { type: "button", textContent: sampleName(s.key), title: s.key === "mean" ? "Where at least half of the samples agree ([ and ])" : `Seed ${run.asked.seed + Number(s.key) - 1} ([ and ])` });
    made.setAttribute("aria-pressed", s.key === ui.sample);
    made.addEventListener("click", () => { ui.sample = s.key; refresh(); });
    return made;
  }));
  const notes = [];
  if (run.track_version !== clip.version) notes.push("Masks were changed after this run.");
  if (run.note && (run.in_front.length || run.asked.depth === "auto")) notes.push(`${run.note[0].toUpperCase()}${run.note.slice(1)}.`);
  if ($("run-note").textContent !== notes.join(" ")) $("run-note").textContent = notes.join(" ");
  paintLow();
}

function paintLow() {
  const low = lowFrames();
  const confidence = currentRun()?.confidence[ui.active] || [];
  const worst = [...low].sort((a, b) => confidence[a] - confidence[b]).slice(0, 5).sort((a, b) => a - b);
  rebuilt($("check-frames"), [worst, low.length, ui.run], () => {
    if (!worst.length) return [];
    const buttons = worst.map((t) => {
      const made = element("button", { type: "button", textContent: t, title: `Confidence ${Math.round(100 * confidence[t])} %: the mean IoU with the samples` });
      made.addEventListener("click", () => go(t));
      return made;
    });
    return [element("span", { textContent: low.length > worst.length ? "Check frames, most of all:" : "Check frames:" }), ...buttons];
  });
}

// 4 export ------------------------------------------------------------------------------------------------------------

async function startExport() {
  const formats = [...$("formats").querySelectorAll("input:checked")].map((box) => box.value);
  await change("POST", "/exports", { run: ui.run, sample: ui.sample, formats, alpha: $("alpha").value, category: $("category").value });
}

function paintExport() {
  const { clip, session } = ui, run = currentRun();
  $("export-empty").hidden = Boolean(run?.samples.length);
  $("export").hidden = !run?.samples.length;
  rebuilt($("formats"), session.formats, () => session.formats.map((f) => element("label", { title: f.words },
    element("input", { type: "checkbox", value: f.name, checked: f.name === "result" }), f.name)));
  const job = openJob("export"), last = lastJob("export");
  const any = Boolean($("formats").querySelector("input:checked"));
  $("export-button").hidden = !run?.samples.length;
  $("export-masks").disabled = Boolean(job) || clip.tracked !== clip.version || !clip.objects.some((o) => o.areas);
  $("export-button").disabled = Boolean(job) || !any;
  $("export-button").textContent = ui.sample ? `Export ${sampleName(ui.sample).toLowerCase()}` : "Export";
  $("export-cancel").hidden = !job;
  const words = clip.exports.length ? "Ready to download:" : run?.samples.length ? (any ? "One zip with a folder per format." : "Choose a format.") : "";
  jobStatus($("export-status"), job || (last?.state === "failed" ? last : null), words);
  rebuilt($("downloads"), clip.exports, () => clip.exports.slice().reverse().map((e) => element("li", {},
    element("a", { href: `/api/clips/${clip.id}/exports/${e.id}`, textContent: e.name, title: e.words, download: e.name }),
    element("span", { className: "quiet", textContent: ` ${(e.bytes / 2 ** 20).toFixed(1)} MB` }))));
}

export function setUpPanel() {
  $("add-object").addEventListener("click", addObject);
  $("mode-add").addEventListener("click", () => { ui.take = false; refresh(); });
  $("mode-take").addEventListener("click", () => { ui.take = true; refresh(); });
  for (const key of FIELDS) $(key).addEventListener("change", readForm);
  $("run").addEventListener("click", start);
  $("cancel").addEventListener("click", () => cancel("complete"));
  $("export-cancel").addEventListener("click", () => cancel("export"));
  $("run-select").addEventListener("change", (event) => { ui.run = event.target.value; ui.sample = currentRun()?.samples[0]?.key ?? null; refresh(); });
  $("run-remove").addEventListener("click", () => change("DELETE", `/runs/${ui.run}`));
  $("export-button").addEventListener("click", startExport);
  $("export-masks").addEventListener("click", () => change("POST", "/mask-exports"));
  $("formats").addEventListener("change", refresh);
  onRefresh(() => {
    if (!ui.clip) return;
    paintObjects();
    paintComplete();
    paintResults();
    paintExport();
  });
}

async function cancel(kind) {
  const job = openJob(kind);
  if (job) await attempt(() => call("POST", `/api/jobs/${job.id}/cancel`));
}
