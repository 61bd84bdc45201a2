// Draws pictures, the curve of the surprise and the overlay of the tokens on canvases.

const TOKEN_PIXELS = 32; // side of a token on the overlay
const SHORTEST = 30; // steps that the axis of the curve has at least

export const round = (value) => String(Math.round(value * 1e4) / 1e4);

// Pixels `h w 3` on the canvas of a figure.
export function paint(figure, pixels, height, width) {
  const canvas = figure.querySelector(".frame");
  if (canvas.width !== width || canvas.height !== height) {
    [canvas.width, canvas.height] = [width, height];
    figure.style.setProperty("--aspect", width / height);
  }
  const image = new ImageData(width, height);
  for (let i = 0, j = 0; i < pixels.length; j += 4) {
    image.data[j] = pixels[i++];
    image.data[j + 1] = pixels[i++];
    image.data[j + 2] = pixels[i++];
    image.data[j + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// The surprise of the newest steps, up to step `steps`; `trusted` is the last step that is trusted, or null.
export function drawCurve(canvas, curve, steps, trusted) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  [canvas.width, canvas.height] = [width * scale, height * scale];
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  pen.scale(scale, scale);
  pen.font = "12px system-ui, sans-serif";
  const [left, right, top, bottom] = [34, width - 4, 8, height - 18];
  const most = niceCeiling(Math.max(1, ...curve));
  const first = steps - curve.length + 1; // the step of the first point
  const count = Math.max(curve.length, SHORTEST);
  const x = (step) => left + ((step - first) / (count - 1)) * (right - left);
  const y = (value) => bottom - (value / most) * (bottom - top);
  pen.fillStyle = color("--quiet");
  pen.strokeStyle = color("--line");
  for (const value of [0, most / 2, most]) {
    pen.textAlign = "right";
    pen.fillText(round(value), left - 5, y(value) + 4);
    stroke(pen, [[left, y(value)], [right, y(value)]]);
  }
  pen.textAlign = "left";
  if (curve.length) pen.fillText(`step ${first}`, left, height - 4);
  pen.textAlign = "right";
  if (curve.length > 1) pen.fillText(`${steps}`, Math.max(x(steps), left + 90), height - 4);
  if (trusted !== null && trusted >= first && trusted <= first + count - 1) {
    pen.setLineDash([4, 4]);
    stroke(pen, [[x(trusted), top], [x(trusted), bottom]]);
    pen.setLineDash([]);
  }
  pen.strokeStyle = pen.fillStyle = color("--accent");
  pen.lineWidth = 2;
  if (curve.length) pen.fillRect(x(steps) - 2.5, y(curve.at(-1)) - 2.5, 5, 5);
  stroke(pen, curve.map((value, i) => [x(first + i), y(value)]));
  const newest = curve.length ? `newest ${curve.at(-1)}, largest ${Math.max(...curve)}` : "no step yet";
  canvas.setAttribute("aria-label", `Surprise of the newest ${curve.length} steps in nats: ${newest}`);
}

function stroke(pen, points) {
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}

function niceCeiling(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 10].map((each) => each * unit).find((each) => each >= value);
}

// The code of each token (rows of numbers); those that differ from `before` are brighter.
export function drawTokens(canvas, tokens, before) {
  const [rows, columns, side] = [tokens.length, tokens[0].length, TOKEN_PIXELS];
  [canvas.width, canvas.height] = [columns * side, rows * side];
  const pen = canvas.getContext("2d");
  pen.textAlign = "center";
  pen.font = "bold 12px system-ui, sans-serif";
  tokens.forEach((row, y) => row.forEach((code, x) => {
    const changed = before && before[y][x] !== code;
    pen.fillStyle = `hsla(${(code * 137.5) % 360}, 80%, 50%, ${changed ? 0.5 : 0.18})`;
    pen.fillRect(x * side + 0.5, y * side + 0.5, side - 1, side - 1);
    pen.strokeStyle = "rgba(0, 0, 0, .8)";
    pen.lineWidth = 3;
    pen.strokeText(code, (x + 0.5) * side, (y + 0.5) * side + 4);
    pen.fillStyle = "#fff";
    pen.fillText(code, (x + 0.5) * side, (y + 0.5) * side + 4);
  }));
}
