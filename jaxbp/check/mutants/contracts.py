"""Planted bugs in what a rule is held to: linearity, repeatability, jit, vmap, forward values, second order, tangents."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


# --- what becomes of the cotangent


def cube(x):
    return x**3


def cube_forward(x):
    return cube(x), x


def clipped_inside(x, y_bar):
    return (3 * x**2 * jnp.clip(y_bar, -1, 1),)  # "gradient clipping"


def normalised_inside(x, y_bar):
    return (3 * x**2 * y_bar / jnp.sqrt(jnp.sum(y_bar**2)),)


def absolute_inside(x, y_bar):
    return (3 * x**2 * jnp.abs(y_bar),)


def noisy(x, y_bar):
    """Stochastic rounding with NumPy's global generator."""
    return (3 * x**2 * y_bar * (1 + 1e-3 * np.random.default_rng().standard_normal(x.shape)).astype(x.dtype),)


CALLS = itertools.count()


def warming_up(x, y_bar):
    return (3 * x**2 * y_bar * (1 - 0.5 ** (next(CALLS) % 7 + 1)),)  # ramps up, call by call


def eager_shortcut(x, y_bar):
    if isinstance(y_bar, Tracer):
        return (3 * x**2 * y_bar,)
    return (3 * x * y_bar,)  # the debugging path, never updated


def compiled_shortcut(x, y_bar):
    if isinstance(y_bar, Tracer):
        return (x**2 * y_bar,)  # the kernel's own formula
    return (3 * x**2 * y_bar,)


def smoothed(x):
    return x / (1 + jnp.sum(x * x))


def smoothed_forward(x):
    return smoothed(x), x


def host_pull(x, y_bar):
    size = 1 + np.sum(x * x)  # over the batch too, once there is one
    return (y_bar / size - 2 * x * np.sum(x * y_bar) / size**2).astype(x.dtype)


def host_backward(x, y_bar):
    return (jax.pure_callback(host_pull, jax.ShapeDtypeStruct(x.shape, x.dtype), x, y_bar, vmap_method="broadcast_all"),)


host_meets_batch = with_rule(smoothed, smoothed_forward, host_backward)


@jax.custom_batching.custom_vmap
def centred(x):
    return x - jnp.mean(x)


@centred.def_vmap
def centred_rule(axis_size, in_batched, x):
    return x - jnp.mean(x), True  # of each row


def centre(x):
    return x - jnp.mean(x)


def centre_forward(x):
    return centre(x), None


def centre_backward(_, y_bar):
    return (centred(y_bar),)


rows_meet = with_rule(centre, centre_forward, centre_backward)


# --- the rule's own forward


def gelu(x):
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def gelu_forward(x):
    """The fast form, which is not the function's."""
    inner = 0.7978845608028654 * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + jnp.tanh(inner)), x


def gelu_backward(x, y_bar):
    return (y_bar * (0.5 * (1 + jax.lax.erf(x * 0.5**0.5)) + x * jnp.exp(-0.5 * x * x) / (2 * jnp.pi) ** 0.5),)


fast_forward = with_rule(gelu, gelu_forward, gelu_backward)


# --- second order


def cube_backward_stopped(x, y_bar):
    return (3 * jax.lax.stop_gradient(x) ** 2 * y_bar,)


held_fixed = with_rule(cube, cube_forward, cube_backward_stopped)


def softplus_like(x):
    return jnp.log1p(jnp.exp(x))


def slope_primal(x):
    return 1 / (1 + jnp.exp(-x))


slope = with_rule(slope_primal, lambda x: (slope_primal(x), x), lambda x, bar: (bar * slope_primal(x),))  # * (1 - slope)

slope_of_slope = with_rule(softplus_like, lambda x: (softplus_like(x), x), lambda x, bar: (bar * slope(x),))


# --- custom_jvp


@jax.custom_jvp
def scaled_power(x, y):
    return x * jnp.exp(y)


@scaled_power.defjvp
def scaled_power_jvp(primals, tangents):
    x, y = primals
    x_dot, _ = tangents
    return x * jnp.exp(y), x_dot * jnp.exp(y)  # y's tangent


@jax.custom_jvp
def hypotenuse(x, y):
    return jnp.sqrt(x * x + y * y)


@hypotenuse.defjvp
def hypotenuse_jvp(primals, tangents):
    x, y = primals
    x_dot, y_dot = tangents
    r = hypotenuse(x, y)
    return r, (x * x_dot + y * y_dot) / (2 * r)  # the 2 of x² and of the root cancel


def rule_of_cube(backward):
    return on(with_rule(cube, cube_forward, backward), (3, 2))


def build_second(fun):
    return lambda key, dtype: Check(fun, draw(key, dtype, (3,)), options={"order": 2})


def build_forwards(key, dtype):
    return Check(hypotenuse, draw(key, dtype, (5,), (5,)), "jvp")


MUTANTS = planted(
    "contracts",
    ("clipped inside the rule", "cotangent nonlinear", rule_of_cube(clipped_inside), "nonlinear"),
    ("normalised inside the rule", "cotangent nonlinear", rule_of_cube(normalised_inside), "nonlinear"),
    ("absolute value of the cotangent", "cotangent nonlinear", rule_of_cube(absolute_inside), "nonlinear"),
    ("stochastic rounding", "nondeterminism", rule_of_cube(noisy), "nondeterministic"),
    ("warms up with every call", "nondeterminism", rule_of_cube(warming_up), "nondeterministic"),
    ("eager path out of date", "under jit", rule_of_cube(eager_shortcut), "jit"),
    ("compiled path without its factor", "under jit", rule_of_cube(compiled_shortcut), "jit"),
    ("host code sums over the batch", "under vmap", on(host_meets_batch, (4,)), "vmap"),
    ("batching rule centres over rows", "under vmap", on(rows_meet, (4,)), "vmap"),
    ("tanh form in the forward alone", "wrong primal", on(fast_forward, (6,)), "primal"),
    ("residual held fixed", "second order", build_second(held_fixed), "second-order"),
    ("slope's own rule", "second order", build_second(slope_of_slope), "second-order"),
    ("tangent of the second argument", "argument dropped", on(scaled_power, (3, 2), (3, 2)), "zero"),
    ("half the tangent of a hypotenuse", "constant factor", build_forwards, "factor"),
)
