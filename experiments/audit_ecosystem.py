"""Audit the custom rules that JAX, Optax and, where installed, Flax and Equinox ship: how many are right, and what is not.

Every entry is a function and arguments inside its domain, away from points where it has no derivative. Rules that are known
to be no derivative, on purpose (a gradient that is scaled) or by a loss of digits, are marked, and must be found wrong.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from rich.console import Console
from rich.table import Table

from experiments.config import AuditEcosystem, UsageError
from jaxbp.check.audit import audit


class Case(NamedTuple):
    """A function and arguments to audit it at. `known` says why a rule in it is no derivative, where that is known."""

    name: str
    fun: Callable
    args: tuple
    known: str = ""


X = np.array([-1.7, -0.6, 0.25, 0.9, 2.3, 7.5], np.float32)  # on the whole line
P = np.array([0.3, 0.8, 1.4, 2.6, 5.2, 11.0], np.float32)  # above 0
U = np.array([0.05, 0.2, 0.45, 0.62, 0.8, 0.97], np.float32)  # between 0 and 1
A = np.array([[2.0, -0.7, 0.4], [0.3, 1.5, -0.9], [0.8, 0.2, -1.1]], np.float32)
TALL = np.array([[1.0, 0.4], [-0.3, 1.2], [0.7, -0.5]], np.float32)
LARGE = np.linspace(-1, 1, 36, dtype=np.float32).reshape(6, 6) ** 2 + 2 * np.eye(6, dtype=np.float32)
LABELS = np.array([0, 2, 1])


def jax_cases() -> Iterator[Case]:
    """Rules of jax.nn, jax.lax, jax.numpy, jax.scipy and jax.experimental."""
    nn, special = jax.nn, jax.scipy.special
    unary = "relu relu6 silu gelu elu celu selu softplus sparse_plus sparse_sigmoid soft_sign sigmoid log_sigmoid hard_sigmoid"
    unary += " hard_silu hard_tanh leaky_relu squareplus mish tanh softmax log_softmax logsumexp standardize glu"
    yield from (Case(f"jax.nn.{name}", getattr(nn, name), (X,)) for name in unary.split() if hasattr(nn, name))
    yield Case("jax.nn.log1mexp", nn.log1mexp, (P,))
    yield Case(
        "jax.nn.dot_product_attention", nn.dot_product_attention, (A[:, None, :], A[:, None, :] + 0.1, A[:, None, :] - 0.2)
    )
    yield Case("jax.numpy.logaddexp", jnp.logaddexp, (X, X[::-1].copy()))
    yield Case("jax.numpy.logaddexp2", jnp.logaddexp2, (X, X[::-1].copy()))
    yield Case("jax.numpy.logaddexp.reduce", jnp.logaddexp.reduce, (X,))
    yield Case("jax.numpy.i0", jnp.i0, (X,))
    yield Case("jax.numpy.frexp", jnp.frexp, (X,))
    yield Case("jax.numpy.sinc", jnp.sinc, (X,))
    yield Case("jax.numpy.sinc at 0", jnp.sinc, (np.zeros(3, np.float32),))
    yield Case("jax.numpy.linalg.slogdet", jnp.linalg.slogdet, (A,))
    yield Case("jax.numpy.linalg.slogdet 6x6", jnp.linalg.slogdet, (LARGE,))
    yield Case("jax.numpy.linalg.slogdet by QR", functools.partial(jnp.linalg.slogdet, method="qr"), (A,))
    yield Case("jax.numpy.linalg.det", jnp.linalg.det, (A,))
    yield Case("jax.numpy.linalg.det 6x6", jnp.linalg.det, (LARGE,))
    yield Case("jax.numpy.linalg.pinv", jnp.linalg.pinv, (TALL,))
    yield Case("jax.numpy.linalg.pinv of a symmetric matrix", symmetric_pinv, (A,))
    yield from (
        Case(f"jax.scipy.special.{name}", getattr(special, name), args) for name, args in SPECIAL if hasattr(special, name)
    )
    yield Case("jax.scipy.stats.norm.logcdf", jax.scipy.stats.norm.logcdf, (X,))
    yield Case("jax.scipy.stats.gamma.logpdf", jax.scipy.stats.gamma.logpdf, (P, P + 0.3))
    yield Case("jax.scipy.stats.beta.logpdf", jax.scipy.stats.beta.logpdf, (U, P, P + 0.3))
    yield Case("jax.scipy.stats.poisson.logpmf", poisson, (P,))
    yield Case("jax.scipy.linalg.expm", jax.scipy.linalg.expm, (A,))
    yield Case("jax.image.resize", functools.partial(jax.image.resize, shape=(5, 4), method="cubic"), (A,))
    yield Case("jax.lax.associative_scan of logaddexp", functools.partial(lax.associative_scan, jnp.logaddexp), (X,))
    yield Case("jax.experimental.ode.odeint", ode, (np.float32(0.7), np.float32(1.3)))
    yield Case("scan over relu and logaddexp", scanned, (X, P))
    yield Case("remat, vmap and cond around rules", placed, (A, np.float32(0.4)))


SPECIAL = [
    ("dawsn", (X,)), ("erfcx", (X,)), ("wofz", (X,)), ("logit", (U,)), ("xlogy", (P, U)), ("xlog1py", (X, U)), ("entr", (P,)),
    ("rel_entr", (U, P)), ("kl_div", (U, P)), ("zeta", (P + 1, P)), ("log_ndtr", (X,)), ("ndtr", (X,)), ("ndtri", (U,)),
    ("expi", (P,)), ("exp1", (P,)), ("expn", (2, P)), ("sici", (P,)), ("poch", (P, P + 0.5)), ("owens_t", (X, U)),
    ("fresnel", (X,)), ("spence", (P,)), ("hyp1f1", (P, P + 1, U)), ("hyp2f1", (P, P + 1, P + 2.5, 0.5 * U)), ("i0", (X,)),
    ("i0e", (X,)), ("i1", (X,)), ("i1e", (X,)), ("betaln", (P, P + 1)), ("betainc", (P, P, U)), ("beta", (P, P + 1)),
    ("gammaln", (P,)), ("gammasgn", (P,)), ("gamma", (P,)), ("gammainc", (P, P + 1)), ("gammaincc", (P, P + 1)),
    ("digamma", (P,)), ("polygamma", (1, P)), ("factorial", (P,)), ("expit", (X,)), ("logsumexp", (X,)),
    ("log_softmax", (X,)), ("softmax", (X,)),
    ("erf", (X,)), ("erfc", (X,)), ("erfinv", (2 * U - 1,)), ("multigammaln", (P + 2, 2)), ("bernoulli", (4,)),
    ("boxcox", (P, U)), ("boxcox1p", (P, U)), ("log_wright_bessel", (P, P, P)), ("ellipk", (U,)), ("lambertw", (P,)),
]  # fmt: skip


def symmetric_pinv(a: Any) -> Any:
    return jnp.linalg.pinv(a + a.T, hermitian=True)


def poisson(rate: Any) -> Any:
    return jax.scipy.stats.poisson.logpmf(jnp.arange(6), rate)


def ode(start: Any, rate: Any) -> Any:
    from jax.experimental.ode import odeint

    return odeint(lambda y, t, rate: -rate * y + jnp.sin(t), start, jnp.linspace(0.0, 1.0, 3), rate, rtol=1e-9, atol=1e-9)


def scanned(x: Any, p: Any) -> Any:
    step = lambda carry, item: (jnp.logaddexp(jax.nn.relu(carry), item), jax.scipy.special.xlogy(item, item))
    return lax.scan(step, x, jnp.stack([p, 2 * p, 3 * p]))


def placed(a: Any, t: Any) -> Any:
    rows = jax.vmap(jax.checkpoint(lambda row: jax.nn.relu(row * t) + jax.scipy.special.dawsn(row)))(a)
    return lax.cond(t > 0, lambda r: jnp.linalg.det(r + jnp.eye(3)), lambda r: jnp.sum(jax.nn.relu6(r)), rows)


def optax_cases() -> Iterator[Case]:
    """Optax losses and projections."""
    import optax

    logits, positive = A, np.abs(A) + 0.1
    onehot, probs = np.eye(3, dtype=np.float32)[LABELS], positive / positive.sum(1, keepdims=True)
    losses, projections = optax.losses, optax.projections
    for name in ("softmax_cross_entropy", "safe_softmax_cross_entropy", "sigmoid_binary_cross_entropy", "sigmoid_focal_loss"):
        yield Case(f"optax.{name}", getattr(losses, name), (logits, onehot))
    yield Case("optax.softmax_cross_entropy, soft labels", losses.safe_softmax_cross_entropy, (logits, probs))
    for name in ("softmax_cross_entropy_with_integer_labels", "poly_loss_cross_entropy"):
        yield Case(f"optax.{name}", getattr(losses, name), (logits, LABELS if "integer" in name else probs))
    for name in ("squared_error", "l2_loss", "huber_loss", "log_cosh", "cosine_similarity", "cosine_distance"):
        yield Case(f"optax.{name}", getattr(losses, name), (logits, probs))
    for name in ("kl_divergence", "convex_kl_divergence"):
        yield Case(f"optax.{name}", getattr(losses, name), (np.log(probs), probs))
    yield Case(
        "optax.kl_divergence_with_log_targets", losses.kl_divergence_with_log_targets, (np.log(probs), np.log(probs[::-1]).copy())
    )
    for name in ("hinge_loss", "perceptron_loss", "sparsemax_loss"):
        yield Case(f"optax.{name}", getattr(losses, name), (X, np.array([1, 0, 1, 1, 0, 1], np.float32)))
    for name in ("multiclass_hinge_loss", "multiclass_perceptron_loss", "multiclass_logistic_loss", "multiclass_sparsemax_loss"):
        if hasattr(losses, name):
            yield Case(f"optax.{name}", getattr(losses, name), (logits, LABELS))
    yield Case("optax.ctc_loss", losses.ctc_loss, ctc(), "at -1e5 in float32 logaddexp's rule gives .4989 for .5")
    for name in ("ranking_softmax_loss", "smooth_labels"):
        yield Case(f"optax.{name}", getattr(losses, name), (logits, positive) if "rank" in name else (probs, 0.1))
    yield Case("optax.projection_simplex", projections.projection_simplex, (A[0] / 4,))
    yield Case("optax.projection_l1_ball", projections.projection_l1_ball, (A[0],))
    yield Case("optax.projection_l1_sphere", projections.projection_l1_sphere, (A[0],))
    yield Case("optax.projection_l2_ball", projections.projection_l2_ball, (A[0],))
    yield Case(
        "optax.scale_gradient",
        functools.partial(optax.scale_gradient, scale=0.5),
        (A,),
        "it scales the gradient and leaves the value",
    )


def ctc() -> tuple:
    logits = np.linspace(-1, 1, 2 * 5 * 4, dtype=np.float32).reshape(2, 5, 4) ** 3
    return logits, np.zeros((2, 5), np.float32), np.array([[1, 2, 3], [2, 1, 0]]), np.array([[0, 0, 0], [0, 0, 1]], np.float32)


def flax_cases() -> Iterator[Case]:
    """Flax layers with rules inside, and its own rules (float8 operations)."""
    nn = importlib.import_module("flax.linen")

    for name in ("relu", "relu6", "gelu", "silu", "softplus", "log_sigmoid", "logsumexp", "softmax"):
        if hasattr(nn, name):
            yield Case(f"flax.linen.{name}", getattr(nn, name), (X,))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.remat(nn.Dense)(4)(x)
            x = nn.relu(nn.LayerNorm()(x))
            return nn.Dense(3)(nn.relu6(x))

    net = Net()
    params = net.init(jax.random.key(0), A)
    yield Case("flax.linen network", lambda params, x: jnp.sum(net.apply(params, x) ** 2), (params, A))
    cell = nn.RNN(nn.OptimizedLSTMCell(3))
    state = cell.init(jax.random.key(1), A[None])
    yield Case("flax.linen.RNN", lambda params, x: jnp.sum(jax.nn.relu(cell.apply(params, x))), (state, A[None]))


def equinox_cases() -> Iterator[Case]:
    """Equinox models, held static where they are no arrays, and its own rules."""
    eqx = importlib.import_module("equinox")

    model = eqx.nn.MLP(3, 2, 4, 2, activation=jax.nn.relu, key=jax.random.key(0))
    yield Case("equinox.nn.MLP", lambda model, x: jnp.sum(jax.vmap(model)(x) ** 2), (model, A))
    loop = functools.partial(eqx.internal.while_loop, kind="checkpointed", checkpoints=3, max_steps=8)
    counted = lambda x: loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, jnp.sin(c[1]) + jax.nn.relu(c[1])), (0, x))[1]
    yield Case("equinox.internal.while_loop, checkpointed", counted, (P,))
    yield Case("equinox.internal.nextafter", lambda x: eqx.internal.nextafter(x), (X,))
    yield Case("equinox.internal.prevbefore", lambda x: eqx.internal.prevbefore(x), (X,))


SOURCES = {"jax": jax_cases, "optax": optax_cases, "flax": flax_cases, "equinox": equinox_cases}


def run(options: AuditEcosystem) -> int:
    """Print a line for each function, every finding with its reproduction, and the counts; 1 where a finding is not meant."""
    unknown = set(options.sources) - SOURCES.keys()
    if unknown:
        raise UsageError(f"--sources: expected any of {', '.join(SOURCES)}, got {', '.join(sorted(unknown))}")
    table = Table("source", "functions", "without rules", "rules", "different", "pass", "FAIL", "of these known", "inconclusive")
    unexpected = 0
    for source in options.sources:
        if not _installed(source):
            print(f"{source}: not installed, skipped")
            continue
        cases = [case for case in SOURCES[source]() if options.only in case.name]
        counts = sum((_audit(case, options.seed) for case in cases), Counter())
        unexpected += counts["fail"] - counts["known"] + counts["missed"]
        columns = ("without", "rules", "different", "pass", "fail", "known", "inconclusive")
        table.add_row(source, str(len(cases)), *(str(counts[name]) for name in columns))
    Console().print(table)
    return 1 if unexpected else 0


def _installed(source: str) -> bool:
    try:
        importlib.import_module(source)
    except ImportError:
        return False
    return True


def _audit(case: Case, seed: int) -> Counter:
    """Audit one function, print what was found, and count it."""
    started = time.perf_counter()
    try:
        found = audit(case.fun, *case.args, key=seed)
    except ValueError as error:  # the function of this version does not take the arguments
        print(f"{case.name}: {error}", flush=True)
        return Counter(without=1)
    seconds = time.perf_counter() - started
    verdict = found.verdict if found.rules else "no rule"
    print(f"{case.name}: {verdict}, {len(found.rules)} rules, {seconds:.1f} s", flush=True)
    shown = set()
    for rule in found.rules:
        if rule.verdict == "pass" or (rule.name, rule.verdict, rule.reason) in shown:
            continue
        shown.add((rule.name, rule.verdict, rule.reason))
        why = f" (known: {case.known})" if case.known else ""
        print(f"  {rule.verdict} {rule.name} at {rule.called_at}: {rule.reason}{why}")
        if rule.verdict == "fail" and rule.report is not None and (rule.name, id(rule.report)) not in shown:
            shown.add((rule.name, id(rule.report)))
            print(rule.report)
    verdicts = Counter(rule.verdict for rule in found.rules)
    wrong = verdicts["fail"] if case.known else 0
    different = len({(rule.name, rule.defined_at) for rule in found.rules})
    counts = {"rules": len(found.rules), "different": different, **verdicts, "known": wrong}
    return Counter({**counts, "without": int(not found.rules), "missed": int(bool(case.known) and not wrong)})
