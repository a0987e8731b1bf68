// What the page knows and what it shows. Everything that changes it ends in `refresh()`.

import { call, StudioError } from "./api.js";

export const $ = (id) => document.getElementById(id);

export const ui = {
  session: null, clip: null,
  t: 0, view: "modal", several: ["modal", "amodal", "content"], layout: "one",
  active: null, run: null, sample: null,
  take: false, bare: false, playing: false, background: "checker", moves: {},
  form: {}, // what stands in the fields of completion
  pending: [], // clicks that the studio has not answered yet
};

const KEPT = ["form", "t", "view", "several", "layout", "active", "run", "sample", "background"];
const painters = [];
let asked = false;

export function onRefresh(painter) { painters.push(painter); }

export function refresh() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    for (const painter of painters) painter();
    if (ui.clip) sessionStorage.setItem(`clip-${ui.clip.id}`, JSON.stringify(Object.fromEntries(KEPT.map((k) => [k, ui[k]]))));
  });
}

// The current things, or undefined.
export const activeObject = () => ui.clip?.objects.find((o) => o.id === ui.active);
export const currentRun = () => ui.clip?.runs.find((r) => r.id === ui.run);
export const openJob = (kind) => ui.clip?.jobs.filter((j) => j.kind === kind && ["waiting", "running", "stopping"].includes(j.state)).at(-1);
export const lastJob = (kind) => ui.clip?.jobs.filter((j) => j.kind === kind).at(-1);

// errors ----------------------------------------------------------------------------------------------------------------

let alertTimer = 0;
export function complain(text) {
  $("alert-text").textContent = text;
  $("alert").hidden = false;
  clearTimeout(alertTimer);
  alertTimer = setTimeout(() => ($("alert").hidden = true), 9000);
}

// Do something with the studio; what goes wrong is shown. Returns undefined then.
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof StudioError)) throw error;
    complain(error.message);
    if (error.status === 401) $("alert").hidden = false;
    return undefined;
  }
}

// the clip's state ------------------------------------------------------------------------------------------------------

export function take(clip) {
  if (!clip || (ui.clip && clip.id === ui.clip.id && clip.tick <= ui.clip.tick)) return; // an older answer came later
  if (ui.clip && clip.id !== ui.clip.id) return;
  follow(ui.clip, clip);
  ui.clip = clip;
  if (!clip.objects.some((o) => o.id === ui.active)) ui.active = clip.objects.at(-1)?.id ?? null;
  const run = currentRun() || clip.runs.at(-1);
  ui.run = run?.id ?? null;
  const keys = run?.samples.map((s) => s.key) || [];
  if (!keys.includes(ui.sample)) ui.sample = keys[0] ?? null;
  refresh();
  watch();
}

// A result that has just come is shown; a mean that follows it too, if nobody has looked at something else since.
function follow(before, now) {
  const job = now.jobs.find((j) => j.kind === "complete" && ["running", "stopping", "done"].includes(j.state));
  const old = before?.runs.find((r) => r.id === ui.watched), run = now.runs.find((r) => r.id === ui.watched);
  if (!job || !run) return;
  if (run.samples.length && !old?.samples.length) {
    ui.run = run.id;
    ui.sample = run.samples[0].key;
    if (ui.layout === "one" && ["input", "modal"].includes(ui.view)) ui.view = "amodal";
  }
  const mean = (r) => r?.samples.some((s) => s.key === "mean");
  if (mean(run) && !mean(old) && ui.run === run.id && ui.sample === "1") ui.sample = "mean";
}

let timer = 0;
function watch() {
  clearTimeout(timer);
  const busy = ui.clip?.jobs.some((j) => ["waiting", "running", "stopping"].includes(j.state));
  if (busy) timer = setTimeout(poll, 350);
}

async function poll() {
  const clip = ui.clip;
  if (!clip) return;
  try {
    take(await call("GET", `/api/clips/${clip.id}`));
  } catch (error) {
    complain(error.message);
    if (error.status === 0) timer = setTimeout(poll, 3000);
  }
  if (ui.clip?.id === clip.id) watch();
}

// Change something on the studio and take the state that comes back.
export async function change(method, path, body) {
  const clip = ui.clip;
  return attempt(async () => {
    try {
      const state = await call(method, `/api/clips/${clip.id}${path}`, body);
      take(state);
      return state;
    } catch (error) {
      if (error.status && error.status !== 401) take(await call("GET", `/api/clips/${clip.id}`));
      throw error;
    }
  });
}

export function enter(clip) {
  Object.assign(ui, { clip: null, t: 0, view: "modal", layout: "one", active: null, run: null, sample: null, take: false, playing: false, moves: {}, pending: [], watched: null, form: {} });
  try {
    const kept = JSON.parse(sessionStorage.getItem(`clip-${clip.id}`) || "{}");
    for (const key of KEPT) if (kept[key] !== undefined && kept[key] !== null) ui[key] = kept[key];
  } catch { /* nothing kept */ }
  ui.t = Math.min(ui.t, clip.frames - 1);
  ui.watched = clip.jobs.find((j) => j.kind === "complete" && ["waiting", "running"].includes(j.state))?.subject ?? null;
  if (location.hash !== `#${clip.id}`) history.replaceState(null, "", `#${clip.id}`);
  take(clip);
}

export function leave() {
  clearTimeout(timer);
  ui.clip = null;
  history.replaceState(null, "", location.pathname);
  refresh();
}
