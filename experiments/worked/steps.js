// The steps: what each says, which equations it shows, which units and edges it is about, and which values it reveals.
//
// A line is {left, right}: a symbol, and what it equals; `right` is a list of texts and [text, class] pairs. A plain line is no
// equation.

const SAYS = {
  sigmoid: [["σ(z) = 1 / (1 + e", ["−z", "up"], ")"], "The sigmoid σ squeezes that into a, a number between 0 and 1."],
  tanh: [["tanh(z)"], "tanh squeezes that into a, a number between −1 and 1."],
  relu: [["max(0, z)"], "The rectifier lets it through as a where it is above 0, and gives 0 elsewhere."],
  identity: [["z"], "This unit hands it on as it is: a = z."],
};
const SLOPES = {
  sigmoid: (a) => ["a · (1 − a) = ", full(a), " · ", signed(1 - a), " = "],
  tanh: (a) => ["1 − a² = 1 − ", signed(a), "² = "],
  relu: () => ["1 where z > 0, else 0: "],
  identity: () => [""],
};

/** Every step of the net at its present numbers. */
function stepsOf(data, net, values, chosen) {
  const last = net.biases.length;
  const layers = Array.from({ length: last }, (_, i) => i + 1);
  const units = (layer) => Array.from({ length: sizesOf(net)[layer] }, (_, j) => j);
  return [
    startStep(net, chosen),
    ...layers.flatMap((layer) => [
      ...units(layer).map((j) => forwardStep(net, values, layer, j)),
      ...(squashOf(net, layer) === "softmax" ? [softmaxStep(net, values)] : []),
    ]),
    costStep(net, values),
    ...[...layers].reverse().flatMap((layer) => units(layer).map((j) => backwardStep(net, values, layer, j))),
    ...[...layers].reverse().map((layer) => gradientStep(net, values, layer)),
    weightStep(data, net, values, chosen),
    updateStep(data, net, values, chosen),
  ];
}

/** Numbers multiplied in pairs and added: 0.15 · 0.05 + 0.2 · 0.1; each [first, its class, second, its class]. */
function dotted(terms) {
  return terms.flatMap(([p, kind, q, other], i) => [i ? " + " : "", [signed(p), kind], " · ", [signed(q), other]]);
}

function startStep(net, chosen) {
  const [ins, outs] = [net.inputs.length, net.targets.length];
  const [layer, to, from] = chosen;
  const way = from === null
    ? `is the bias of unit ${to} of layer ${layer}`
    : `leads to unit ${to} of layer ${layer} from unit ${from} of layer ${layer - 1}`;
  return {
    phase: "Start",
    title: "A net, an input and a target",
    words: `${capital(small(ins))} ${ins === 1 ? "number goes" : "numbers go"} in, ${small(outs)} ${outs === 1 ? "comes" : "come"} out,`
      + ` and the cost says how far ${outs === 1 ? "it is from its target" : "they are from their targets"}. First everything is`
      + " computed from left to right. Then one question is asked from right to left: how fast does the cost change when this"
      + " number changes?",
    lines: [{ left: weightName(...chosen), right: [`${way}. Layers and units count from 1; the inputs are layer 0.`], plain: true }],
    units: net.inputs.map((_, k) => `0,${k}`),
    edges: [],
    reveals: net.inputs.map((_, k) => `a0,${k}`),
  };
}

function forwardStep(net, values, layer, j) {
  const [name, before, squash] = [unitName(net, layer, j), values.a[layer - 1], squashOf(net, layer)];
  const row = net.weights[layer - 1][j];
  const bias = net.biases[layer - 1][j];
  const [own, below] = [layerClass(layer), layerClass(layer - 1)];
  const symbols = row.flatMap((_, k) => [weightName(layer, j + 1, k + 1), " · ", [unitName(net, layer - 1, k), below], " + "]);
  const lines = [
    { left: "z", right: [...symbols, weightName(layer, j + 1, null)] },
    { left: "", right: [...dotted(row.map((w, k) => [w, "", before[k], below])), ` + ${signed(bias)}`] },
    { left: "", right: [[full(values.z[layer - 1][j]), `${own} result`]] },
  ];
  if (squash !== "softmax") {
    lines.push({ left: "a", right: SAYS[squash][0] }, { left: "", right: [[full(values.a[layer][j]), `${own} result`]] });
  }
  const after = squash === "softmax" ? "What becomes of it hangs on the other outputs too." : SAYS[squash][1];
  return {
    phase: "Forward",
    title: `Forward: ${name}`,
    words: `Every number that comes in times its weight, all added up, plus the bias: that is z of ${name}. ${after}`,
    lines,
    units: [`${layer},${j}`, ...row.map((_, k) => `${layer - 1},${k}`)],
    edges: row.map((_, k) => `${layer},${j},${k}`),
    flow: "forward",
    reveals: [`z${layer},${j}`, ...(squash === "softmax" ? [] : [`a${layer},${j}`]), ...row.map((_, k) => `f${layer},${j},${k}`)],
  };
}

function softmaxStep(net, values) {
  const layer = net.biases.length;
  const own = layerClass(layer);
  const z = values.z[layer - 1];
  const exps = z.map((v) => Math.exp(Math.min(v, 500)));
  return {
    phase: "Forward",
    title: "Forward: softmax",
    words: "All outputs together become shares: e to each z, divided by the sum of them all. They are positive and sum to 1.",
    lines: z.map((v, j) => ({
      left: unitName(net, layer, j),
      right: ["e", [full(v), "up"], " / Σ e", ["z", "up"], ` = ${full(exps[j])} / ${full(sum(exps))} = `,
        [full(values.a[layer][j]), `${own} result`]],
    })),
    units: z.map((_, j) => `${layer},${j}`),
    edges: [],
    reveals: z.map((_, j) => `a${layer},${j}`),
  };
}

function costStep(net, values) {
  const layer = net.biases.length;
  const own = layerClass(layer);
  const [a, y] = [values.a[layer], net.targets];
  const told = {
    quadratic: ["½ Σ (a − y)²", a.flatMap((v, j) => [j ? " + " : "", "½ · (", [full(v), own], ` − ${signed(y[j])})²`]),
      "Half the squared distance between each output a and its target y, added up."],
    "cross-entropy": ["−Σ (y · ln a + (1 − y) · ln(1 − a))",
      a.flatMap((v, j) => [" − ", `${full(y[j])} · ln `, [full(v), own], ` − ${full(1 - y[j])} · ln(1 − `, [full(v), own], ")"]),
      "How surprised the outputs, read as probabilities, are by the targets."],
    softmax: ["−Σ y · ln a", a.flatMap((v, j) => [" − ", `${full(y[j])} · ln `, [full(v), own]]),
      "How surprised the outputs, read as probabilities, are by the right class."],
  }[net.loss];
  return {
    phase: "Cost",
    title: "The cost",
    words: `${told[2]} One number, which is to become small.`,
    lines: [
      { left: "C", right: [told[0]] },
      { left: "", right: told[1] },
      { left: "", right: [[full(values.cost), "result"]] },
    ],
    units: ["cost", ...a.map((_, j) => `${layer},${j}`)],
    edges: a.map((_, j) => `cost,${j}`),
    flow: "forward",
    reveals: ["c"],
  };
}

function backwardStep(net, values, layer, j) {
  const last = net.biases.length;
  return layer < last ? hiddenStep(net, values, layer, j) : isFused(net) ? fusedStep(net, values, j) : outputStep(net, values, j);
}

function slopeLines(net, values, layer, j) {
  const [own, a, slope] = [layerClass(layer), values.a[layer][j], values.slope[layer - 1][j]];
  const bar = values.a_bar[layer - 1][j];
  return [
    { left: "f′(z)", right: [...SLOPES[squashOf(net, layer)](a), [full(slope), `${own} result`]] },
    { left: "δ", right: ["∂C/∂a · f′(z) = ", [signed(bar), "v-d"], " · ", [full(slope), own]] },
    { left: "", right: [[full(values.delta[layer - 1][j]), "v-d result"]] },
  ];
}

function outputStep(net, values, j) {
  const layer = net.biases.length;
  const [name, own, a] = [unitName(net, layer, j), layerClass(layer), values.a[layer][j]];
  return {
    phase: "Backward",
    title: `Backward: ${name}`,
    words: `How does the cost change with z of ${name}? First how it changes with a, then how a changes with z: the two rates of`
      + " change are multiplied. That is δ.",
    lines: [
      { left: "∂C/∂a", right: ["a − y = ", [full(a), own], ` − ${signed(net.targets[j])} = `, [full(values.a_bar[layer - 1][j]), "v-d result"]] },
      ...slopeLines(net, values, layer, j),
    ],
    units: ["cost", `${layer},${j}`],
    edges: [`cost,${j}`],
    flow: "back",
    reveals: [`d${layer},${j}`],
  };
}

function fusedStep(net, values, j) {
  const layer = net.biases.length;
  const [name, own] = [unitName(net, layer, j), layerClass(layer)];
  const [a, y, delta] = [values.a[layer][j], net.targets[j], values.delta[layer - 1][j]];
  const lines = [{ left: "δ", right: ["a − y = ", [full(a), own], ` − ${signed(y)} = `, [full(delta), "v-d result"]] }];
  if (net.loss === "cross-entropy") {
    const slope = values.slope[layer - 1][j];
    lines.unshift(
      { left: "∂C/∂a", right: ["(a − y) / (a · (1 − a)) = ", [full(values.a_bar[layer - 1][j]), "v-d"]] },
      { left: "f′(z)", right: ["a · (1 − a) = ", [full(slope), own]] },
    );
  }
  return {
    phase: "Backward",
    title: `Backward: ${name}`,
    words: net.loss === "softmax"
      ? `How does the cost change with z of ${name}? Every output hangs on it, through the sum below the fraction; all that cancels`
        + " against the logarithm of the cost, and what is left is output minus target."
      : `How does the cost change with z of ${name}? The slope of the sigmoid stands in ∂C/∂a below the fraction, and cancels: what`
        + " is left is output minus target. A unit that is far off therefore learns fast, however flat its sigmoid is there.",
    lines,
    units: ["cost", ...(net.loss === "softmax" ? net.targets.map((_, k) => `${layer},${k}`) : [`${layer},${j}`])],
    edges: [`cost,${j}`],
    flow: "back",
    reveals: [`d${layer},${j}`],
  };
}

function hiddenStep(net, values, layer, j) {
  const name = unitName(net, layer, j);
  const [rows, deltas] = [net.weights[layer], values.delta[layer]];
  const ways = rows.length;
  const symbols = rows.flatMap((_, k) => [k ? " + " : "", weightName(layer + 1, k + 1, j + 1), " · ", [`δ(${unitName(net, layer + 1, k)})`, "v-d"]]);
  return {
    phase: "Backward",
    title: `Backward: ${name}`,
    words: ways === 1
      ? `${name} acts on the cost through one unit only: that unit’s δ comes back along the edge, times its weight.`
      : `${name} acts on the cost through ${small(ways)} units. Each one’s δ comes back along its edge, times the weight, and they`
        + " add up; then times the slope of the unit itself.",
    lines: [
      { left: "∂C/∂a", right: symbols },
      { left: "", right: dotted(rows.map((row, k) => [row[j], "", deltas[k], "v-d"])) },
      { left: "", right: [[full(values.a_bar[layer - 1][j]), "v-d result"]] },
      ...slopeLines(net, values, layer, j),
    ],
    units: [`${layer},${j}`, ...rows.map((_, k) => `${layer + 1},${k}`)],
    edges: rows.map((_, k) => `${layer + 1},${k},${j}`),
    flow: "back",
    reveals: [`d${layer},${j}`, ...rows.map((_, k) => `r${layer + 1},${k},${j}`)],
  };
}
