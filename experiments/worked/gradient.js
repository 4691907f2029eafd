// The last steps: the derivatives of the weights, one weight factor by factor, and the step downhill.

const MOST_LINES = 9;

function gradientStep(net, values, layer) {
  const lines = [];
  net.weights[layer - 1].forEach((row, j) => {
    row.forEach((_, k) => {
      const [delta, a] = [values.delta[layer - 1][j], values.a[layer - 1][k]];
      const right = [[signed(delta), "v-d"], " · ", [signed(a), layerClass(layer - 1)], " = ", [full(delta * a), "v-d result"]];
      lines.push({ left: `∂C/∂${weightName(layer, j + 1, k + 1)}`, right });
    });
  });
  const more = lines.length - MOST_LINES;
  if (more > 0) lines.splice(MOST_LINES, more, { left: "…", right: [`and ${more} more, in the table below`], plain: true });
  return {
    phase: "Gradient",
    title: `The weights of layer ${layer}`,
    words: "One multiplication for each weight: δ of the unit that it leads to, times a of the unit that it comes from."
      + " The derivative of a bias is δ itself.",
    lines,
    units: net.weights[layer - 1].map((_, j) => `${layer},${j}`).concat(values.a[layer - 1].map((_, k) => `${layer - 1},${k}`)),
    edges: net.weights[layer - 1].flatMap((row, j) => row.map((_, k) => `${layer},${j},${k}`)),
    flow: "back",
    reveals: layer === 1 ? net.weights[0].flatMap((row, j) => row.map((_, k) => `r1,${j},${k}`)) : [],
  };
}

const derivative = (values, [layer, to, from]) =>
  from === null ? values.b_bar[layer - 1][to - 1] : values.w_bar[layer - 1][to - 1][from - 1];
const numberAt = (net, [layer, to, from]) => (from === null ? net.biases[layer - 1][to - 1] : net.weights[layer - 1][to - 1][from - 1]);

/** The factors of a path, multiplied: by name, or in numbers. */
const named = (path) => path.factors.flatMap((f, i) => [i ? " · " : "", [f.name, f.kind]]);
const numbered = (path) => path.factors.flatMap((f, i) => [i ? " · " : "", [signed(f.value), f.kind]]);
const routeOf = (net, path, first) => ["C", ...path.units.map((j, i) => unitName(net, first + i, j)).reverse()].join(" ← ");

function weightStep(data, net, values, chosen) {
  const [layer, to, from] = chosen;
  const [paths, name] = [pathsOf(net, values, chosen), weightName(...chosen)];
  const shown = paths.slice(0, 4);
  const lines = [];
  if (paths.length === 1) {
    lines.push({ left: `∂C/∂${name}`, right: named(paths[0]) }, { left: "", right: numbered(paths[0]) });
  } else {
    shown.forEach((path) => lines.push({ left: routeOf(net, path, layer), right: [...numbered(path), " = ", [full(path.product), "v-d"]] }));
    if (paths.length > 4) lines.push({ left: "…", right: [`and ${paths.length - 4} more paths, in the table below`], plain: true });
    lines.push({ left: `∂C/∂${name}`, right: [`the sum over ${paths.length === 2 ? "both" : `all ${paths.length}`} paths`] });
  }
  lines.push({ left: "", right: [[full(derivative(values, chosen)), "v-d result"]] });
  return {
    phase: "One weight",
    title: `${calledName(data, chosen)}, factor by factor`,
    words: paths.length === 1
      ? `${name} acts on the cost along one path. The rates of change along it are multiplied, from the cost back to the weight.`
      : `${name} acts on the cost along ${small(paths.length)} paths. Along each path the rates of change are multiplied; over the paths they`
        + " are added. Going back layer by layer, as above, gives the same sum without walking any path twice.",
    lines,
    units: [...onPath(net, chosen).units, "cost", ...(from === null ? [] : [`${layer - 1},${from - 1}`])],
    edges: [...onPath(net, chosen).edges, ...(from === null ? [] : [`${layer},${to - 1},${from - 1}`])],
    flow: "back",
    reveals: [],
  };
}

/** Units and edges between a weight and the cost. */
function onPath(net, [layer, to]) {
  const sizes = sizesOf(net);
  const units = [`${layer},${to - 1}`], edges = [];
  for (let at = layer + 1; at < sizes.length; at++) {
    const before = at === layer + 1 ? [to - 1] : [...Array(sizes[at - 1]).keys()];
    for (let k = 0; k < sizes[at]; k++) {
      units.push(`${at},${k}`);
      edges.push(...before.map((j) => `${at},${k},${j}`));
    }
  }
  const outputs = layer === sizes.length - 1 ? [to - 1] : [...Array(sizes.at(-1)).keys()];
  return { units, edges: [...edges, ...outputs.map((j) => `cost,${j}`)] };
}

function updateStep(data, net, values, chosen) {
  const name = weightName(...chosen);
  const [old, bar] = [numberAt(net, chosen), derivative(values, chosen)];
  const [alone, both] = [false, true].map((biasesToo) => compute(descended(net, values, biasesToo)).cost);
  const cost = (value) => [[full(value), "result"], ` (now ${full(values.cost)})`];
  return {
    phase: "Update",
    title: "A step downhill",
    words: `Each weight moves against its derivative, by the learning rate η = ${full(net.rate)} times it. All move at once, each from the`
      + " old numbers. Then everything begins again.",
    lines: [
      { left: `new ${name}`, right: [`${name} − η · ∂C/∂${name}`] },
      { left: "", right: [`${full(old)} − ${full(net.rate)} · `, [signed(bar), "v-d"]] },
      { left: "", right: [[full(old - net.rate * bar), "result"]] },
      { left: "new C", right: ["all weights moved: ", ...cost(alone)], plain: true },
      { left: "", right: ["all weights and biases: ", ...cost(both)], plain: true },
    ],
    units: [],
    edges: chosen[2] === null ? [] : [`${chosen[0]},${chosen[1] - 1},${chosen[2] - 1}`],
    flow: "",
    reveals: [],
  };
}
