// How numbers are written, and what units and weights are called.

const raised = (n) => String(n).replace(/\d/g, (d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]);
const lowered = (n) => String(n).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[d]);

function bare(written) {
  const [mantissa, exponent] = written.split("e");
  const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
  return (short + (exponent === undefined ? "" : `e${exponent}`)).replaceAll("-", "−");
}

/** Nine decimals without zeros at the end; small and large numbers as 4.38568e−7. */
function full(x) {
  if (Number.isNaN(x)) return "not a number";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  return bare(size >= 1e-5 && size < 1e6 ? x.toFixed(9) : x.toExponential(5));
}

/** Four digits, for the drawing. */
function short(x) {
  if (x === 0 || !Number.isFinite(x)) return full(x);
  const size = Math.abs(x);
  if (size < 1e-4 || size >= 1e5) return bare(x.toExponential(2));
  return bare(x.toFixed(Math.max(0, 3 - Math.floor(Math.log10(size)))));
}

const signed = (x) => (x < 0 ? `(${full(x)})` : full(x));

/** x₁ of the inputs, o₁ of the outputs, h₁ of a single hidden layer, h²₁ of the second of several. j counts from 0. */
function unitName(net, layer, j) {
  const last = net.biases.length;
  if (layer === 0 || layer === last) return `${layer === 0 ? "x" : "o"}${lowered(j + 1)}`;
  return `h${last === 2 ? "" : raised(layer)}${lowered(j + 1)}`;
}

/** w²₁₁ leads to unit 1 of layer 2 from unit 1 of layer 1; b²₁ is a bias. Units count from 1. */
function weightName(layer, to, from) {
  return from === null ? `b${raised(layer)}${lowered(to)}` : `w${raised(layer)}${lowered(to)}${lowered(from)}`;
}

/** w²₁₁ (Mazur's w5), where the text of the example has a name for it. */
function calledName(data, [layer, to, from]) {
  const called = data.names[`${layer},${to},${from ?? "b"}`];
  return weightName(layer, to, from) + (called ? ` (${data.author}’s ${called})` : "");
}

function wayOf(net, [layer, to, from]) {
  const end = unitName(net, layer, to - 1);
  return from === null ? `bias of ${end}` : `${unitName(net, layer - 1, from - 1)} → ${end}`;
}

const layerClass = (layer) => (layer === 0 ? "of-inputs" : `of-${((layer - 1) % 4) + 1}`);
const plural = (n, one) => `${n} ${n === 1 ? one : `${one}s`}`;
const small = (n) => (n >= 1 && n <= 8 ? "one two three four five six seven eight".split(" ")[n - 1] : String(n));
const capital = (word) => word[0].toUpperCase() + word.slice(1);
