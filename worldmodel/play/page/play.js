// The page of a session: it draws what the server sends, and sends what is pressed. See docs/guides/play.md.

import { Actions, press } from "./actions.js";
import { drawCurve, drawTokens, paint, round } from "./draw.js";

const byId = (id) => document.getElementById(id);
const NEWEST = 600; // points of the curve
const NOTE_SECONDS = 6;
const RETRY = 1000; // milliseconds

let socket = null;
let world = null; // what the server says once, as `hello`
let actions = null;
let state = null; // the newest state
let fresh = true; // whether the next frame is no step of the frame before it
let curve = []; // surprise of the newest steps
let kept = []; // moments
let tokens = null; // of the newest latent, and of the one before it
let tokensBefore = null;
let asked = false; // whether a step was asked for, and no frame came since
let arrivals = []; // times of the newest steps

// ---- connection -------------------------------------------------------------------------------

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => (typeof event.data === "string" ? onText(JSON.parse(event.data)) : onFrame(event.data));
  socket.onclose = () => {
    setStatus("connection lost; trying again …", true);
    setTimeout(connect, RETRY);
  };
}

function send(command, values = {}) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ do: command, ...values }));
  asked = asked || command === "step";
}

function onText(message) {
  if (message.type === "hello") greet(message);
  if (message.type === "line") {
    curve = message.curve;
    kept = message.kept;
    fresh = true;
    drawMoments(message.parent);
  }
  if (message.type === "note") note(message.text, message.error);
  if (message.type === "saved") noteSaved(message);
}

function onFrame(data) {
  const length = new DataView(data).getUint32(0, true);
  const next = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const stepped = !fresh && next.steps !== state.steps;
  if (stepped && next.surprise !== null) curve = [...curve, next.surprise].slice(-NEWEST);
  if (fresh || stepped) [tokensBefore, tokens] = [fresh ? null : tokens, next.tokens];
  if (next.paused) arrivals = [];
  else if (stepped) arrivals = [...arrivals, performance.now()].slice(-30);
  let at = 4 + length;
  for (const [name, height, width] of next.pictures) {
    paint(byId(name), new Uint8Array(data, at, 3 * height * width), height, width);
    at += 3 * height * width;
  }
  [state, fresh, asked] = [next, false, false];
  drawState();
}

// ---- what is drawn ----------------------------------------------------------------------------

function greet(message) {
  world = message;
  byId("name").textContent = world.name;
  document.title = `${world.name} · worldmodel`;
  for (const button of document.querySelectorAll("#modes button")) {
    button.disabled = button.dataset.mode !== "dream" && !world.real;
    if (button.disabled) button.title = "The real environment of this world is not known here";
  }
  setStatus("");
  actions = new Actions(byId("actions"), world.controls, send, () => state && state.paused, () => !asked);
  byId("help").textContent = actions.help();
}

function drawState() {
  for (const name of ["dream", "real"]) {
    const side = state.sides[name];
    byId(name).hidden = !side;
    if (side) drawOutcome(byId(name).querySelector(".outcome"), side, name);
  }
  for (const button of document.querySelectorAll("#modes button")) press(button, button.dataset.mode === state.mode);
  byId("pause").textContent = state.paused ? "Play" : "Pause";
  byId("pause").disabled = byId("step").disabled = state.over;
  press(byId("record"), state.recording);
  byId("record").textContent = state.recording ? "Stop recording" : "Record";
  show("fps", state.fps, state.fps);
  const own = state.temperature === null;
  show("temperature", own ? world.own_temperature : state.temperature, own ? "own" : state.temperature.toFixed(2));
  if (document.activeElement !== byId("seed")) byId("seed").value = state.seed;
  byId("surprise").textContent = state.surprise === null ? "" : state.surprise.toFixed(1);
  setStatus(describe(), state.over);
  speak();
  actions.showPressed(state.paused ? null : state.pressed);
  drawPlots();
}

function drawPlots() {
  drawCurve(byId("curve"), curve, state.steps, world.trust === null ? null : world.trust / world.stride);
  const overlay = document.querySelector("#dream .tokens");
  overlay.hidden = !byId("tokens").checked || !tokens;
  if (!overlay.hidden) drawTokens(overlay, tokens, tokensBefore);
}

function describe() {
  const parts = [`step ${state.steps}`];
  if (state.sides.dream && world.trust !== null) {
    parts.push(state.steps * world.stride > world.trust ? `past the trust horizon of ${world.trust}` : `trusted until ${world.trust}`);
  }
  if (state.over) parts.push("over: restart, or go back to a kept moment");
  else if (state.paused) parts.push("paused");
  else if (state.pressed === null) parts.push("waiting for an action");
  else if (arrivals.length > 5) {
    parts.push(`${((arrivals.length - 1) * world.stride / (arrivals.at(-1) - arrivals[0]) * 1000).toFixed(1)} frames/s`);
  }
  return parts.join(" · ");
}

function drawOutcome(element, side, name) {
  const known = name === "real" || world.rewards;
  const reward = known ? `reward ${round(side.reward)} · sum ${round(side.total)}` : "no rewards";
  element.textContent = side.end ? `${reward} · ${side.end}` : reward;
  element.classList.toggle("end", side.end !== "");
}

function show(id, value, text) {
  if (document.activeElement !== byId(id)) byId(id).value = value;
  byId(`${id}-value`).textContent = text;
}

function setStatus(text, warn = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("warn", warn);
}

// Steps change too often to be read aloud; this changes seldom.
function speak() {
  const text = state.over ? "play is over" : state.paused ? "paused" : "playing";
  if (byId("spoken").textContent !== text) byId("spoken").textContent = text;
}

function drawMoments(parent) {
  byId("no-moments").hidden = kept.length > 0;
  byId("moments").replaceChildren(...kept.map((moment) => {
    const item = document.createElement("li");
    item.classList.toggle("here", moment.number === parent);
    const image = document.createElement("img");
    [image.src, image.alt] = [moment.picture, `The picture of moment ${moment.number}`];
    const text = document.createElement("span");
    const from = moment.parent === null ? "" : `, after ${moment.parent}`;
    text.textContent = `${moment.number}: step ${moment.steps}${from}, ${moment.mode}`;
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.append(momentButton("Back", "back", moment), momentButton("Branch", "branch", moment), momentButton("Forget", "forget", moment));
    item.append(image, text, bar);
    return item;
  }));
}

function momentButton(text, command, moment) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.dataset.command = command;
  button.setAttribute("aria-label", `${text}: moment ${moment.number}`);
  button.disabled = command === "branch" && !moment.dream;
  button.onclick = () => send(command, { moment: moment.number });
  return button;
}

function note(text, error = false, link = null) {
  const line = document.createElement("p");
  line.textContent = text;
  line.classList.toggle("error", error);
  if (link) {
    const anchor = document.createElement("a");
    [anchor.href, anchor.textContent, anchor.download] = [link, " download the video", ""];
    line.append(anchor);
  }
  byId("notes").append(line);
  while (byId("notes").children.length > 3) byId("notes").firstChild.remove();
  setTimeout(() => line.remove(), NOTE_SECONDS * 1000 * (link ? 3 : 1));
}

function noteSaved(message) {
  const [video, ...episodes] = message.paths;
  note(`saved ${video} and an episode in ${episodes.join(" and ")};`, false, message.videos[0]);
}

// ---- keys, clicks and gamepads ----------------------------------------------------------------

const COMMANDS = {
  " ": () => send("pause", { on: !state.paused }),
  ".": () => send("step"),
  r: () => send("reset"),
  k: () => send("keep"),
  b: () => kept.length && send("back", { moment: kept.at(-1).number }),
  n: () => kept.length && send("branch", { moment: kept.at(-1).number }),
  t: () => byId("tokens").click(),
  m: () => world.real && send("switch", { mode: { dream: "both", both: "real", real: "dream" }[state.mode] }),
  v: () => send("record", { on: !state.recording }),
};

const keyOf = (event) => (event.key.length === 1 ? event.key.toLowerCase() : event.key);

function onKeyDown(event) {
  if (!state || event.ctrlKey || event.altKey || event.metaKey) return;
  const [target, key] = [event.target, keyOf(event)];
  const isNative = target.matches("button, summary, input, a") && (key === " " || key === "Enter");
  if (isNative || target.matches("input:not([type=checkbox])")) return;
  if (actions.keyDown(key, event.repeat)) return event.preventDefault();
  if (COMMANDS[key] && !event.repeat) {
    COMMANDS[key]();
    event.preventDefault();
  }
}

function onKeyUp(event) {
  if (actions && !event.target.matches("input:not([type=checkbox])")) actions.keyUp(keyOf(event));
}

function readGamepad() {
  requestAnimationFrame(readGamepad);
  const pad = navigator.getGamepads().find((each) => each);
  if (pad && state) actions.readPad(pad, COMMANDS[" "], COMMANDS.r);
}

const onClick = (id, work) => byId(id).addEventListener("click", work);

onClick("pause", () => state && COMMANDS[" "]());
onClick("step", () => send("step"));
onClick("restart", () => send("reset"));
onClick("keep", () => send("keep"));
onClick("record", () => state && COMMANDS.v());
onClick("next-seed", () => state && send("reset", { seed: (state.seed + 1) % 2 ** 31 }));
onClick("own-temperature", () => send("temperature", { temperature: null }));
byId("fps").oninput = () => send("fps", { fps: Number(byId("fps").value) });
byId("temperature").oninput = () => send("temperature", { temperature: Number(byId("temperature").value) });
byId("seed").onchange = () => byId("seed").value && send("reset", { seed: Math.trunc(Number(byId("seed").value)) });
byId("tokens").onchange = () => state && drawPlots();
for (const button of document.querySelectorAll("#modes button")) button.onclick = () => send("switch", { mode: button.dataset.mode });

document.addEventListener("keydown", onKeyDown);
document.addEventListener("keyup", onKeyUp);
// After a click, keys belong to play again; a button that was reached by Tab keeps them.
document.addEventListener("click", (event) => event.detail > 0 && event.target.closest("button, input:not([type=number])")?.blur());
document.addEventListener("change", (event) => event.target.matches("input[type=range], input[type=number]") && event.target.blur());
window.addEventListener("blur", () => actions && actions.releaseAll());
window.addEventListener("resize", () => state && drawPlots());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state && drawPlots());
window.addEventListener("gamepadconnected", () => requestAnimationFrame(readGamepad), { once: true });
connect();
