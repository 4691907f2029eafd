// The controls: stepping, playing, choosing a weight, changing numbers.

const DATA = JSON.parse($("#data").textContent);
const state = { net: structuredClone(DATA.net), chosen: DATA.chosen, index: 0, timer: null, updates: 0 };
const SECONDS = 2.2;

let values, steps;

function show() {
  values = compute(state.net);
  steps = stepsOf(DATA, state.net, values, state.chosen);
  state.index = Math.min(state.index, steps.length - 1);
  showStep();
  showPaths(DATA, state.net, values, state.chosen);
  showTables(DATA, state.net, values);
  showChanges();
}

function showStep() {
  showPanel(steps[state.index], state.index, steps.length);
  showPhases(steps, state.index);
  showDrawing(state.net, values, steps, state.index, state.chosen);
  const [first, last] = [state.index === 0, state.index === steps.length - 1];
  for (const [id, off] of [["restart", first], ["back", first], ["next", last]]) $(`#${id}`).setAttribute("aria-disabled", off);
}

function go(index) {
  state.index = Math.max(0, Math.min(steps.length - 1, index));
  if (state.index === steps.length - 1) pause();
  showStep();
}

function pause() {
  clearInterval(state.timer);
  state.timer = null;
  $("#play").textContent = "Play";
}

function play() {
  if (state.timer !== null) return pause();
  if (state.index === steps.length - 1) go(0);
  state.timer = setInterval(() => go(state.index + 1), SECONDS * 1000);
  $("#play").textContent = "Pause";
}

const by = (count) => () => {
  pause();
  go(state.index + count);
};

// --- numbers

/** Slider and field of one number; `at` reads and writes it in the net. */
function numberControl(id, label, at, range) {
  const slider = make("input", { type: "range", id, step: "0.01" });
  const field = make("input", { type: "number", id: `${id}-exact`, step: "any", "aria-label": `${label}, exact value` });
  const named = make("label", { for: id }, label);
  const change = (node) => () => {
    if (node.value.trim() === "" || !(Math.abs(node.valueAsNumber) <= 1e6)) return;
    at(node.valueAsNumber);
    show();
  };
  slider.addEventListener("input", change(slider));
  field.addEventListener("input", change(field));
  const update = () => {
    const [low, high] = range(at());
    if (!(at() >= slider.min && at() <= slider.max) || slider.min === "") Object.assign(slider, { min: low, max: high });
    slider.value = at();
    slider.setAttribute("aria-valuetext", short(at()));
    if (document.activeElement !== field) field.value = at();
  };
  return { row: [named, slider, field], update, reset: () => Object.assign(slider, { min: "", max: "" }), slider, field, named };
}

const wide = (least) => (x) => {
  const reach = Math.max(least, Math.ceil(2 * Math.abs(x)));
  return [-reach, reach];
};
const unit = () => [0, 1];
const entry = (name, i) => (x) => {
  if (x === undefined) return state.net[name][i];
  if (name === "inputs") state.net.inputs[i] = x;
  else if (!isFused(state.net) || (x >= 0 && x <= 1)) setTarget(i, x);
};

/** Of softmax targets the others give way, so that the sum stays 1. */
function setTarget(i, x) {
  const y = state.net.targets;
  if (state.net.loss === "softmax") {
    const rest = sum(y) - y[i];
    y.forEach((v, j) => {
      if (j !== i) y[j] = rest > 0 ? (v / rest) * (1 - x) : (1 - x) / (y.length - 1);
    });
  }
  y[i] = x;
}

function atChosen(x) {
  const [layer, to, from] = state.chosen;
  if (x === undefined) return numberAt(state.net, state.chosen);
  if (from === null) state.net.biases[layer - 1][to - 1] = x;
  else state.net.weights[layer - 1][to - 1][from - 1] = x;
}

const squeezed = isFused(state.net) || state.net.output === "sigmoid";
const chosenControl = numberControl("chosen-value", "Its value", atChosen, wide(2));
const controls = [
  chosenControl,
  ...state.net.inputs.map((_, k) => numberControl(`input-${k}`, `input ${unitName(state.net, 0, k)}`, entry("inputs", k), wide(1))),
  ...state.net.targets.map((_, j) => numberControl(
    `target-${j}`, `target of ${unitName(state.net, state.net.biases.length, j)}`, entry("targets", j), squeezed ? unit : wide(1),
  )),
];

function showChanges() {
  controls.forEach((control) => control.update());
  $("#weight").value = keyOf(state.chosen);
  $("#rate").value = document.activeElement === $("#rate") ? $("#rate").value : state.net.rate;
  const counted = state.updates ? ` after ${plural(state.updates, "update")}` : "";
  $("#cost-told").textContent = `Cost ${full(values.cost)}${counted}`;
  const near = CHECK[1] === 0 ? "equal JAX’s to the last bit" : `lie within ${CHECK[1].toExponential(1).replace("-", "−")} of JAX’s`;
  const same = JSON.stringify({ ...state.net, rate: 0 }) === JSON.stringify({ ...DATA.net, rate: 0 });
  $("#check").textContent = `All ${CHECK[0]} numbers ${same ? "" : "that the page came with "}were recomputed in this page and ${near}.`
    + (same ? "" : " You have changed some since.");
}

const keyOf = ([layer, to, from]) => `${layer},${to},${from ?? "b"}`;
const CHECK = compared(compute(DATA.net), DATA.jax);

function choose(key) {
  const [layer, to, from] = key.split(",");
  state.chosen = [Number(layer), Number(to), from === "b" ? null : Number(from)];
  chosenControl.reset();
  show();
}

// --- wiring

function fillControls() {
  const [select, net] = [$("#weight"), state.net];
  net.weights.forEach((w, i) => {
    const group = make("optgroup", { label: `layer ${i + 1}` });
    w.forEach((row, j) => [...row.keys(), null].forEach((k) => {
      const key = [i + 1, j + 1, k === null ? null : k + 1];
      group.append(make("option", { value: keyOf(key) }, `${calledName(DATA, key)}, ${wayOf(net, key)}`));
    }));
    select.append(group);
  });
  $("#chosen-slider").append(...chosenControl.row);
  for (const control of controls.slice(1)) $(control.slider.id.startsWith("input") ? "#inputs" : "#targets").append(...control.row);
}

function wireEdges() {
  const svg = $("#drawing svg");
  svg.setAttribute("role", "radiogroup");
  svg.removeAttribute("aria-labelledby");
  svg.setAttribute("aria-label", "The net: choose a weight to follow");
  const edges = $$("[data-edge]", svg);
  const keys = edges.map((node) => node.dataset.edge.split(",").map((n, i) => Number(n) + (i ? 1 : 0)).join());
  edges.forEach((node, i) => {
    node.setAttribute("role", "radio");
    node.addEventListener("click", () => choose(keys[i]));
    node.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1, " ": 0, Enter: 0 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      const to = (i + by + edges.length) % edges.length;
      choose(keys[to]);
      edges[to].focus();
    });
  });
}

function wire() {
  const on = (selector, event, act) => $(selector).addEventListener(event, act);
  on("#restart", "click", () => by(-state.index)());
  on("#back", "click", by(-1));
  on("#next", "click", by(1));
  on("#play", "click", play);
  on("#place", "input", (event) => by(event.target.valueAsNumber - state.index)());
  on("#phases", "click", ({ target }) => {
    if (target.dataset.phase) by(steps.findIndex((step) => step.phase === target.dataset.phase) - state.index)();
  });
  on("#weight", "change", (event) => choose(event.target.value));
  on("#rate", "input", ({ target }) => {
    if (target.valueAsNumber > 0 && target.valueAsNumber <= 1e6) {
      state.net.rate = target.valueAsNumber;
      show();
    }
  });
  on("#update", "click", () => {
    state.net = descended(state.net, values, $("#biases-too").checked);
    state.updates += 1;
    show();
  });
  on("#put-back", "click", () => {
    Object.assign(state, { net: structuredClone(DATA.net), updates: 0 });
    controls.forEach((control) => control.reset());
    show();
  });
  document.addEventListener("keydown", (event) => {
    const count = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (count === undefined || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input, select, textarea")) return;
    event.preventDefault();
    by(count)();
  });
}

fillControls();
wireEdges();
wire();
state.index = Number(location.hash.match(/^#step-(\d+)$/)?.[1] ?? 1) - 1;
show();
document.documentElement.classList.add("live");
