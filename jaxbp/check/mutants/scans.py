"""Planted bugs in scans and solvers: prefix sums, recurrences, blocks, masks, implicit functions, ODE adjoints."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


# --- prefix sums and products


def running_sum(x):
    return jnp.cumsum(x, axis=0)


def running_sum_forward(x):
    return running_sum(x), None


def running_sum_backward(_, sums_bar):
    return (jnp.cumsum(sums_bar, axis=0),)  # from the other end


sum_from_the_same_end = with_rule(running_sum, running_sum_forward, running_sum_backward)


def running_product(x):
    return jnp.cumprod(x)


def running_product_forward(x):
    y = running_product(x)
    return y, (x, y)


def running_product_backward(residuals, y_bar):
    x, y = residuals
    return (jnp.cumsum((y_bar * y)[::-1])[::-1] / x,)  # 0/0 at a zero factor


product_at_zero = with_rule(running_product, running_product_forward, running_product_backward)


def build_zero_factor(key, dtype):
    (x,) = draw(key, dtype, (6,))
    return Check(product_at_zero, (x.at[3].set(0),))


# --- a linear recurrence h_t = a_t h_{t-1} + x_t


def recurrence(a, x):
    def step(h, at):
        h = at[0] * h + at[1]
        return h, h

    return jax.lax.scan(step, jnp.zeros_like(x[0]), (a, x))[1]


def recurrence_forward(a, x):
    h = recurrence(a, x)
    return h, (a, h)


def shifted(h):
    return jnp.concatenate([jnp.zeros_like(h[:1]), h[:-1]])


def recurrence_backward_cut(residuals, states_bar):
    _, h = residuals
    return states_bar * shifted(h), states_bar  # h_t also reaches h_{t+1}


def recurrence_backward_late(residuals, states_bar):
    """The carry is multiplied by its own step's a instead of the next one's."""
    a, h = residuals

    def step(h_bar, at):
        a, bar = at
        h_bar = a * h_bar + bar
        return h_bar, h_bar

    _, x_bar = jax.lax.scan(step, jnp.zeros_like(h[0]), (a, states_bar), reverse=True)
    return x_bar * shifted(h), x_bar


carry_cut = with_rule(recurrence, recurrence_forward, recurrence_backward_cut)
decay_off_by_one = with_rule(recurrence, recurrence_forward, recurrence_backward_late)


def build_recurrence(fun, key, dtype):
    a, x = draw(key, dtype, (5, 2), (5, 2))
    return Check(fun, (0.5 + 0.1 * a, x))


# --- blocks

BLOCK = 4


def soft_sign(x):
    return x / (1 + jnp.abs(x))


def soft_sign_forward(x):
    return soft_sign(x), x


def soft_sign_backward(x, y_bar):
    """Block by block, to spare memory."""
    blocks = x.shape[0] // BLOCK  # the rest is never visited

    def one(x_bar, k):
        at = jax.lax.dynamic_slice_in_dim(x, k * BLOCK, BLOCK), jax.lax.dynamic_slice_in_dim(y_bar, k * BLOCK, BLOCK)
        return jax.lax.dynamic_update_slice_in_dim(x_bar, at[1] / (1 + jnp.abs(at[0])) ** 2, k * BLOCK, axis=0), None

    return (jax.lax.scan(one, jnp.zeros_like(x), jnp.arange(blocks))[0],)


remainder_lost = with_rule(soft_sign, soft_sign_forward, soft_sign_backward)


def whole_blocks(key, dtype):
    return Check(remainder_lost, draw(key, dtype, (8, 2)), options={"batch_axes": (0,)})


# --- lengths


def last_valid_sum(x, lengths):
    """Sums of cubes up to each sequence's length."""
    valid = jnp.arange(x.shape[1])[None, :] < lengths[:, None]
    return jnp.sum(jnp.where(valid, x**3, 0), axis=1)


def last_valid_forward(x, lengths):
    return last_valid_sum(x, lengths), (x, lengths)


def last_valid_backward(residuals, sums_bar):
    x, lengths = residuals
    valid = jnp.arange(x.shape[1])[None, :] <= lengths[:, None]  # one step too many
    return jnp.where(valid, 3 * x**2 * sums_bar[:, None], 0), None


one_step_too_many = with_rule(last_valid_sum, last_valid_forward, last_valid_backward)


def build_lengths(key, dtype):
    return Check(one_step_too_many, (*draw(key, dtype, (3, 5)), jnp.array([2, 5, 3])))


# --- a fixed point z = tanh(w z + x)


def fixed_point(w, x):
    return jax.lax.fori_loop(0, 60, lambda _, z: jnp.tanh(w @ z + x), jnp.zeros_like(x))


def fixed_point_forward(w, x):
    z = fixed_point(w, x)
    return z, (w, z)


def jacobian(w, z):
    return (1 - z**2)[:, None] * w


def fixed_point_backward_plain(residuals, z_bar):
    w, z = residuals
    u = jnp.linalg.solve(jnp.eye(z.size, dtype=z.dtype) - jacobian(w, z), z_bar)  # of the transposed system
    pre_bar = u * (1 - z**2)
    return jnp.outer(pre_bar, z), pre_bar


def fixed_point_backward_one_step(residuals, z_bar):
    """Jacobian-free: (I - J)⁻¹ taken for I."""
    _, z = residuals
    pre_bar = z_bar * (1 - z**2)
    return jnp.outer(pre_bar, z), pre_bar


adjoint_not_transposed = with_rule(fixed_point, fixed_point_forward, fixed_point_backward_plain)
jacobian_free = with_rule(fixed_point, fixed_point_forward, fixed_point_backward_one_step)


def build_fixed_point(fun, key, dtype):
    w, x = draw(key, dtype, (4, 4), (4,))
    return Check(fun, (0.5 * w / jnp.linalg.norm(w, 2), x))


# --- an ODE y' = tanh(w y), by Euler's method

STEPS, H = 6, 0.2


def euler(w, y0):
    return jax.lax.fori_loop(0, STEPS, lambda _, y: y + H * jnp.tanh(w @ y), y0)


def euler_states(w, y0):
    def step(y, _):
        y = y + H * jnp.tanh(w @ y)
        return y, y

    return jnp.concatenate([y0[None], jax.lax.scan(step, y0, None, length=STEPS)[1]])


def euler_forward(w, y0):
    states = euler_states(w, y0)
    return states[-1], (w, states)


def euler_backward_sign(residuals, y_bar):
    w, states = residuals

    def step(carry, y):
        y_bar, w_bar = carry
        pre_bar = H * y_bar * (1 - jnp.tanh(w @ y) ** 2)
        return (y_bar + w.T @ pre_bar, w_bar - jnp.outer(pre_bar, y)), None  # the textbook integral runs backwards: +

    (y_bar, w_bar), _ = jax.lax.scan(step, (y_bar, jnp.zeros_like(w)), states[:-1], reverse=True)
    return w_bar, y_bar


def euler_backward_continuous(residuals, y_bar):
    """Integrates the continuous adjoint, with the states found again by going backwards from the last one."""
    w, states = residuals

    def step(_, carry):
        y, y_bar, w_bar = carry
        slope = jnp.tanh(w @ y)
        pre_bar = H * y_bar * (1 - slope**2)
        return y - H * slope, y_bar + w.T @ pre_bar, w_bar + jnp.outer(pre_bar, y)

    _, y_bar, w_bar = jax.lax.fori_loop(0, STEPS, step, (states[-1], y_bar, jnp.zeros_like(w)))
    return w_bar, y_bar


adjoint_sign = with_rule(euler, euler_forward, euler_backward_sign)
continuous_adjoint = with_rule(euler, euler_forward, euler_backward_continuous)


MUTANTS = planted(
    "scans",
    ("prefix sum not reversed", "reversed order", on(sum_from_the_same_end, (6, 2)), "missing-term"),
    ("running product at a zero", "zero input", build_zero_factor, "nan"),
    ("recurrence without its carry", "carry not passed", partial(build_recurrence, carry_cut), "subset"),
    ("recurrence with the decay one step late", "index off by one", partial(build_recurrence, decay_off_by_one), "subset"),
    ("last partial block lost", "last block", on(remainder_lost, (10, 2)), "subset"),
    ("partial block lost, whole blocks given", "block size assumed", whole_blocks, "input"),
    ("one step beyond the length", "step count", build_lengths, "subset"),
    ("fixed point: adjoint not transposed", "adjoint system", partial(build_fixed_point, adjoint_not_transposed), "missing-term"),
    ("fixed point: no inverse at all", "approximate derivative", partial(build_fixed_point, jacobian_free), "missing-term"),
    ("ODE: sign of the parameters' integral", "minus of an adjoint", on(adjoint_sign, (3, 3), (3,)), "sign"),
    ("ODE: continuous adjoint of a coarse solve", "recomputed state", on(continuous_adjoint, (3, 3), (3,)), "missing-term"),
)
