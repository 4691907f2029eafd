// What a step looks like: the drawing, the panel beside it and the tables below, filled from values.

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Texts and [text, class] pairs as nodes. */
const spans = (tokens) => tokens.map((token) => (Array.isArray(token) ? make("span", { class: token[1] }, token[0]) : token));

function showPanel(step, index, count) {
  $("#step-title").textContent = step.title;
  $("#step-words").textContent = step.words;
  $("#step-lines").replaceChildren(...step.lines.flatMap(({ left, right, plain }) => [
    make("dt", {}, left),
    make("dd", {}, ...spans(plain ? right : ["= ", ...right])),
  ]));
  const place = $("#place");
  place.max = count - 1;
  place.value = index;
  place.setAttribute("aria-valuetext", `Step ${index + 1} of ${count}: ${step.title}`);
  $("#place-told").textContent = `Step ${index + 1} of ${count}`;
}

function showPhases(steps, index) {
  const phases = [...new Set(steps.map((step) => step.phase))];
  const box = $("#phases");
  if (box.children.length !== phases.length) {
    box.replaceChildren(...phases.map((phase) => make("li", {}, make("button", { type: "button", "data-phase": phase }, phase))));
  }
  for (const button of $$("button", box)) {
    if (button.dataset.phase === steps[index].phase) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
  }
}

/** Every number of the drawing; those that no step so far has revealed are left out. */
function showDrawing(net, values, steps, index, chosen) {
  const [step, seen] = [steps[index], new Set(steps.slice(0, index + 1).flatMap((s) => s.reveals))];
  const fresh = new Set(index ? step.reveals : []);
  const put = (node, name, key, value) => {
    const group = $(`.v-${name}`, node);
    $(".number", group).textContent = short(value);
    group.classList.toggle("hid", !["b", "w", "y"].includes(name) && !seen.has(key));
    group.classList.toggle("fresh", fresh.has(key));
  };
  for (const node of $$("[data-unit]")) {
    const unit = node.dataset.unit;
    node.classList.toggle("now", step.units.includes(unit));
    if (unit === "cost") put(node, "c", "c", values.cost);
    else putUnit(net, values, unit, (name, value) => put(node, name, `${name}${unit}`, value));
  }
  for (const node of $$("[data-edge]")) showEdge(net, values, step, chosen, node, put);
  for (const node of $$("[data-cost]")) {
    mark(node, step, step.edges.includes(`cost,${node.dataset.cost}`));
  }
  follow(step);
}

function putUnit(net, values, unit, put) {
  const [layer, j] = unit.split(",").map(Number);
  put("a", values.a[layer][j]);
  if (layer === 0) return;
  put("b", net.biases[layer - 1][j]);
  put("z", values.z[layer - 1][j]);
  put("d", values.delta[layer - 1][j]);
  if (layer === net.biases.length) put("y", net.targets[j]);
}

function showEdge(net, values, step, chosen, node, put) {
  const key = node.dataset.edge;
  const [layer, j, k] = key.split(",").map(Number);
  const w = net.weights[layer - 1][j][k];
  put(node, "w", "", w);
  put(node, "f", `f${key}`, w * values.a[layer - 1][k]);
  put(node, "r", `r${key}`, w * values.delta[layer - 1][j]);
  mark(node, step, step.edges.includes(key));
  const isChosen = chosen[2] !== null && key === `${chosen[0]},${chosen[1] - 1},${chosen[2] - 1}`;
  node.classList.toggle("chosen", isChosen);
  node.setAttribute("aria-checked", isChosen);
  node.setAttribute("aria-label", `${calledName(DATA, [layer, j + 1, k + 1])}, ${wayOf(net, [layer, j + 1, k + 1])}, ${short(w)}`);
  node.setAttribute("tabindex", isChosen || (chosen[2] === null && key === "1,0,0") ? 0 : -1);
}

function mark(node, step, now) {
  node.classList.toggle("now", now);
  node.classList.toggle("forward", now && step.flow === "forward");
  node.classList.toggle("back", now && step.flow === "back");
}

/** Where the drawing is wider than its box, bring what the step is about into view: all of it, or the unit that it computes. */
function follow(step) {
  const box = $("#drawing");
  const main = step.units.length ? $(`[data-unit="${step.units[0]}"]`, box).getBoundingClientRect() : null;
  if (box.scrollWidth <= box.clientWidth + 1 || main === null) return;
  const around = box.getBoundingClientRect();
  const now = $$(".now", box).map((node) => node.getBoundingClientRect());
  const [first, last] = [Math.min(...now.map((r) => r.left)), Math.max(...now.map((r) => r.right))];
  if (first >= around.left && last <= around.right) return;
  const ahead = main.left - first > last - main.right ? main.right + 8 - around.width : main.left - 8;
  const left = last - first <= around.width ? (first + last - around.width) / 2 : ahead;
  const smooth = !calm() && document.documentElement.classList.contains("live");
  box.scrollBy({ left: left - around.left, behavior: smooth ? "smooth" : "auto" });
}

const MOST_ROWS = 64;

/** The chosen weight's derivative, path by path. */
function showPaths(data, net, values, chosen) {
  const paths = pathsOf(net, values, chosen);
  const most = paths.length > MOST_ROWS
    ? [...paths].sort((p, q) => Math.abs(q.product) - Math.abs(p.product)).slice(0, MOST_ROWS)
    : paths;
  const row = (...cells) => make("tr", {}, ...cells);
  $("#why-title").textContent = `Why ∂C/∂${weightName(...chosen)} is ${full(derivative(values, chosen))}`;
  $("#why-words").textContent = `${calledName(data, chosen)}, ${wayOf(net, chosen)}: ${plural(paths.length, "path")} to the cost`
    + (most.length < paths.length ? `; the ${most.length} largest are shown.` : ".");
  $("#paths tbody").replaceChildren(...most.map((path) => row(
    make("th", { scope: "row" }, routeOf(net, path, chosen[0])),
    make("td", {}, ...spans(named(path)), make("br"), ...spans(numbered(path))),
    make("td", { class: "n" }, full(path.product)),
  )));
  $("#paths tfoot").replaceChildren(row(
    make("th", { scope: "row" }, "sum over all paths"), make("td"), make("td", { class: "n" }, full(derivative(values, chosen))),
  ));
}

function showTables(data, net, values) {
  const cells = (first, numbers) => make("tr", {}, make("th", { scope: "row" }, ...first), ...numbers.map(
    (x) => (typeof x === "string" ? make("td", {}, x) : make("td", { class: "n" }, x === null ? "–" : full(x))),
  ));
  const units = [], weights = [];
  const after = descended(net, values, true);
  sizesOf(net).forEach((n, layer) => {
    for (let j = 0; j < n; j++) {
      const name = [make("span", { class: layerClass(layer) }, unitName(net, layer, j))];
      const at = (list) => (layer && list[layer - 1] ? list[layer - 1][j] : null);
      units.push(cells(name, [at(values.z), values.a[layer][j], at(values.slope), at(values.a_bar), at(values.delta)]));
      if (layer === 0) continue;
      for (const from of [...Array(net.weights[layer - 1][j].length).keys(), null]) {
        const key = [layer, j + 1, from === null ? null : from + 1];
        weights.push(cells([calledName(data, key)], [
          wayOf(net, key), numberAt(net, key), from === null ? 1 : values.a[layer - 1][from], values.delta[layer - 1][j],
          derivative(values, key), numberAt(after, key),
        ]));
      }
    }
  });
  $("#units tbody").replaceChildren(...units);
  $("#weights tbody").replaceChildren(...weights);
}
