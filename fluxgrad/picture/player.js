"use strict";
// What is shown is a function of the step k (and of the guesses). Names come as data and are set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const [back, forth, slider, tell, view, ask, score, about] =
  ["back", "forth", "at", "tell", "view", "ask", "score", "about"].map(id => document.getElementById(id));
const last = data.steps.length - 1;
const guesses = new Map(); // of each question, "step:node": "+", "−", "0" or "skip"
let k = 0;

// ----- The picture: its cards and edges, in the order of the data -----

function textsIn(element) {
  const found = [], walk = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) found.push(walk.currentNode);
  return found;
}

const cards = [...view.querySelectorAll("g.node")].map((g, i) => {
  const told = data.nodes[i], lines = [...g.querySelectorAll("text")];
  const amount = !told ? [] : told.apart ? textsIn(lines[1]) : textsIn(lines[0]).slice(1);
  return {
    g, told, kind: g.getAttribute("class"),
    values: told && told.made ? amount.map(node => [node, node.data]) : [],
    sum: told && textsIn(lines.at(-1)).at(-1),
    note: told && told.notes && textsIn(lines.at(-2)).at(-1),
  };
});

const edges = [...view.querySelectorAll("g.edge")].map((g, i) => {
  const line = g.querySelector("path"), head = g.querySelector(".h");
  const add = (kind, d) => {
    const path = document.createElementNS(line.namespaceURI, "path");
    path.setAttribute("class", kind);
    path.setAttribute("d", d);
    line.before(path);
  };
  const [from, tip] = [line, head].map(path => path && path.getAttribute("d").match(/^M[^A-Za-z]*/)[0]);
  add("glow", line.getAttribute("d"));
  if (tip) add("stub", tip + from.replace("M", "L")); // while there is no arrowhead, the line itself goes on to the card
  return { g, kind: g.getAttribute("class"), ...data.edges[i] };
});

const open = i => k > 0 && data.steps[k].lines.some(l => l.node === i && l.sign) && !guesses.has(`${k}:${i}`) && data.predict;
const question = () => data.steps[k].lines.find(l => open(l.node));

function mark({ g, kind }, marks) {
  g.setAttribute("class", [kind, ...Object.keys(marks).filter(name => marks[name])].join(" "));
}

function paint() {
  const step = data.steps[k];
  for (const edge of edges) {
    const { back, forward, to } = edge, now = k > 0 && back === k, come = back && back <= k && !(now && open(to));
    mark(edge, { later: back && !come, asked: now && !come, on: now || (k > 0 && forward === k) });
  }
  cards.forEach((card, i) => {
    const { told, values, sum, note } = card;
    if (!told) return;
    const come = told.came.filter(s => s <= k && !(s === k && open(i))).length;
    const made = told.made <= k;
    for (const [node, text] of values) node.data = made ? text : "";
    sum.data = told.sums[come];
    if (note) note.data = told.notes[come];
    const gets = k > data.forward && step.lines.some(l => l.node === i);
    mark(card, { unmade: !made, silent: !come, waits: come && come < told.wants, gets, on: step.node === i });
  });
}

// ----- The words -----

function put(parent, tag, name, text) {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text) write(e, text);
  parent.append(e);
  return e;
}

// Text, with each L̇_x set as an L, a drawn dot (few fonts can set it) and a subscript; the text itself stays the same.
function write(parent, text) {
  const letters = "[\\p{L}\\p{M}\\p{N}_…]+";
  let from = 0;
  for (const found of text.matchAll(new RegExp(`L\u0307_(“[^”]*”|${letters}(?:\\.${letters})*)`, "gu"))) {
    parent.append(text.slice(from, found.index));
    from = found.index + found[0].length;
    const whole = put(parent, "span", "fluxion");
    whole.setAttribute("role", "img");
    whole.setAttribute("aria-label", `L-dot of ${found[1]}`);
    put(whole, "i").textContent = "L";
    put(whole, "span", "off").textContent = "\u0307_";
    put(whole, "sub").textContent = found[1];
  }
  parent.append(text.slice(from));
}

const place = () =>
  `step ${k} of ${last}` + (k === 0 ? "" : k <= data.forward ? ", forwards" : ", backwards");

function speak() {
  const step = data.steps[k];
  tell.replaceChildren();
  const said = put(tell, "div"), worked = put(tell, "div");
  put(said, "h2", "", place().replace("s", "S"));
  put(said, "p", "", step.lead);
  const gets = step.gets.filter(x => !open(x.node));
  if (gets.length) {
    const list = put(said, "ul");
    for (const x of gets) put(list, "li", "", x.text);
  }
  for (const line of step.lines) {
    const hidden = open(line.node), box = put(worked, "div", "line");
    for (const row of line.rows) {
      const p = put(box, "p", row.inner ? "row inner" : "row");
      put(p, "span", "", row.label);
      for (const cell of hidden ? row.asked : row.cells) put(p, "span", "", ` = ${cell}`);
      if (row.remark && !hidden) put(p, "span", "remark", ` ${row.remark}`);
    }
    if (line.waits) put(box, "p", "strong", line.waits);
    const guess = guesses.get(`${k}:${line.node}`);
    if (guess === line.sign && guess) put(box, "p", "strong", `Right, it is ${line.sign}: ${line.why}`);
    else if (guess && guess !== "skip") put(box, "p", "strong", `Wrong, it is ${line.sign}, not ${guess}: ${line.why}`);
  }
  const asked = question();
  if (asked) put(worked, "p", "strong", `What is the sign of ${asked.what}?`);
  ask.hidden = !asked;
}

function count() {
  let right = 0, all = 0;
  for (const [key, guess] of guesses) {
    const [at, node] = key.split(":").map(Number);
    if (guess === "skip") continue;
    all += 1;
    right += guess === data.steps[at].lines.find(l => l.node === node).sign;
  }
  score.textContent = all ? `${right} of ${all} guessed right` : "";
}

// ----- Where one is -----

// Brings what is lit into view, or the card alone where that is too much; at once, nothing glides.
function reveal() {
  const v = view.getBoundingClientRect();
  for (const kind of [".on", ".gets,.node.on", ".node.on"]) {
    const lit = [...view.querySelectorAll(kind)].map(e => e.getBoundingClientRect()), alone = kind === ".node.on";
    if (!lit.length) return;
    const by = (low, high, size) => {
      const from = Math.min(...lit.map(r => r[low])), to = Math.max(...lit.map(r => r[high]));
      if (to - from > v[size] && !alone) return null;
      return alone || from < v[low] || to > v[high] ? (from + to - v[low] - v[high]) / 2 : 0;
    };
    const left = by("left", "right", "width"), top = by("top", "bottom", "height");
    if (left === null || top === null) continue;
    return view.scrollBy({ left, top, behavior: "instant" });
  }
}

function show() {
  paint();
  speak();
  count();
  slider.value = k;
  slider.setAttribute("aria-valuetext", place());
  back.setAttribute("aria-disabled", k === 0); // not `disabled`, which would lose the focus
  forth.setAttribute("aria-disabled", k === last);
}

function go(to) {
  to = Math.min(last, Math.max(0, to));
  if (to === k) return;
  k = to;
  show();
  reveal();
}

function guess(sign) {
  const asked = question();
  if (!asked) return;
  const within = ask.contains(document.activeElement);
  guesses.set(`${k}:${asked.node}`, sign);
  show();
  if (within && ask.hidden) forth.focus();
}

back.addEventListener("click", () => go(k - 1));
forth.addEventListener("click", () => go(k + 1));
slider.addEventListener("input", () => go(Number(slider.value)));
for (const button of ask.querySelectorAll("button")) button.addEventListener("click", () => guess(button.value));
const keys = { "+": "+", "=": "+", "-": "−", "−": "−", "0": "0" };
document.addEventListener("keydown", event => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
    event.preventDefault();
    go(event.key === "ArrowRight" ? k + 1 : k - 1);
  } else if (keys[event.key]) guess(keys[event.key]);
});
slider.max = last;
write(about, data.about);
show();
