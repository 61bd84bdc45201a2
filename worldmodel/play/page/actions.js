// The actions of a world on the page: buttons or sliders, and the keys, touches and sticks that press them.

import { round } from "./draw.js";

const TAP = 150; // milliseconds that an action is pressed by a click without a pointer
const TURNS = { ArrowLeft: [0, "low"], ArrowRight: [0, "high"], ArrowDown: [1, "low"], ArrowUp: [1, "high"] };
const ARROWS = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→" };

export const press = (button, on) => button.setAttribute("aria-pressed", String(on));
const isDigit = (key) => key >= "0" && key <= "9";
const nameOf = (key) => ARROWS[key] || (key.length === 1 ? key.toUpperCase() : key);

function add(place, tag, name = "") {
  const element = document.createElement(tag);
  element.className = name;
  place.append(element);
  return element;
}

// `send(command, values)` sends a command, `isPaused()` says whether a press is a step of its own, and `isReady()`
// whether the last such step has come.
export class Actions {
  constructor(place, controls, send, isPaused, isReady) {
    Object.assign(this, { place, controls, send, isPaused, isReady });
    this.choices = []; // of a single row: { value, name, button }
    this.values = []; // of several rows, or of sliders
    this.sources = []; // what is pressed now, the newest last: { source, choice }
    this.padBefore = {};
    this.padTurned = [];
    place.replaceChildren();
    if (controls.kind === "sliders") controls.axes.forEach((axis, i) => this.buildSlider(axis, i));
    else if (controls.kind === "none") place.textContent = "This world has no actions: play or step to watch it.";
    else if (controls.rows.length > 1) controls.rows.forEach((row, i) => this.buildRow(row, i));
    else this.buildButtons(controls.rows[0]);
  }

  // Which keys press which action, in words.
  help() {
    return this.choices.map((choice, i) => `${choice.name}: ${this.keysOf(i)}`).join(", ");
  }

  keysOf(choice) {
    const keys = Object.keys(this.controls.keys).filter((key) => this.controls.keys[key] === choice);
    return keys.sort((a, b) => isDigit(a) - isDigit(b)).map(nameOf).join(" ");
  }

  buildButtons(row) {
    const line = add(this.place, "div", "row");
    this.choices = row.choices.map((choice, i) => {
      const button = add(line, "button");
      button.type = "button";
      button.textContent = choice.name.replaceAll("_", " ");
      button.dataset.value = choice.value;
      press(button, false);
      add(button, "small").textContent = this.keysOf(i);
      button.onpointerdown = (event) => {
        button.setPointerCapture(event.pointerId);
        this.press(`pointer ${event.pointerId}`, i);
      };
      button.onpointerup = button.onpointercancel = (event) => this.release(`pointer ${event.pointerId}`);
      button.onclick = (event) => event.detail === 0 && this.tap(i); // by the keyboard or a screen reader
      button.oncontextmenu = (event) => event.preventDefault(); // a long touch
      return { ...choice, button };
    });
  }

  buildRow(row, i) {
    const line = add(this.place, "div", "row");
    add(line, "b").textContent = row.name;
    this.values[i] = row.choices[0].value;
    const buttons = row.choices.map((choice) => {
      const button = add(line, "button");
      button.type = "button";
      button.textContent = choice.name;
      button.setAttribute("aria-label", `${row.name}: ${choice.name}`);
      press(button, choice.value === this.values[i]);
      button.onclick = () => {
        this.values[i] = choice.value;
        buttons.forEach((each) => press(each, each === button));
        this.send("hold", { action: this.values });
      };
      return button;
    });
  }

  buildSlider(axis, i) {
    const label = add(this.place, "label");
    add(label, "span").textContent = axis.name + ([" (← →)", " (↓ ↑)"][i] || "");
    const slider = add(label, "input");
    Object.assign(slider, { type: "range", min: axis.low, max: axis.high, step: axis.step, value: axis.idle });
    add(label, "output").textContent = round(axis.idle);
    this.values[i] = axis.idle;
    slider.oninput = () => this.setAxis(i, Number(slider.value));
    slider.ondblclick = () => this.setAxis(i, axis.idle);
  }

  setAxis(i, value) {
    if (this.values[i] === value) return;
    this.values[i] = value;
    const label = this.place.children[i];
    label.querySelector("input").value = value;
    label.querySelector("output").textContent = round(value);
    this.send("hold", { action: this.values });
  }

  // Press a choice; `source` names what presses it, until it is released.
  press(source, choice) {
    if (this.sources.some((each) => each.source === source)) return;
    this.sources.push({ source, choice });
    if (this.isPaused()) this.send("step", { action: this.choices[this.together()].value });
    this.hold();
  }

  release(source) {
    if (!this.sources.some((each) => each.source === source)) return;
    this.sources = this.sources.filter((each) => each.source !== source);
    this.hold();
  }

  releaseAll() {
    if (this.sources.length) this.send("hold", { action: null });
    this.sources = [];
  }

  tap(choice) {
    this.press("tap", choice);
    setTimeout(() => this.release("tap"), TAP);
  }

  hold() {
    this.send("hold", { action: this.sources.length ? this.choices[this.together()].value : null });
  }

  // The newest choice that is pressed; two that the world has as one ("up" and "right": "upright") are joined.
  together() {
    const letters = (choice) => this.choices[choice].name.toLowerCase().replace(/[^a-z0-9]/g, "");
    const newest = this.sources.at(-1).choice;
    for (const { choice } of this.sources.slice(0, -1)) {
      const names = [letters(choice) + letters(newest), letters(newest) + letters(choice)];
      const joined = this.choices.findIndex((_, i) => names.includes(letters(i)));
      if (joined >= 0) return joined;
    }
    return newest;
  }

  // Whether a key that goes down is an action.
  keyDown(key, isRepeat) {
    if (this.controls.kind === "sliders") return this.turn(key, true);
    const choice = this.choices.length ? this.controls.keys[key] : undefined;
    if (choice === undefined) return false;
    if (!isRepeat) this.press(`key ${key}`, choice);
    else if (this.isPaused() && this.isReady()) this.send("step", { action: this.choices[choice].value });
    return true;
  }

  keyUp(key) {
    if (this.controls.kind === "sliders") this.turn(key, false);
    else this.release(`key ${key}`);
  }

  turn(key, on) {
    const [i, side] = TURNS[key] || [];
    const axis = this.controls.axes[i];
    if (!axis) return false;
    this.setAxis(i, on ? axis[side] : axis.idle);
    return true;
  }

  // Show which action the newest step took; null for none.
  showPressed(value) {
    for (const choice of this.choices) press(choice.button, choice.value === value);
  }

  // What changed on a gamepad: sticks and buttons press actions; `start` and `select` call the functions.
  readPad(pad, start, select) {
    const down = (i) => Boolean(pad.buttons[i] && pad.buttons[i].pressed);
    const [x, y] = [pad.axes[0] || 0, pad.axes[1] || 0];
    const now = {
      ArrowLeft: x < -0.5 || down(14), ArrowRight: x > 0.5 || down(15), ArrowUp: y < -0.5 || down(12),
      ArrowDown: y > 0.5 || down(13), Enter: down(0), start: down(9), select: down(8),
    };
    if (this.controls.kind === "sliders") this.turnPad(pad);
    for (const key of Object.keys(now).filter((each) => now[each] !== Boolean(this.padBefore[each]))) {
      const choice = this.choices.length ? this.controls.keys[key] : undefined;
      if (now[key] && key === "start") start();
      if (now[key] && key === "select") select();
      if (choice !== undefined && now[key]) this.press(`pad ${key}`, choice);
      if (choice !== undefined && !now[key]) this.release(`pad ${key}`);
    }
    this.padBefore = now;
  }

  turnPad(pad) {
    this.controls.axes.slice(0, pad.axes.length).forEach((axis, i) => {
      const turned = Math.abs(pad.axes[i]) < 0.1 ? 0 : pad.axes[i] * (i % 2 ? -1 : 1); // up is high
      const value = axis.idle + turned * (turned > 0 ? axis.high - axis.idle : axis.idle - axis.low);
      if (turned || this.padTurned[i]) this.setAxis(i, Math.round(value / axis.step) * axis.step);
      this.padTurned[i] = turned !== 0;
    });
  }
}
