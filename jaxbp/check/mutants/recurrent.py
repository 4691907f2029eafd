"""Planted bugs in recurrent cells and networks: gates, states, carries, time."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


def sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


# --- a tanh network over time: xs (time, batch, fan_in), states (time, batch, width)


def rnn(w, u, xs):
    def step(h, x):
        h = jnp.tanh(x @ w + h @ u)
        return h, h

    return jax.lax.scan(step, jnp.zeros((xs.shape[1], u.shape[0]), xs.dtype), xs)[1]


def rnn_forward(w, u, xs):
    states = rnn(w, u, xs)
    return states, (w, u, xs, states)


def before(states):
    """The state that each step started from."""
    return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])


def totals(w, u, xs, previous, pre_bars):
    return jnp.einsum("tbi,tbo->io", xs, pre_bars), jnp.einsum("tbi,tbo->io", previous, pre_bars), pre_bars @ w.T


def rnn_backward_last_only(residuals, states_bar):
    """Written for a classifier that reads the last state; the others' cotangents never enter."""
    w, u, xs, states = residuals

    def step(h_bar, h):
        pre_bar = h_bar * (1 - h**2)
        return pre_bar @ u.T, pre_bar

    _, pre_bars = jax.lax.scan(step, states_bar[-1], states, reverse=True)
    return totals(w, u, xs, before(states), pre_bars)


def rnn_backward_flipped(residuals, states_bar):
    w, u, xs, states = residuals

    def step(h_bar, at):
        h, bar = at
        pre_bar = (h_bar + bar) * (1 - h**2)
        return pre_bar @ u.T, pre_bar

    _, upwards = jax.lax.scan(step, jnp.zeros_like(states[0]), (states[::-1], states_bar[::-1]))
    w_bar, u_bar, _ = totals(w, u, xs, before(states), upwards[::-1])
    return w_bar, u_bar, upwards @ w.T  # still last step first


def rnn_backward_same_state(residuals, states_bar):
    w, u, xs, states = residuals

    def step(h_bar, at):
        h, bar = at
        pre_bar = (h_bar + bar) * (1 - h**2)
        return pre_bar @ u.T, pre_bar

    _, pre_bars = jax.lax.scan(step, jnp.zeros_like(states[0]), (states, states_bar), reverse=True)
    return totals(w, u, xs, states, pre_bars)  # before(states)


rnn_last_only = with_rule(rnn, rnn_forward, rnn_backward_last_only)
rnn_flipped = with_rule(rnn, rnn_forward, rnn_backward_flipped)
rnn_same_state = with_rule(rnn, rnn_forward, rnn_backward_same_state)
RNN_SHAPES = (3, 4), (4, 4), (5, 2, 3)


# --- the last state of a leaky integrator, truncated back-propagation


DECAY, WINDOW = 0.8, 3


def leaky_sum(xs):
    def step(h, x):
        return DECAY * h + jnp.sin(x), None

    return jax.lax.scan(step, jnp.zeros_like(xs[0]), xs)[0]


def leaky_forward(xs):
    return leaky_sum(xs), xs


def leaky_backward(xs, h_bar):
    """Truncated: only the last WINDOW steps are walked back."""
    steps = xs.shape[0]
    powers = DECAY ** jnp.arange(steps - 1, -1, -1).astype(xs.dtype)
    kept = jnp.arange(steps) >= steps - WINDOW
    return (jnp.where(kept[:, None], powers[:, None] * h_bar[None, :] * jnp.cos(xs), 0),)


truncated = with_rule(leaky_sum, leaky_forward, leaky_backward)


# --- one step of an LSTM; a weight matrix for each gate, stacked input z = [x, h]


class Gates(NamedTuple):
    input: jax.Array
    forget: jax.Array
    cell: jax.Array
    output: jax.Array


def lstm_parts(weights, x, h, c):
    z = jnp.concatenate([x, h], axis=1)
    i, f, o = sigmoid(z @ weights.input), sigmoid(z @ weights.forget), sigmoid(z @ weights.output)
    g = jnp.tanh(z @ weights.cell)
    return z, Gates(i, f, g, o), f * c + i * g


def lstm(weights, x, h, c):
    _, gates, c_new = lstm_parts(weights, x, h, c)
    return gates.output * jnp.tanh(c_new), c_new


def lstm_forward(weights, x, h, c):
    z, gates, c_new = lstm_parts(weights, x, h, c)
    return (gates.output * jnp.tanh(c_new), c_new), (weights, z, gates, h, c, c_new)


def lstm_pull(weights, z, gates, c_new_bar, o_bar, previous):
    """Through the four gates; `previous` is what the forget gate multiplied."""
    i, f, g, o = gates
    pre = Gates(
        input=c_new_bar * g * i * (1 - i),
        forget=c_new_bar * previous * f * (1 - f),
        cell=c_new_bar * i * (1 - g**2),
        output=o_bar * o * (1 - o),
    )
    z_bar = jnp.concatenate(pre, 1) @ jnp.concatenate(weights, 1).T
    return Gates(*(z.T @ bar for bar in pre)), z_bar


def lstm_rule(previous_of, c_new_bar_of, swap=lambda gates: gates):
    def backward(residuals, bars):
        weights, z, gates, h, c, c_new = residuals
        h_new_bar, c_bar = bars
        squashed = jnp.tanh(c_new)
        c_new_bar = c_new_bar_of(h_new_bar * gates.output * (1 - squashed**2), c_bar)
        weights_bar, z_bar = lstm_pull(weights, z, gates, c_new_bar, h_new_bar * squashed, previous_of(h, c, c_new))
        split = z.shape[1] - h.shape[1]
        return swap(weights_bar), z_bar[:, :split], z_bar[:, split:], c_new_bar * gates.forget

    return with_rule(lstm, lstm_forward, backward)


def both(through_h, c_bar):
    return through_h + c_bar


lstm_h_for_c = lstm_rule(lambda h, c, c_new: h, both)
lstm_cell_bar_lost = lstm_rule(lambda h, c, c_new: c, lambda through_h, c_bar: through_h)
lstm_gates_swapped = lstm_rule(lambda h, c, c_new: c, both, lambda bars: Gates(bars.forget, bars.input, bars.cell, bars.output))


def build_lstm(fun, key, dtype):
    *gates, x, h, c = draw(key, dtype, *[(7, 4)] * 4, (2, 3), (2, 4), (2, 4))
    return Check(fun, (Gates(*gates), x, h, c))


# --- one step of a GRU


class Gru(NamedTuple):
    update: jax.Array
    reset: jax.Array
    candidate: jax.Array


def gru_parts(weights, x, h):
    z, r = sigmoid(jnp.concatenate([x, h], 1) @ weights.update), sigmoid(jnp.concatenate([x, h], 1) @ weights.reset)
    n = jnp.tanh(jnp.concatenate([x, r * h], 1) @ weights.candidate)
    return z, r, n


def gru(weights, x, h):
    z, _, n = gru_parts(weights, x, h)
    return z * h + (1 - z) * n


def gru_forward(weights, x, h):
    z, r, n = gru_parts(weights, x, h)
    return z * h + (1 - z) * n, (weights, x, h, z, r, n)


def gru_rule(difference, direct):
    """`difference(h, n)` meets the update gate, `direct(h_new_bar, z, rh_bar, r)` is h's share outside the gates."""

    def backward(residuals, h_new_bar):
        weights, x, h, z, r, n = residuals
        width = x.shape[1]
        n_pre = h_new_bar * (1 - z) * (1 - n**2)
        through_n = n_pre @ weights.candidate.T
        rh_bar = through_n[:, width:]
        r_pre = rh_bar * h * r * (1 - r)
        z_pre = h_new_bar * difference(h, n) * z * (1 - z)
        through_gates = z_pre @ weights.update.T + r_pre @ weights.reset.T
        xh, xrh = jnp.concatenate([x, h], 1), jnp.concatenate([x, r * h], 1)
        x_bar = through_n[:, :width] + through_gates[:, :width]
        h_bar = through_gates[:, width:] + direct(h_new_bar, z, rh_bar, r)
        return Gru(xh.T @ z_pre, xh.T @ r_pre, xrh.T @ n_pre), x_bar, h_bar

    return with_rule(gru, gru_forward, backward)


gru_update_sign = gru_rule(lambda h, n: n - h, lambda bar, z, rh_bar, r: bar * z + rh_bar * r)
gru_skip_lost = gru_rule(lambda h, n: h - n, lambda bar, z, rh_bar, r: rh_bar * r)
gru_reset_lost = gru_rule(lambda h, n: h - n, lambda bar, z, rh_bar, r: bar * z + rh_bar)


def build_gru(fun, key, dtype):
    *weights, x, h = draw(key, dtype, *[(7, 4)] * 3, (2, 3), (2, 4))
    return Check(fun, (Gru(*weights), x, h))


# --- a learned first state


def from_state(h0, u, xs):
    def step(h, x):
        return jnp.tanh(x + h @ u), None

    return jax.lax.scan(step, jnp.broadcast_to(h0[None, :], xs.shape[1:]), xs)[0]


def from_state_forward(h0, u, xs):
    def step(h, x):
        return jnp.tanh(x + h @ u), h

    last, previous = jax.lax.scan(step, jnp.broadcast_to(h0[None, :], xs.shape[1:]), xs)
    return last, (h0, u, jnp.concatenate([previous, last[None]]))


def from_state_backward(residuals, h_bar):
    h0, u, states = residuals

    def step(carry, at):
        h_bar, u_bar = carry
        previous, h = at
        pre_bar = h_bar * (1 - h**2)
        return (pre_bar @ u.T, u_bar + previous.T @ pre_bar), pre_bar

    (_, u_bar), xs_bar = jax.lax.scan(step, (h_bar, jnp.zeros_like(u)), (states[:-1], states[1:]), reverse=True)
    return jnp.zeros_like(h0), u_bar, xs_bar  # "h0 is a constant"


first_state_constant = with_rule(from_state, from_state_forward, from_state_backward)


MUTANTS = planted(
    "recurrent",
    ("only the last state's cotangent", "not summed over time", on(rnn_last_only, *RNN_SHAPES), "subset"),
    ("input cotangents last step first", "reversed order", on(rnn_flipped, *RNN_SHAPES), "permuted"),
    ("the state after the step for the one before", "index off by one", on(rnn_same_state, *RNN_SHAPES), "missing-term"),
    ("truncated after three steps", "carry not passed", on(truncated, (6, 2)), "subset"),
    ("LSTM: h where c is meant", "stale residual", partial(build_lstm, lstm_h_for_c), "missing-term"),
    ("LSTM: cell output's cotangent lost", "second output", partial(build_lstm, lstm_cell_bar_lost), "missing-term"),
    ("LSTM: input and forget gate exchanged", "swapped values", partial(build_lstm, lstm_gates_swapped), "swapped"),
    ("GRU: n - h for h - n", "difference turned", partial(build_gru, gru_update_sign), "sign"),
    ("GRU: the path around the gates lost", "skip path", partial(build_gru, gru_skip_lost), "missing-term"),
    ("GRU: reset gate left out on the way to h", "chain factor", partial(build_gru, gru_reset_lost), "missing-term"),
    ("first state taken for a constant", "initial state", on(first_state_constant, (4,), (4, 4), (3, 2, 4)), "zero"),
)
