"use strict";
// One image at a time. The server keeps it encoded and gives outlines; objects live here, and
// drawing.js shows them.

const RESTING_MS = 150; // on a slice, before it is encoded ahead of its first box
const AHEAD_MS = 100; // at most, of the preview before the refined outlines are asked for
const SHORTEST_BOX = 2; // from its first to its last pixel: less is a click

const byId = (id) => document.getElementById(id);
const view = byId("view");
const pen = view.getContext("2d");
// z is the slice that was asked for last, shown that of the picture, to which boxes go.
const state = { scan: null, z: 0, shown: 0, picture: null, scale: 1, drag: null, objects: [], past: [],
  next: 1, ahead: 0, isEncoded: false, previews: [], files: [], chosen: {},
  source: null, windowText: "", turn: Promise.resolve() };

function say(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

async function ask(path, options = {}) {
  const response = await fetch(path, options).catch(() => { throw new Error("The server does not answer."); });
  if (response.ok) return response;
  const refusal = await response.json().catch(() => ({})); // no sentence came with it
  const error = new Error(refusal.detail ?? `The server answered ${response.status}.`);
  throw Object.assign(error, { series: refusal.series ?? [], volumes: refusal.volumes ?? [] });
}

const sendJson = (path, body, method = "POST") =>
  ask(path, { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

function attempt(action) {
  return async (...given) => {
    try { await action(...given); } catch (error) { say(error.message, true); }
  };
}

async function openFiles(files, chosen = {}) { // a series, a volume in it, a plane
  if (!files.length) return;
  say(`Opening ${files[0].name} …`);
  const headers = {};
  if (files.length > 1) headers["X-File-Sizes"] = files.map((file) => file.size).join(",");
  const query = new URLSearchParams({ name: files[0].name, ...chosen });
  const response = await ask(`/api/scans?${query}`, { method: "POST", body: new Blob(files), headers })
    .catch((error) => {
      const { series = [], volumes = [] } = error;
      if (!series.length && !volumes.length) throw error;
      Object.assign(state, { files, chosen });
      if (series.length) offer("series", series.map(({ uid, text }) => new Option(text, uid)));
      if (volumes.length) offer("volume", volumes.map(({ number, text }) => new Option(text, number)));
      throw new Error(`Choose one of ${series.length ? `${series.length} series` : `${volumes.length} volumes`}.`);
    });
  if (state.scan) ask(`/api/scans/${state.scan.id}`, { method: "DELETE" }).catch(() => {});
  Object.assign(state, { objects: [], previews: [], past: [], next: 1, picture: null, drag: null,
    source: { files, chosen }, windowText: "" });
  adopt(await response.json());
  await show(Math.floor(state.scan.depth / 2));
  say([...state.scan.remarks, "Draw a box round a structure."].join(" "));
}

async function openInPlane(plane) { // what is open, from the files that it came from
  const { source: { files, chosen }, objects, windowText } = state;
  const question = "What was found goes when the volume is opened in another plane. Open it?";
  try {
    if (objects.length && !confirm(question)) return;
    await openFiles(files, { ...chosen, plane });
    if (windowText && state.source.files === files) await setWindow(windowText);
  } finally {
    byId("plane").value = state.scan.plane;
  }
}

function offer(what, options) {
  byId(`${what}-choice`).hidden = !options.length;
  byId(what).replaceChildren(...options);
  byId(what).focus();
}

function adopt(scan) {
  state.scan = scan;
  byId("name").textContent = `${scan.name}, ${scan.width} x ${scan.height}` +
    (scan.is_volume ? ` x ${scan.depth}` : "") + `, ${scan.window}`;
  for (const id of ["window", "box", "object", "download"]) byId(`${id}-fields`).disabled = false;
  byId("slices").hidden = byId("range").hidden = !scan.is_volume;
  byId("slice").max = scan.depth - 1;
  const windows = scan.windows.map((name) => new Option(name, name));
  if (!scan.window_name) windows.unshift(new Option(scan.window.replace("window ", ""), ""));
  byId("window").replaceChildren(...windows);
  byId("window").value = scan.window_name;
  byId("plane-choice").hidden = !scan.planes.length;
  byId("plane").replaceChildren(...scan.planes.map((name) => new Option(name, name)));
  byId("plane").value = scan.plane;
  const suffix = byId("suffix").value;
  byId("suffix").replaceChildren(...scan.label_suffixes.map((value) => new Option(value, value)));
  if (scan.label_suffixes.includes(suffix)) byId("suffix").value = suffix;
  list();
}

async function show(z) {
  const scan = state.scan;
  z = Math.max(0, Math.min(scan.depth - 1, z));
  state.z = z; // at once, so that quick keys add up
  const blob = await (await ask(`/api/scans/${scan.id}/slices/${z}`)).blob();
  const picture = await createImageBitmap(blob);
  if (scan !== state.scan || z !== state.z) return; // scrolled on meanwhile
  Object.assign(state, { picture, shown: z, drag: null, isEncoded: false }); // a box belongs to one slice
  state.scale = Math.max(1, Math.round(640 / Math.max(scan.width, scan.height)));
  view.width = scan.width * state.scale;
  view.height = scan.height * state.scale;
  byId("slice").value = z;
  byId("slice-number").textContent = `${z + 1} of ${scan.depth}`;
  draw();
  clearTimeout(state.ahead); // the first box on a slice would wait for the encoder
  state.ahead = setTimeout(() => ask(`/api/scans/${scan.id}/slices/${z}/encoding`, { method: "POST" })
    .then(() => { if (picture === state.picture) state.isEncoded = true; }).catch(() => {}), RESTING_MS);
}

async function segment(box) {
  const { scan, shown: z } = state;
  if (!state.picture) throw new Error("Wait until the image is seen.");
  const reach = Math.max(0, Math.round(byId("reach").valueAsNumber) || 0);
  const slices = [Math.max(0, z - reach), Math.min(scan.depth - 1, z + reach)];
  const asked = { box, slice: z, slices: scan.is_volume ? slices : null };
  const begin = performance.now();
  const preview = { contours: {} };
  if (scan.has_preview && state.isEncoded) { // else it would only hold the other answer up
    const pause = new Promise((done) => setTimeout(done, AHEAD_MS));
    await Promise.race([previewBox(scan, asked, preview), pause]);
    if (scan.id !== state.scan.id) return; // another one has been opened meanwhile
  }
  const found = await sendJson(`/api/scans/${scan.id}/contours`, asked)
    .then((response) => response.json()).finally(() => drop(preview));
  if (scan.id !== state.scan.id) return;
  remember();
  const number = state.next++;
  const colour = colourOf(number);
  const { id, contours, quality, is_poor: isPoor } = found;
  state.objects.push({ ...asked, id, contours, quality, isPoor, name: `Object ${number}`, colour, isHidden: false });
  list();
  draw();
  const count = Object.keys(found.contours).length;
  say(count ? `${state.objects.at(-1).name} on ${count} slice${count > 1 ? "s" : ""}, ` +
    `${Math.round(performance.now() - begin)} ms.` + (isPoor ? " Its outline may be poor: look at it." : "")
    : "Nothing was found in that box.");
}

async function previewBox(scan, asked, preview) { // by the whole slice, until the refined outlines come
  state.previews.push(preview);
  try {
    preview.contours = (await (await sendJson(`/api/scans/${scan.id}/preview`, asked)).json()).contours;
    if (state.previews.includes(preview)) draw();
  } catch { /* the refined answer will say what is wrong */ }
}

function drop(preview) {
  state.previews = state.previews.filter((each) => each !== preview);
  draw();
}

function remember() {
  state.past.push(state.objects.map((object) => ({ ...object })));
}

function undo() {
  if (!state.past.length) { say("There is nothing to undo."); return; }
  state.objects = state.past.pop();
  list();
  draw();
  say("Undone.");
}

function list() {
  byId("objects").replaceChildren(...state.objects.map((object, place) => {
    const item = document.createElement("li");
    const colour = document.createElement("span");
    colour.className = "colour";
    colour.style.background = object.colour;
    const name = document.createElement("input");
    name.type = "text";
    name.value = object.name;
    name.setAttribute("aria-label", `Name of object ${place + 1}`);
    name.onchange = () => { remember(); object.name = name.value; list(); };
    const hide = button(object.isHidden ? "Show" : "Hide", object, () => {
      remember();
      object.isHidden = !object.isHidden;
    });
    const remove = button("Delete", object, () => { remember(); state.objects.splice(place, 1); });
    item.append(colour, name, ...quality(object), hide, remove);
    return item;
  }));
}

function quality(object) { // as the model predicts it; nothing of a model that does not
  if (object.quality === null) return [];
  const said = document.createElement("span");
  said.className = object.isPoor ? "quality poor" : "quality";
  said.textContent = object.quality.toFixed(2);
  said.title = `Predicted DSC${object.isPoor ? ": look at this outline" : ""}`;
  said.setAttribute("aria-label", `${object.name}, predicted DSC ${said.textContent}${object.isPoor ? ", low" : ""}`);
  return [said];
}

function button(text, object, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.setAttribute("aria-label", `${text} ${object.name}`);
  made.onclick = () => { action(); list(); draw(); };
  return made;
}

async function download() {
  const { scan, objects } = state;
  const suffix = byId("suffix").value;
  const name = scan.name.replace(/(\.nii)?\.[^.]+$/, "") + "_labels" + suffix;
  const wanted = objects.map((object) => ({ id: object.id, name: object.name }));
  say("Writing the label map …");
  const response = await sendJson(`/api/scans/${scan.id}/labels`, { objects: wanted, name });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
  say(`${name}: ${objects.map((object, i) => `${i + 1} is ${object.name}`).join(", ") || "no objects"}.`);
}

function setWindow(text) {
  const { scan } = state;
  const change = async () => {
    const answer = await sendJson(`/api/scans/${scan.id}/window`, { window: text }, "PUT").catch((error) => error);
    if (scan.id !== state.scan.id) return;
    adopt(answer instanceof Error ? state.scan : await answer.json());
    if (answer instanceof Error) throw answer;
    state.windowText = text;
    await show(state.z);
    say("Further boxes are segmented in this window.");
  };
  const turn = state.turn.then(change); // one after another, so that the last one stays
  state.turn = turn.catch(() => {});
  return turn;
}

view.addEventListener("pointerdown", (event) => {
  if (!state.scan || !state.picture || event.button) return;
  view.setPointerCapture(event.pointerId);
  state.drag = [...place(event), ...place(event)];
});
view.addEventListener("pointermove", (event) => {
  if (!state.drag) return;
  state.drag.splice(2, 2, ...place(event));
  draw();
});
view.addEventListener("pointerup", attempt(async () => {
  if (!state.drag) return;
  const [x0, y0, x1, y1] = state.drag;
  state.drag = null;
  draw();
  const isBox = Math.abs(x1 - x0) >= SHORTEST_BOX && Math.abs(y1 - y0) >= SHORTEST_BOX;
  if (isBox) await segment([Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)]);
}));
view.addEventListener("pointercancel", () => { state.drag = null; draw(); });
view.addEventListener("wheel", attempt(async (event) => {
  if (!state.scan?.is_volume) return;
  event.preventDefault();
  await show(state.z + Math.sign(event.deltaY));
}), { passive: false });
view.addEventListener("keydown", attempt(async (event) => {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
  if (!step || !state.scan?.is_volume) return;
  event.preventDefault();
  await show(state.z + step);
}));
document.addEventListener("keydown", (event) => {
  const isText = event.target.matches("input[type=text], input[type=number]");
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && !isText) undo();
});
byId("file").onchange = attempt(async (event) => {
  const files = [...event.target.files].sort((a, b) => a.name.localeCompare(b.name));
  event.target.value = ""; // so that the same one may be opened again
  for (const what of ["series", "volume"]) offer(what, []);
  await openFiles(files);
});
byId("open-series").onclick = attempt(async () => {
  offer("volume", []);
  await openFiles(state.files, { series: byId("series").value });
});
byId("open-volume").onclick = attempt(async () =>
  openFiles(state.files, { ...state.chosen, volume: byId("volume").value }));
byId("slice").oninput = attempt(async (event) => show(Number(event.target.value)));
byId("plane").onchange = attempt(async (event) => openInPlane(event.target.value));
byId("window").onchange = attempt(async (event) => setWindow(event.target.value));
byId("set-window").onclick = attempt(async () => setWindow(`${byId("level").value},${byId("width").value}`));
byId("add-box").onclick = attempt(async () => {
  const box = ["x0", "y0", "x1", "y1"].map((id) => byId(id).valueAsNumber);
  if (box.some(Number.isNaN)) throw new Error("Give all four numbers of the box.");
  await segment(box);
});
byId("undo").onclick = undo;
byId("download").onclick = attempt(download);
