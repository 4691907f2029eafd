"""Planted bugs in single functions: logarithms, powers, bounds, guards, angles, series, functions of the host."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


def relative_log(x):
    return jnp.log1p(x)


def relative_log_backward(x, bar):
    return (bar / x,)  # 1 + x


log_of_x = with_rule(relative_log, lambda x: (relative_log(x), x), relative_log_backward)


def safe_log(x):
    positive = x > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, x, 1)), 0)


def safe_log_backward(x, bar):
    return (bar * jnp.where(x > 0, 1, 0) / x,)  # 0/0 at the masked zeros


guard_outside = with_rule(safe_log, lambda x: (safe_log(x), x), safe_log_backward)


def build_zeros(key, dtype):
    (x,) = draw(key, dtype, (6,))
    return Check(guard_outside, (x.at[0].set(0).at[1].set(2),))


def bounded(x, low, high):
    return jnp.clip(x, low, high)


def bounded_forward(x, low, high):
    return bounded(x, low, high), (x, low, high)


def bounded_backward(residuals, bar):
    x, low, high = residuals
    low_bar, high_bar = jnp.sum(jnp.where(x < low, bar, 0)), jnp.sum(jnp.where(x > high, bar, 0))
    return jnp.where(x > low, bar, 0), low_bar, high_bar  # and x < high


upper_bound_open = with_rule(bounded, bounded_forward, bounded_backward)


def build_bounds(key, dtype):
    x = jnp.array([-2, -0.5, 0.4, 1.5, 3, 0.1], dtype) + 0.1 * jax.random.uniform(key, (6,), dtype)
    return Check(upper_bound_open, (x, jnp.array(-1, dtype), jnp.array(1, dtype)))


def error_function(x):
    return jax.lax.erf(x)


def error_function_backward(x, bar):
    return (bar * (2 / jnp.pi) ** 0.5 * jnp.exp(-x * x),)  # 2 / sqrt(pi)


gaussian_constant = with_rule(error_function, lambda x: (error_function(x), x), error_function_backward)


def softplus(x):
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def softplus_backward_early(x, bar):
    return (jnp.where(x > 2, bar, bar / (1 + jnp.exp(-x))),)  # saturated from 20, not from 2


def softplus_backward_plain(x, bar):
    return (bar * jnp.exp(x) / (1 + jnp.exp(x)),)  # inf / inf for large x


def softplus_forward(x):
    return softplus(x), x


saturates_early = with_rule(softplus, softplus_forward, softplus_backward_early)
softplus_overflows = with_rule(softplus, softplus_forward, softplus_backward_plain)


def build_softplus_early(key, dtype):
    return Check(saturates_early, (jnp.array([-1, 2.5, 0.3, 3, 1.2], dtype) + 0.3 * jax.random.uniform(key, (5,), dtype),))


def build_softplus_moderate(key, dtype):
    return Check(softplus_overflows, (1 + jax.random.uniform(key, (4,), dtype),))


def angle(y, x):
    return jnp.arctan2(y, x)


def angle_backward(residuals, bar):
    y, x = residuals
    square = x * x + y * y
    return -bar * y / square, bar * x / square  # arctan2(y, x) has x's formula second


angle_order = with_rule(angle, lambda y, x: (angle(y, x), (y, x)), angle_backward)


def power(x, p):
    return x**p


def power_backward(residuals, bar):
    x, p = residuals
    return bar * p * x**p, bar * jnp.log(x) * x**p  # x^(p - 1)


power_kept = with_rule(power, lambda x, p: (power(x, p), (x, p)), power_backward)


def build_power(key, dtype):
    x, p = draw(key, dtype, (4, 2), (4, 2))
    return Check(power_kept, (jnp.abs(x) + 0.5, p))


def three_halves(x):
    """|x|^1.5"""
    return jnp.abs(x) ** 1.5


def three_halves_backward(x, bar):
    return (bar * 1.5 * jnp.sqrt(jnp.abs(x)),)  # sign(x): written while looking at lengths


sign_of_x = with_rule(three_halves, lambda x: (three_halves(x), x), three_halves_backward)


def build_positive_entries(key, dtype):
    return Check(sign_of_x, (0.5 + jax.random.uniform(key, (5,), dtype),))


def masked_mean(x, mask):
    return jnp.sum(jnp.where(mask, x, 0)) / jnp.maximum(jnp.sum(mask), 1)


def masked_mean_backward(residuals, bar):
    x, mask = residuals
    return jnp.where(mask, bar, 0) / jnp.sum(mask).astype(x.dtype), None  # 0/0 for an empty mask


empty_mask = with_rule(masked_mean, lambda x, mask: (masked_mean(x, mask), (x, mask)), masked_mean_backward)


def build_mask(key, dtype):
    return Check(empty_mask, (*draw(key, dtype, (5,)), jnp.array([True, False, True, True, False])))


def small_angle(x):
    """(1 - cos x) / x, by its series near zero."""
    small = jnp.abs(x) < 0.01
    y = jnp.where(small, 1, x)
    return jnp.where(small, x / 2 - x**3 / 24, (1 - jnp.cos(y)) / y)


def small_angle_backward(x, bar):
    small = jnp.abs(x) < 0.01
    y = jnp.where(small, 1, x)
    away = jnp.sin(y) / y - (1 - jnp.cos(y)) / (y * y)
    return (bar * jnp.where(small, -x * x / 8, away),)  # 1/2 - x²/8


series_of_the_slope = with_rule(small_angle, lambda x: (small_angle(x), x), small_angle_backward)


def build_angles(key, dtype):
    return Check(series_of_the_slope, (1 + jax.random.uniform(key, (4,), dtype),))


def host_softening(x):
    """log(eˣ + e⁻ˣ) in NumPy: no autodiff to compare with."""
    return jax.pure_callback(lambda x: np.logaddexp(x, -x), jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims")


host_sign = with_rule(host_softening, lambda x: (host_softening(x), x), lambda x, bar: (-bar * jnp.tanh(x),))


def build_positive_log(key, dtype):
    return Check(log_of_x, (0.3 + jax.random.uniform(key, (5,), dtype),))


MUTANTS = planted(
    "functions",
    ("log1p with the slope of log", "approximate derivative", build_positive_log, "missing-term"),
    ("guard outside the division", "nan guard", build_zeros, "nan"),
    ("clip open above", "clip bound", build_bounds, "subset"),
    ("constant of the error function", "another constant", on(gaussian_constant, (5,)), "factor"),
    ("softplus saturates at 2", "approximate derivative", build_softplus_early, "subset"),
    ("softplus overflows, moderate inputs given", "saturation", build_softplus_moderate, "input"),
    ("arctan2 in the order of the formulas", "argument order", on(angle_order, (5,), (5,)), "swapped"),
    ("power rule keeps the exponent", "wrong power", build_power, "missing-term"),
    ("sign lost, positive inputs given", "sign of the entry", build_positive_entries, "input"),
    ("empty mask", "nan guard", build_mask, "input"),
    ("series near zero, larger inputs given", "rare branch", build_angles, "input"),
    ("sign of a host function's slope", "sign", on(host_sign, (5,)), "sign"),
)
