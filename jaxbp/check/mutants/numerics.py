"""Planted bugs in linear algebra, sorting, Fourier transforms, interpolation and quadrature."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


def well_conditioned(key, dtype, n=4):
    (a,) = draw(key, dtype, (n, n))
    return a + 3 * jnp.eye(n, dtype=dtype)


# --- linear algebra


def log_det(a):
    return jnp.linalg.slogdet(a)[1]


def log_det_forward(a):
    return log_det(a), jnp.linalg.inv(a)


def log_det_backward(inverse, bar):
    return (bar * inverse,)  # transposed


log_det_plain_inverse = with_rule(log_det, log_det_forward, log_det_backward)


def solve(a, b):
    return jnp.linalg.solve(a, b)


def solve_forward(a, b):
    x = solve(a, b)
    return x, (a, x)


def solve_backward_sign(residuals, x_bar):
    a, x = residuals
    b_bar = jnp.linalg.solve(a.T, x_bar)
    return jnp.outer(b_bar, x), b_bar  # minus


def solve_backward_plain(residuals, x_bar):
    a, x = residuals
    b_bar = jnp.linalg.solve(a, x_bar)  # a.T
    return -jnp.outer(b_bar, x), b_bar


solve_sign = with_rule(solve, solve_forward, solve_backward_sign)
solve_plain = with_rule(solve, solve_forward, solve_backward_plain)


def build_solve(fun, key, dtype):
    keys = jax.random.split(key)
    return Check(fun, (well_conditioned(keys[0], dtype), *draw(keys[1], dtype, (4,))))


def root_of(a):
    """The Cholesky factor of (a + aᵀ) / 2."""
    return jnp.linalg.cholesky((a + a.T) / 2)


def root_forward(a):
    lower = root_of(a)
    return lower, lower


def root_backward(lower, lower_bar):
    inner = jnp.tril(lower.T @ lower_bar)  # half the diagonal
    inverse = jnp.linalg.inv(lower)
    s = inverse.T @ inner @ inverse
    return ((s + s.T) / 2,)


cholesky_diagonal = with_rule(root_of, root_forward, root_backward)


def build_positive(key, dtype):
    (a,) = draw(key, dtype, (3, 3))
    return Check(cholesky_diagonal, (a @ a.T + jnp.eye(3, dtype=dtype),))


# --- order


def sort_rows(x):
    return jnp.sort(x, axis=1)


def sort_forward(x):
    return sort_rows(x), jnp.argsort(x, axis=1)


def sort_backward(order, sorted_bar):
    return (jnp.take_along_axis(sorted_bar, order, axis=1),)  # the inverse of the order


order_not_inverted = with_rule(sort_rows, sort_forward, sort_backward)


def build_sort(key, dtype):
    """Rows whose order is not its own inverse."""
    x = jnp.array([[3, 1, 2, 5, 4], [2, 3, 5, 1, 4]], dtype)
    return Check(order_not_inverted, (x + 0.1 * jax.random.uniform(key, x.shape, dtype),))


# --- transforms and interpolation


def ring_convolution(x, kernel):
    return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(kernel), x.size)


def ring_forward(x, kernel):
    return ring_convolution(x, kernel), (x, kernel)


def ring_backward(residuals, y_bar):
    x, kernel = residuals
    spectrum = jnp.fft.rfft(y_bar)
    back = lambda other: jnp.fft.irfft(spectrum * jnp.conj(jnp.fft.rfft(other)), x.size, norm="forward")  # the other norm
    return back(kernel), back(x)


unscaled_inverse = with_rule(ring_convolution, ring_forward, ring_backward)


def interpolate(table, at):
    """The piecewise linear function with these values at 0, 1, 2, ..."""
    left = jnp.clip(jnp.floor(at).astype(int), 0, table.size - 2)
    t = at - left
    return (1 - t) * table[left] + t * table[left + 1]


def interpolate_forward(table, at):
    return interpolate(table, at), (table, at)


def interpolate_backward(residuals, y_bar):
    table, at = residuals
    left = jnp.clip(jnp.floor(at).astype(int), 0, table.size - 2)
    t = at - left
    table_bar = jnp.zeros_like(table).at[left].add(t * y_bar).at[left + 1].add((1 - t) * y_bar)  # exchanged
    return table_bar, y_bar * (table[left + 1] - table[left])


weights_exchanged = with_rule(interpolate, interpolate_forward, interpolate_backward)


def interpolate_backward_nearest(residuals, y_bar):
    table, at = residuals
    left = jnp.clip(jnp.floor(at).astype(int), 0, table.size - 2)
    t = at - left
    table_bar = jnp.zeros_like(table).at[left].add((1 - t) * y_bar).at[left + 1].add(t * y_bar)
    return table_bar, jnp.zeros_like(at)  # "positions are indices"


positions_taken_for_indices = with_rule(interpolate, interpolate_forward, interpolate_backward_nearest)


def build_interpolation(fun, key, dtype):
    keys = jax.random.split(key)
    return Check(fun, (*draw(keys[0], dtype, (5,)), jax.random.uniform(keys[1], (6,), dtype, 0.2, 3.8)))


# Gauss–Legendre nodes and weights on [-1, 1]; the weights of the backward were typed again.
NODES = np.array([-0.9061798459386640, -0.5384693101056831, 0.0, 0.5384693101056831, 0.9061798459386640])
WEIGHTS = np.array([0.2369268850561891, 0.4786286704993665, 0.5688888888888889, 0.4786286704993665, 0.2369268850561891])
WEIGHTS_AGAIN = np.array([0.2369268850561891, 0.4786286704993665, 0.5688888888888889, 0.4781286704993665, 0.2369268850561891])


def integral_exp(rates):
    """∫ exp(rate_k s) over each panel, by one node a panel."""
    return jnp.sum(WEIGHTS.astype(rates.dtype) * jnp.exp(NODES.astype(rates.dtype) * rates))


def integral_forward(rates):
    return integral_exp(rates), rates


def integral_backward(rates, bar):
    nodes, weights = NODES.astype(rates.dtype), WEIGHTS_AGAIN.astype(rates.dtype)
    return (bar * weights * nodes * jnp.exp(nodes * rates),)


mistyped_weight = with_rule(integral_exp, integral_forward, integral_backward)


def build_log_det(key, dtype):
    return Check(log_det_plain_inverse, (well_conditioned(key, dtype),))


MUTANTS = planted(
    "numerics",
    ("log-determinant: the plain inverse", "adjoint system", build_log_det, "transposed"),
    ("solve: minus of the matrix cotangent", "minus of an adjoint", partial(build_solve, solve_sign), "sign"),
    ("solve: with the plain matrix", "adjoint system", partial(build_solve, solve_plain), "transposed"),
    ("Cholesky: diagonal not halved", "constant factor", build_positive, "missing-term"),
    ("sort: the order not inverted", "permutation not inverted", build_sort, "permuted"),
    ("Fourier: the other norm", "transform norm", on(unscaled_inverse, (6,), (6,)), "factor"),
    ("interpolation weights exchanged", "complement", partial(build_interpolation, weights_exchanged), "missing-term"),
    ("interpolation positions forgotten", "argument dropped", partial(build_interpolation, positions_taken_for_indices), "zero"),
    ("a quadrature weight mistyped", "one entry", on(mistyped_weight, (5,)), "subset"),
)
