// Both passes of the net, as the steps show them. Everything is float64, as in JAX.

const SQUASH = {
  sigmoid: {
    f: (z) => (z >= 0 ? 1 / (1 + Math.exp(-z)) : Math.exp(z) / (1 + Math.exp(z))),
    slope: (z) => Math.exp(-Math.abs(z)) / (1 + Math.exp(-Math.abs(z))) ** 2,
  },
  tanh: {
    f: Math.tanh,
    slope: (z) => 4 * (Math.exp(-Math.abs(z)) / (1 + Math.exp(-2 * Math.abs(z)))) ** 2,
  },
  relu: { f: (z) => Math.max(z, 0), slope: (z) => (z > 0 ? 1 : 0) },
  identity: { f: (z) => z, slope: () => 1 },
};

const sum = (values) => values.reduce((p, q) => p + q, 0);

function softmax(z) {
  const most = Math.max(...z);
  const e = z.map((v) => Math.exp(v - most));
  return e.map((v) => v / sum(e));
}

const sizesOf = (net) => [net.inputs.length, ...net.biases.map((b) => b.length)];
const squashOf = (net, layer) => (layer === net.biases.length ? net.output : net.activation);
const isFused = (net) => net.loss !== "quadratic";

/** {z, a, slope, a_bar, delta, w_bar, b_bar, cost}: a[0] are the inputs, the first of the other lists is that of layer 1. */
function compute(net) {
  const a = [net.inputs];
  const z = [];
  net.weights.forEach((w, i) => {
    const sums = w.map((row, j) => sum(row.map((value, k) => value * a[i][k])) + net.biases[i][j]);
    const squash = squashOf(net, i + 1);
    z.push(sums);
    a.push(squash === "softmax" ? softmax(sums) : sums.map(SQUASH[squash].f));
  });
  const back = backward(net, z, a);
  return { z, a, ...back, cost: costOf(net, z.at(-1), a.at(-1)) };
}

function backward(net, z, a) {
  const slope = [], a_bar = [], delta = [], w_bar = [];
  for (let i = net.weights.length - 1; i >= 0; i--) {
    const squash = squashOf(net, i + 1);
    const outputs = i === net.weights.length - 1;
    slope[i] = squash === "softmax" ? null : z[i].map(SQUASH[squash].slope);
    a_bar[i] = outputs
      ? atOutputs(net, z[i], a[i + 1], slope[i])
      : a[i + 1].map((_, j) => sum(delta[i + 1].map((d, k) => d * net.weights[i + 1][k][j])));
    delta[i] = outputs && isFused(net)
      ? fusedDelta(net, z[i], a[i + 1])
      : a_bar[i].map((bar, j) => bar * slope[i][j]);
    w_bar[i] = delta[i].map((d) => a[i].map((value) => d * value));
  }
  return { slope, a_bar, delta, w_bar, b_bar: delta };
}

/** dC/da of the outputs. */
function atOutputs(net, z, a, slope) {
  if (net.loss === "quadratic") return a.map((value, j) => value - net.targets[j]);
  if (net.loss === "softmax") return a.map((value, j) => -net.targets[j] / value);
  return fusedDelta(net, z, a).map((d, j) => (slope[j] > 0 ? d / slope[j] : Infinity));
}

/** dC/dz = a - y of the cross-entropies; for a sigmoid without the difference, which would lose digits near 1. */
function fusedDelta(net, z, a) {
  if (net.loss === "softmax") return a.map((value, j) => value * sum(net.targets) - net.targets[j]);
  return z.map((v, j) => (1 - net.targets[j]) * SQUASH.sigmoid.f(v) - net.targets[j] * SQUASH.sigmoid.f(-v));
}

function costOf(net, z, a) {
  const y = net.targets;
  if (net.loss === "quadratic") return sum(a.map((value, j) => (value - y[j]) ** 2 / 2));
  if (net.loss === "cross-entropy") {
    const softplus = (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
    return sum(z.map((v, j) => y[j] * softplus(-v) + (1 - y[j]) * softplus(v)));
  }
  const most = Math.max(...z);
  const log = most + Math.log(sum(z.map((v) => Math.exp(v - most))));
  return sum(z.map((v, j) => y[j] * (log - v)));
}

/** The net after one step of gradient descent: all new values from the old ones. */
function descended(net, values, biasesToo) {
  const weights = net.weights.map((w, i) => w.map((row, j) => row.map((value, k) => value - net.rate * values.w_bar[i][j][k])));
  const biases = net.biases.map((b, i) => b.map((value, j) => (biasesToo ? value - net.rate * values.b_bar[i][j] : value)));
  return { ...net, weights, biases };
}

/** Every path from the chosen weight to the cost: its units, and its factors from the cost down. */
function pathsOf(net, values, chosen) {
  const [layer, to, from] = chosen;
  const last = net.biases.length;
  let ways = [{ units: [to - 1], factors: [intoFactor(net, values, chosen)] }];
  for (let at = layer; at < last; at++) {
    ways = ways.flatMap(({ units, factors }) => {
      const j = units.at(-1);
      const slope = { name: `f'(${unitName(net, at, j)})`, value: values.slope[at - 1][j], kind: layerClass(at) };
      return net.weights[at].map((row, k) => {
        const weight = { name: weightName(at + 1, k + 1, j + 1), value: row[j], kind: "" };
        return { units: [...units, k], factors: [weight, slope, ...factors] };
      });
    });
  }
  return ways.map(({ units, factors }) => {
    const all = [...costFactors(net, values, units.at(-1)), ...factors];
    return { units, factors: all, product: all.reduce((p, f) => p * f.value, 1) };
  });
}

function intoFactor(net, values, [layer, , from]) {
  if (from === null) return { name: "1", value: 1, kind: "" };
  return { name: unitName(net, layer - 1, from - 1), value: values.a[layer - 1][from - 1], kind: layerClass(layer - 1) };
}

function costFactors(net, values, j) {
  const last = net.biases.length;
  const name = unitName(net, last, j);
  if (isFused(net)) return [{ name: `∂C/∂z(${name})`, value: values.delta[last - 1][j], kind: "v-d" }];
  const slope = { name: `f'(${name})`, value: values.slope[last - 1][j], kind: layerClass(last) };
  return [{ name: `∂C/∂${name}`, value: values.a_bar[last - 1][j], kind: "v-d" }, slope];
}

/** [how many numbers, the largest difference] between what was computed here and what JAX computed. */
function compared(ours, theirs) {
  if (ours === null || theirs === null) return ours === theirs ? [0, 0] : [1, Infinity];
  if (typeof ours === "number") {
    return [1, ours === theirs ? 0 : Math.abs(ours - theirs) / Math.max(1, Math.abs(theirs))];
  }
  const keys = Object.keys(theirs);
  const parts = keys.map((key) => compared(ours[key], theirs[key]));
  return [sum(parts.map(([n]) => n)), Math.max(0, ...parts.map(([, d]) => (Number.isNaN(d) ? Infinity : d)))];
}
