// The page as a whole: start page, opening clips, keys.

import { call, upload } from "./api.js";
import { VIEWS } from "./draw.js";
import { addObject, setUpPanel, stepSample } from "./panel.js";
import { $, attempt, complain, enter, leave, onRefresh, refresh, ui } from "./state.js";
import { go, nextLayout, pickView, play, setUpViewer, undo } from "./viewer.js";

let opening = false;

async function readSession() {
  const session = await attempt(() => call("GET", "/api/session"));
  if (session) ui.session = session;
  return session;
}

async function open(work) {
  if (opening) return;
  opening = true;
  refresh();
  const clip = await attempt(work);
  opening = false;
  $("upload-bar").hidden = true;
  $("upload-words").textContent = "";
  if (clip) {
    await readSession();
    enter(clip);
  }
  refresh();
}

async function openFile(file) {
  if (!file) return;
  const session = ui.session || (await readSession()); // a file may be dropped before the first answer is there
  if (!session) return;
  if (file.size > session.limits.upload) {
    complain(`Expected a video ${session.limits.words}; this file is larger.`);
    return;
  }
  open(() => {
    $("upload-bar").hidden = false;
    return upload(file, (share) => {
      $("upload-fill").style.width = `${Math.round(100 * share)}%`;
      $("upload-words").textContent = share < 1 ? `Uploading ${file.name}…` : `Reading ${file.name}…`;
    });
  });
}

const reopen = (id) => open(() => call("GET", `/api/clips/${id}`));

async function goToStart() {
  play(false);
  leave();
  await readSession();
  refresh();
}

async function closeClip() {
  const clip = ui.clip;
  if ((clip.runs.length || clip.objects.length) && !window.confirm(`Close “${clip.name}” and forget its masks and results?`)) return;
  await attempt(() => call("DELETE", `/api/clips/${clip.id}`));
  goToStart();
}

// the start page ------------------------------------------------------------------------------------------------------

function listButtons(holder, items) {
  holder.replaceChildren(...items.map(([text, action]) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.disabled = opening;
    button.addEventListener("click", action);
    item.append(button);
    return item;
  }));
}

function paintStart() {
  const { session, clip } = ui;
  $("start").hidden = Boolean(clip) || !session;
  $("work").hidden = !clip;
  for (const id of ["open-more", "close-clip", "clip-select"]) $(id).hidden = !clip;
  $("clip-select").hidden = !clip || session.clips.length < 2;
  $("clip-title").replaceChildren();
  if (clip) {
    const name = document.createElement("b");
    name.textContent = clip.name;
    $("clip-title").append(name, ` · ${clip.width} × ${clip.height} · ${clip.frames} frames · ${+clip.fps.toFixed(2)} fps`);
    document.title = `${clip.name} · diffvas studio`;
  } else document.title = "diffvas studio";
  if (!session) return;
  const options = session.clips.map((c) => { const o = document.createElement("option"); o.value = c.id; o.textContent = c.name; return o; });
  if ($("clip-select").dataset.key !== JSON.stringify(session.clips)) {
    $("clip-select").dataset.key = JSON.stringify(session.clips);
    $("clip-select").replaceChildren(...options);
  }
  if (clip) $("clip-select").value = clip.id;
  $("limits-words").textContent = `MP4, MOV, MKV, WebM, AVI, … ${session.limits.words}. Nothing leaves this machine's studio.`;
  $("open-demo").disabled = opening;
  $("offered-card").hidden = !session.offered.length;
  $("opened-card").hidden = !session.clips.length;
  if (!clip) {
    listButtons($("offered"), session.offered.map((name, k) => [name, () => open(() => call("POST", `/api/clips/offered/${k}`))]));
    listButtons($("opened"), session.clips.map((c) => [`${c.name} (${c.frames} frames)`, () => reopen(c.id)]));
  }
  $("about").textContent = [`diffvas ${session.version}`, `model ${session.model.name}`, session.tracker].filter(Boolean).join(" · ");
}

// keys ----------------------------------------------------------------------------------------------------------------

const typing = (target) => target.matches?.("input:not([type=checkbox]), select, textarea");

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || !ui.clip || typing(event.target)) return;
  const wide = event.shiftKey ? 10 : 1;
  const actions = {
    ArrowLeft: () => { play(false); go(ui.t - wide); },
    ArrowRight: () => { play(false); go(ui.t + wide); },
    Home: () => go(0),
    End: () => go(ui.clip.frames - 1),
    " ": () => play(),
    s: nextLayout,
    n: addObject,
    x: () => { ui.take = !ui.take; refresh(); },
    z: undo,
    h: () => { ui.bare = true; refresh(); },
    "[": () => stepSample(-1),
    "]": () => stepSample(1),
    "?": () => $("help").showModal(),
  };
  VIEWS.forEach((v, k) => (actions[k + 1] = () => pickView(v.key)));
  const action = actions[event.key] || actions[event.key.toLowerCase()];
  if (!action || (event.key === " " && event.target.matches("button, a, input"))) return;
  event.preventDefault();
  action();
}

// -----------------------------------------------------------------------------------------------------------------------

async function begin() {
  setUpViewer();
  setUpPanel();
  onRefresh(paintStart);
  $("alert-close").addEventListener("click", () => ($("alert").hidden = true));
  $("help-button").addEventListener("click", () => $("help").showModal());
  $("open-more").addEventListener("click", goToStart);
  $("close-clip").addEventListener("click", closeClip);
  $("clip-select").addEventListener("change", (event) => reopen(event.target.value));
  $("open-demo").addEventListener("click", () => open(() => call("POST", "/api/clips/demo")));
  $("file").addEventListener("change", (event) => { openFile(event.target.files[0]); event.target.value = ""; });
  const drop = $("drop");
  for (const name of ["dragover", "dragenter"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => openFile(event.dataTransfer?.files[0]));
  document.addEventListener("keydown", onKey);
  document.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "h" && ui.bare) { ui.bare = false; refresh(); } });
  setInterval(() => { if (!document.hidden) call("GET", "/api/session").catch(() => null); }, 120000); // the session stays alive while its page is open

  const session = await readSession();
  const id = location.hash.slice(1);
  if (session?.clips.some((c) => c.id === id)) await reopen(id);
  refresh();
}

begin();
