"""`compare_gradients`: the hand-written gradient beside the automatic one, leaf by leaf."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs, tree
from jaxbp.backprop import objective, value_and_grad
from jaxbp.contracts import Layer, Loss
from jaxbp.page.tables import Table


AGREE = 1e-9  # the largest error in float64, in units of the leaf's scale, of two gradients that are the same but for rounding
SHARE = 1e-3  # a leaf far below the whole gradient is judged at this share of the whole gradient's largest entry


@dataclasses.dataclass(frozen=True)
class LeafComparison:
    """Largest errors of one leaf of the gradient, in units of the leaf's scale.

    scale: the largest entry of the float64 automatic gradient of the leaf, or 1e-3 of the largest of all leaves.
    hand_f64: hand-written against automatic, both in float64. hand, autodiff: each in `dtype` against the float64 automatic
    gradient. ulp of a dtype: its error divided by the dtype's machine epsilon.
    """

    path: str
    shape: tuple[int, ...]
    scale: float
    hand_f64: float
    hand: float
    autodiff: float


@dataclasses.dataclass(frozen=True)
class GradientComparison:
    """What `compare_gradients` found; `print` it, or take `to_dict()`.

    Ratios are hand-written divided by automatic: medians of alternated paired runs of the compiled `value_and_grad` in
    `dtype` (step), its compilation, and the temporary memory of the compiled program. None where they were not measured.
    """

    leaves: tuple[LeafComparison, ...]
    value_hand: float
    value_autodiff: float
    dtype: str
    device: str
    step_time_ratio: float | None = None
    compile_time_ratio: float | None = None
    memory_ratio: float | None = None

    @property
    def max_error_f64(self) -> float:
        """The largest error of the hand-written gradient in float64, in units of its leaf's scale."""
        return max((leaf.hand_f64 for leaf in self.leaves), default=0.0)

    @property
    def agrees(self) -> bool:
        """Whether no leaf is off by more than 1e-9 of its scale in float64; NaN does not agree."""
        return all(leaf.hand_f64 <= AGREE for leaf in self.leaves)

    @property
    def verdict(self) -> str:
        """One line: how near all leaves are, or which is wrong and by how much."""
        wrong = [leaf for leaf in self.leaves if not leaf.hand_f64 <= AGREE]
        if not wrong:
            return f"ok: in float64 every leaf is within {self.max_error_f64:.1e} of its scale ({AGREE:.0e} is allowed)"
        worst = max(wrong, key=lambda leaf: np.nan_to_num(leaf.hand_f64, nan=np.inf))
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return f"WRONG: in float64 {worst.path} is off by {worst.hand_f64:.1e} of its scale ({AGREE:.0e} is allowed){more}"

    @property
    def max_error(self) -> float:
        """The largest error of the hand-written gradient in `dtype` against float64, in units of its leaf's scale."""
        return max((leaf.hand for leaf in self.leaves), default=0.0)

    def to_dict(self) -> dict:
        low = _SHORT.get(self.dtype, self.dtype)
        rename = {"hand": f"hand_{low}", "autodiff": f"autodiff_{low}"}
        leaves = [{rename.get(k, k): v for k, v in dataclasses.asdict(leaf).items()} for leaf in self.leaves]
        summary = {"max_error_f64": self.max_error_f64, f"max_error_{low}": self.max_error}
        return {**dataclasses.asdict(self), "leaves": leaves, **summary, "agrees": self.agrees}

    def table(self) -> Table:
        low, eps = _SHORT.get(self.dtype, self.dtype), float(jnp.finfo(self.dtype).eps)
        columns = ["leaf", "shape", "scale", "hand f64", f"hand {low}", "ULP", f"jax.grad {low}", "ULP"]
        rows = [(f.path, f.shape, f.scale, f.hand_f64, f.hand, f.hand / eps, f.autodiff, f.autodiff / eps) for f in self.leaves]
        return Table(columns, rows, title="Hand-written gradient and jax.grad", note=self._note())

    def _note(self) -> str:
        ratios = [("step time", self.step_time_ratio), ("compile time", self.compile_time_ratio), ("memory", self.memory_ratio)]
        shown = ", ".join(f"{name} {ratio:.2f}×" for name, ratio in ratios if ratio is not None)
        return "Largest error of each leaf against jax.grad in float64, in units of the leaf's scale (its largest entry)." + (
            f" Hand-written / automatic on {self.device}: {shown}." if shown else ""
        )

    def __str__(self) -> str:
        return f"{self.table()}\n{self.verdict}"

    def _repr_html_(self) -> str:
        return dataclasses.replace(self.table(), note=f"{self.verdict}. {self._note()}").to_html()


_SHORT = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "float64": "f64"}


def compare_gradients(
    net: Layer,
    loss: Loss,
    params: Any,
    x: Any,
    targets: Any,
    *,
    sample_weight: Any = None,
    key: jax.Array | None = None,
    train: bool = True,
    penalty: Any = None,
    dtype: Any = None,
    measure: bool = True,
) -> GradientComparison:
    """The hand-written gradient against `jax.grad` of the same forward, for every leaf of params, in float64 and in `dtype`.

    The truth is the automatic gradient in float64 of the params and data as they are in `dtype` (default: the dtype of
    params where it is narrower than float64, else float32). In float64 the two must agree to rounding; in `dtype` each is
    held against the truth. float64 is switched on locally: nothing global changes. `measure=False` leaves out the time,
    compile and memory ratios (they compile two programs).

    Raises: as `value_and_grad`; ValueError where x or params hold NaN or infinity.
    """
    inputs.check_finite("x", x)
    inputs.check_finite("params", params)
    dtype = jnp.dtype(dtype or _narrow_dtype(params))
    hand = value_and_grad(net, loss, penalty=penalty)
    auto = jax.value_and_grad(objective(net, loss, penalty=penalty))
    options = {"sample_weight": sample_weight, "key": key}
    hand, auto = (jax.jit(lambda p, x, t, o, f=f: f(p, x, t, **o, train=train)) for f in (hand, auto))

    data = tree.cast((params, x, targets, options), dtype)
    value, grads = hand(*data)
    auto_value, auto_grads = auto(*data)
    with jax.enable_x64(True):
        exact = tree.cast(data, jnp.float64)
        (_, grads_64), (_, truth) = hand(*exact), auto(*exact)
    return GradientComparison(
        leaves=_leaves(truth, grads_64, grads, auto_grads),
        value_hand=float(value),
        value_autodiff=float(auto_value),
        dtype=dtype.name,
        device=f"{jax.devices()[0].platform} ({jax.devices()[0].device_kind})",
        **(_ratios(hand, auto, data) if measure else {}),
    )


def _narrow_dtype(params: Any) -> Any:
    floating = [leaf.dtype for leaf in jax.tree.leaves(params) if inputs.is_floating(leaf)]
    dtype = jnp.result_type(*floating) if floating else jnp.float32
    return jnp.float32 if dtype == jnp.float64 else dtype


def _leaves(truth: Any, hand_64: Any, hand: Any, auto: Any) -> tuple[LeafComparison, ...]:
    arrays = [[np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(grads)] for grads in (truth, hand_64, hand, auto)]
    largest = [float(np.max(np.abs(t), initial=0)) for t in arrays[0]]
    found = []
    for path, own, t, *others in zip(tree.paths(truth, "params"), largest, *arrays, strict=True):
        scale = max(own, SHARE * max(largest))
        errors = [
            float(np.max(np.abs(g - t), initial=0)) / scale if scale else float(np.max(np.abs(g), initial=0)) for g in others
        ]
        found.append(LeafComparison(path, t.shape, scale, *errors))
    return tuple(found)


def _ratios(hand: Callable, auto: Callable, data: tuple, pairs: int = 15) -> dict[str, float | None]:
    programs, _ = _compile_both(hand, auto, data)
    compile_ratio = float(
        np.median([first / second for _, (first, second) in (_compile_both(hand, auto, data) for _ in range(3))])
    )
    memory = [program.memory_analysis().temp_size_in_bytes for program in programs]
    for program in programs:
        jax.block_until_ready(program(*data))
    repeats = max(1, int(2e-3 / max(_seconds(programs[0], data, 3) / 3, 1e-9)))
    # alternated, so that whatever else the machine does falls on both alike
    ratios = [_seconds(programs[0], data, repeats) / _seconds(programs[1], data, repeats) for _ in range(pairs)]
    return {
        "step_time_ratio": float(np.median(ratios)),
        "compile_time_ratio": compile_ratio,
        "memory_ratio": memory[0] / memory[1] if memory[1] else None,
    }


def _compile_both(hand: Callable, auto: Callable, data: tuple) -> tuple[list, list[float]]:
    """The two compiled programs and the seconds that XLA took for each; tracing, shared by both, is done before."""
    programs, seconds = [], []
    for lowered in [fun.lower(*data) for fun in (hand, auto)]:  # type: ignore[attr-defined]
        start = time.perf_counter()
        programs.append(lowered.compile())
        seconds.append(time.perf_counter() - start)
    return programs, seconds


def _seconds(program: Callable, data: tuple, repeats: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready([program(*data) for _ in range(repeats)])
    return time.perf_counter() - start
