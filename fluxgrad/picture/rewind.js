"use strict";
// Everything on the page is a function of the number of the frame: show(k) sets all of it, and nothing else does.

const data = JSON.parse(document.getElementById("data").textContent);
const id = (name) => document.getElementById(name);
const all = (selector) => [...document.querySelectorAll(selector)];
const last = data.steps.length - 1;
let at = last;

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const write = (element, text) => (element.textContent = text);
const set = (element, name, value) => element.setAttribute(name, value);

// Rows of `width` numbers; row(k, i) is the i-th of frame k.
function table(text, width) {
  const all = new Float32Array(bytes(text).buffer);
  const rows = all.length / width / (last + 1);
  return (k, i) => all.subarray(width * (k * rows + i), width * (k * rows + i + 1));
}

const norms = table(data.norms, 2);
const weights = table(data.weights, 2);
const units = table(data.units, 3);
const logged = data.logged.map(Number);
const loss = data.loss.map(Number);

// A number as people read it: three digits, a true minus.
function shown(x, plus) {
  if (Number.isNaN(x)) return "NaN";
  const sign = x < 0 ? "−" : x > 0 && plus ? "+" : "";
  const size = Math.abs(x);
  if (size === 0) return "0";
  if (size === Infinity) return sign + "inf";
  const [digits, power] = size.toExponential(2).split("e");
  if (power < -4 || power >= 6) return sign + Number(digits) + "e" + String(Number(power)).replace("-", "−");
  return sign + (power >= 3 ? size.toFixed(0) : Number(size.toPrecision(3)));
}

const sign = (g) => (Number.isFinite(g) ? (g > 0 ? "plus" : g < 0 ? "minus" : "zero") : "wild");

function width(g) {
  const [low, high, thin, thick] = data.scale;
  if (!Number.isFinite(g)) return thick;
  if (g === 0) return 2;
  const share = Math.min(Math.max((Math.log10(Math.abs(g)) - low) / (high - low), 0), 1);
  return thin + (thick - thin) * share;
}

const edges = all(".edges path");
const labels = all(".labels text");
const circles = all(".units>g");
const sizes = all(".sizes .num");
const bars = all(".bars>g");
const rows = all("#rows tr");

function showFlows(k) {
  edges.forEach((path, i) => {
    const [w, g] = weights(k, i);
    set(path, "class", sign(g));
    set(path, "stroke-width", Number(width(g).toPrecision(3)));
    write(path.firstChild, `${data.edges[i]} = ${shown(w)}, L̇ = ${shown(g, true)}`);
    if (labels[i]) {
      set(labels[i], "class", sign(g));
      write(labels[i], shown(g, true));
    }
  });
  circles.forEach((group, i) => {
    const [value, g, blocked] = units(k, i);
    const [name, top] = data.nodes[i];
    const circle = group.querySelector(".own");
    set(circle, "class", `own ${sign(g)}`);
    const shade = top > 0 && Number.isFinite(value) ? Math.min(Math.abs(value) / top, 1) : 0;
    set(circle, "fill-opacity", (shade * 0.45).toFixed(2));
    const dead = group.classList.toggle("dead", blocked === 1) ? "; dead: blocked for the whole batch" : "";
    write(group.firstChild, `${name} = ${shown(value)} on average, L̇ = ${shown(g, true)} summed${dead}`);
    const number = group.querySelector(".num");
    if (number) write(number, shown(value));
  });
  sizes.forEach((text, i) => {
    write(text, shown(norms(k, data.layers[i])[1]));
  });
  bars.forEach((row, i) => {
    const g = norms(k, i)[1];
    set(row.querySelector("rect"), "width", g === 0 ? 0 : width(g).toPrecision(3));
    write(row.querySelector(".num"), shown(g));
  });
  rows.forEach((row, i) => {
    const [value, g] = norms(k, i);
    write(row.cells[2], shown(value));
    write(row.cells[3], shown(g));
  });
}

function showLoss(k) {
  const [x, high, low] = data.curve[k];
  set(id("now"), "transform", `translate(${x} 0)`);
  set(id("dot-logged"), "transform", `translate(${x} ${high})`);
  set(id("dot-own"), "transform", `translate(${x} ${low})`);
  write(id("logged"), shown(logged[k]));
  write(id("is-logged"), shown(logged[k]));
  write(id("is-own"), shown(loss[k]));
}

const planes = data.plane ? bytes(data.plane) : null;

function showPlane(k) {
  if (!planes) return;
  const n = data.grid;
  const field = planes.subarray(k * n * n, (k + 1) * n * n);
  const style = getComputedStyle(document.documentElement);
  const inks = [..."01234567"].map((c) => style.getPropertyValue("--c" + c));
  const context = id("field").getContext("2d");
  context.clearRect(0, 0, n, n);
  field.forEach((byte, i) => {
    let [ink, share] = [inks[+(byte > 127)], (0.62 * Math.abs(byte - 127)) / 127];
    if (data.kind === "classes") [ink, share] = [inks[byte >> 5], 0.12 + (0.5 * (byte & 31)) / 30];
    if (byte === 255) [ink, share] = [style.getPropertyValue("--none"), 0.9];
    context.fillStyle = ink;
    context.globalAlpha = share;
    context.fillRect(i % n, n - 1 - Math.floor(i / n), 1, 1); // rows come from the bottom, pixels from the top
  });
  set(id("edge"), "d", data.kind === "value" ? levelLine(field, n) : "");
}

// The line where the value is at its level: through each square of four points, by where its sides are crossed.
function levelLine(field, n) {
  const value = ([x, y]) => field[y * n + x] - 127 || 0.01; // exactly at the level counts as just above
  let line = "";
  for (let y = 0; y < n - 1; y++) {
    for (let x = 0; x < n - 1; x++) {
      const corners = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]];
      if (corners.some((c) => value(c) === 128)) continue; // the byte 255: no number
      let pen = "M";
      corners.forEach((c, i) => {
        const d = corners[(i + 1) % 4];
        const t = value(c) / (value(c) - value(d));
        if (value(c) > 0 === value(d) > 0) return;
        line += pen + c.map((v, j) => (v + t * (d[j] - v) + 0.5).toFixed(2));
        pen = pen === "M" ? "L" : "M";
      });
    }
  }
  return line;
}

function say(k) {
  let most = -1;
  let name = "";
  data.names.forEach((parameter, i) => {
    const g = norms(k, i)[1];
    if (most < g || (Number.isNaN(g) && !Number.isNaN(most))) [most, name] = [g, parameter];
  });
  write(id("step"), data.steps[k]);
  const told = name ? `${shown(most)} (${name})` : "none";
  write(id("most"), told);
  const losses = `loss ${shown(logged[k])} as logged, ${shown(loss[k])} on the batch of this page`;
  write(id("say"), `Step ${data.steps[k]}, frame ${k + 1} of ${last + 1}: ${losses}; largest ‖L̇_W‖ ${told}.`);
}

function show(k) {
  at = Math.min(Math.max(k, 0), last);
  id("at").value = at;
  set(id("at"), "aria-valuetext", `step ${data.steps[at]}`);
  set(id("back"), "aria-disabled", at === 0);
  set(id("forth"), "aria-disabled", at === last);
  showFlows(at);
  showLoss(at);
  showPlane(at);
  say(at);
}

id("back").addEventListener("click", () => show(at - 1));
id("forth").addEventListener("click", () => show(at + 1));
id("at").addEventListener("input", () => show(Number(id("at").value)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showPlane(at));
id("curve").addEventListener("click", (event) => {
  const box = id("curve").getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * id("curve").viewBox.baseVal.width;
  const far = data.curve.map((place) => Math.abs(place[0] - x));
  show(far.indexOf(Math.min(...far)));
});
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
  if (to == null) return;
  event.preventDefault(); // the slider has these keys too, and would step a second time
  show(to);
});
show(at);
