"""The caller's own dtype and configuration, and what transformations make of a rule: jit, vmap."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check.asked import UNTRACED, first_line, untraced
from jaxbp.check.comparing import own_eps
from jaxbp.check.findings import Findings
from jaxbp.check.instruments import Instruments, arrays
from jaxbp.check.judge import EPS, MARGIN, scales
from jaxbp.check.problem import Problem, dtype_of, is_key
from jaxbp.check.programs import Program


TINY = 1e-250


class OwnRuns:
    """Results in the caller's own dtype and configuration: the claim eagerly and jitted, the plain autodiff jitted."""

    def __init__(self, found: Findings, problem: Problem, seeds: list, eager: list):
        self.eager, self.wide = eager, bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
        self.traceable, self.jitted, self.plain = True, None, None
        self._claim, self._plain = Program(problem.claim), Program(problem.truth)
        if not found.rules:
            return
        try:
            self.jitted = arrays(self._claim(problem.leaves, seeds)[0])
        except UNTRACED as error:
            self.traceable, (why, advice) = False, untraced(error)
            if problem.handwritten:  # a gradient in NumPy may be meant for use outside of jit
                found.not_run(("jit", "vmap"), f"{problem.subject} cannot be traced by JAX: {why}")
            else:
                found.fail("jit", "jit", f"the rule cannot be traced by JAX: {why}; {advice}")
        except Exception as error:
            found.fail("jit", "jit", f"under jit it raises {type(error).__name__}: {first_line(error)}")
        try:
            self.plain = arrays(self._plain(problem.leaves, seeds)[0])
        except Exception:  # no autodiff of the primal; the step that needs it will say so
            return

    def overflow(self, problem: Problem, leaves: tuple, seeds: list) -> str:
        """What the claim loses at other inputs in its own dtype, where the plain form does not; float64 has a wider range."""
        own = {dtype_of(problem.leaves[i]) for i in problem.diff}
        if self.jitted is None or self.plain is None or not own <= {jnp.dtype(np.float32), jnp.dtype(jnp.bfloat16)}:
            return ""
        cast = lambda leaf, like: leaf if is_key(leaf) else np.asarray(leaf).astype(dtype_of(like))
        with jax.enable_x64(self.wide):
            at = tuple(jnp.asarray(cast(leaf, like)) for leaf, like in zip(leaves, problem.leaves, strict=True))
            claimed = arrays(self._claim(at, seeds)[0])
            if all(np.isfinite(c).all() for c in claimed):
                return ""
            plain, outs = self._plain(at, seeds)
        if not all(np.isfinite(o).all() for o in arrays(outs)):
            return ""
        return lost(problem, claimed, arrays(plain))


def lost(problem: Problem, claimed: list, plain: list) -> str:
    """Where the claim is not finite in its own dtype and the plain form is."""
    for path, c, p in zip(problem.paths, claimed, plain, strict=True):
        bad = np.argwhere(~np.isfinite(c) & np.isfinite(p))
        if len(bad):
            at = tuple(int(k) for k in bad[0])
            return f"in its own dtype {path} is {c[at]} at {list(at)}, where autodiff of the plain function gives {p[at]:.6g}"
    return ""


def own_dtype(found: Findings, tools: Instruments, leaves: tuple, seeds: list, own: OwnRuns) -> None:
    """Jitted against eager, and the digits in the caller's own dtype against float64."""
    if not found.rules:
        return
    problem = tools.problem
    eps = own_eps(problem.leaves, problem.diff)
    truth = tools.truth(leaves, seeds, eps / EPS)
    wide = tools.claim(leaves, seeds).results  # found right by now; at kinks it may hold to another convention than autodiff
    # where autodiff says 0 and central differences side with the claim, the claim has the scale
    sizes = [max(a, b, TINY) for a, b in zip(scales(truth.results), scales(wide), strict=True)]
    limits = [MARGIN * n + 64 * eps * s for n, s in zip(truth.results_noise, sizes, strict=True)]
    _jit_against_eager(found, problem.paths, own, limits)
    if eps == EPS or own.plain is None or found.failed("cotangent", "tangent", "jit"):
        return
    if text := lost(problem, own.eager, own.plain):
        found.fail("own dtype", "nan", text)
    elif text := _lost_digits(problem.paths, own, wide, truth.results, limits, sizes):
        found.fail("own dtype", "dtype", text)
    else:
        found.step("own dtype", "pass")


def _differ(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two finite entries."""
    return float(np.max(np.where(np.isfinite(a) & np.isfinite(b), np.abs(a - b), 0.0), initial=0.0))


def _jit_against_eager(found: Findings, paths: tuple, own: OwnRuns, limits: list) -> None:
    if own.jitted is None:
        return
    for path, a, b, limit in zip(paths, own.jitted, own.eager, limits, strict=True):
        if _differ(a, b) > limit:
            found.fail("jit", "jit", f"{path} differs by {_differ(a, b):.3g} between jit and eager")
            return
    found.step("jit", "pass")


def _lost_digits(paths: tuple, own: OwnRuns, wide: list, truth: list, limits: list, sizes: list) -> str | None:
    """Which leaf loses digits in its own dtype, and how many, told beside the plain form."""
    assert own.plain is not None
    for path, e, w, p, t, limit, size in zip(paths, own.eager, wide, own.plain, truth, limits, sizes, strict=True):
        # what a function draws at random may differ from float64; then the plain form tells how far
        error, usual = _differ(e, w), _differ(p, t)
        if error > limit and error > 4 * usual:
            return (
                f"{path}: in its own dtype it loses digits: off by {error / size:.3g} of the leaf's scale, "
                f"the plain form by {usual / size:.3g}"
            )
    return None


def mapped(found: Findings, tools: Instruments, leaves: tuple, seeds: list, rng: np.random.Generator) -> None:
    """The rule mapped over two inputs against the rule at each."""
    diff = tools.problem.diff
    other = tuple(0.75 * np.asarray(leaf) if i in diff else leaf for i, leaf in enumerate(leaves))
    axes = tuple(0 if i in diff else None for i in range(len(leaves)))
    stacked = tuple(np.stack([a, b]) if i in diff else a for i, (a, b) in enumerate(zip(leaves, other, strict=True)))
    fixed = tools.problem.seeds is not None
    pair = [seeds, seeds if fixed else [s * rng.uniform(0.5, 1.5, np.shape(s)) for s in seeds]]
    try:
        both = arrays(
            Program(jax.vmap(lambda xs, s: tools.problem.claim(xs, s)[0], (axes, 0)))(
                stacked, list(map(np.stack, zip(*pair, strict=True)))
            )
        )
    except Exception as error:
        if any(words in str(error) for words in ("vmap", "batch")):
            found.step("vmap", "pass", f"cannot be mapped: {first_line(error)}")
        else:
            found.fail("vmap", "vmap", f"under vmap it raises {type(error).__name__}: {first_line(error)}")
        return
    for k, (at, s) in enumerate(zip((leaves, other), pair, strict=True)):
        alone, noise = tools.claim(at, s).results, tools.truth(at, s).results_noise
        for path, b, a, n, scale in zip(tools.problem.paths, both, alone, noise, scales(alone), strict=True):
            error = float(np.max(np.where(np.isfinite(a), np.abs(b[k] - a), 0.0), initial=0.0))
            if error > max(4 * MARGIN * n, 1e-10 * scale, 1e-250):
                found.fail("vmap", "vmap", f"{path} differs by {error:.3g} between vmap and a loop")
                return
    found.step("vmap", "pass")
