"""Windows: which entry each tap reads, against index loops and against XLA's own arithmetic of padding."""

from __future__ import annotations

import itertools

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

from jaxbp import windows
from jaxbp.windows import Window


pairs = lambda: st.tuples(st.integers(0, 3), st.integers(0, 3))
axis = lambda: st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 4), pairs(), st.integers(1, 3))


@st.composite
def cases(draw):
    """(image, window), the window fitting into the image."""
    along = draw(st.lists(axis(), min_size=1, max_size=2))
    image, size, strides, padding, dilation = (tuple(values) for values in zip(*along, strict=True))
    window = Window(size, strides, padding, dilation)
    assume(all(n + sum(pair) >= reach for n, pair, reach in zip(image, padding, window.reach, strict=True)))
    return image, window


def reads(image, window):
    """(tap, position, entry) for every tap at every position that reads an entry of the image."""
    for (k, j), p in itertools.product(enumerate(np.ndindex(*window.size)), np.ndindex(*window.positions(image))):
        along = window.strides, p, window.dilation, j, window.padding
        entry = [s * a + d * b - before for s, a, d, b, (before, _) in zip(*along, strict=True)]
        if all(0 <= i < n for i, n in zip(entry, image, strict=True)):
            yield k, p, tuple(entry)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(cases())
def test_taps_and_their_transpose(case):
    image, window = case
    shape = (2, *image, 1)
    x = brute.random(0, *shape)
    positions = window.positions(image)
    wanted = np.full((int(np.prod(window.size)), *positions), -7.0)
    for k, p, entry in reads(image, window):
        wanted[(k, *p)] = x[(1, *entry, 0)]
    got = windows.taps(jnp.asarray(x), window, -7)
    np.testing.assert_array_equal(np.stack(got)[:, 1, ..., 0], wanted)
    parts = brute.random(1, *wanted.shape)
    x_bar = np.zeros(image)
    for k, p, entry in reads(image, window):
        x_bar[entry] += parts[(k, *p)]
    back = windows.untap(lambda k: jnp.asarray(parts)[k][None, ..., None], window, image)
    np.testing.assert_allclose(back[0, ..., 0], x_bar, atol=1e-13)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 4), pairs()), min_size=1, max_size=2))
def test_spread_and_fold_of_disjoint_windows(along):
    image, size, padding = (tuple(values) for values in zip(*along, strict=True))
    window = Window(size, size, padding, (1,) * len(size))
    assume(window.disjoint and all(n + sum(pair) >= k for n, pair, k in zip(image, padding, size, strict=True)))
    values = brute.random(0, 1, *window.positions(image), 1)
    wanted = np.zeros(image)
    for _, p, entry in reads(image, window):
        wanted[entry] = values[(0, *p, 0)]
    np.testing.assert_array_equal(windows.spread(jnp.asarray(values), window, image)[0, ..., 0], wanted)
    x = jnp.asarray(brute.random(1, 2, *image, 2))
    np.testing.assert_array_equal(windows.fold(x, window, -7), jnp.stack(windows.taps(x, window, -7), axis=-2))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.integers(1, 9)] * 2, st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=3), st.booleans())
def test_same_and_valid_are_those_of_xla(along, same):
    image, size, strides, dilation = (tuple(values) for values in zip(*along, strict=True))
    reach = tuple(d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True))
    assume(same or all(r <= n for r, n in zip(reach, image, strict=True)))
    padding = "SAME" if same else "VALID"
    window = windows.fit("pool", image, size, strides, padding, dilation)
    assert list(window.padding) == [tuple(pair) for pair in lax.padtype_to_pads(image, reach, strides, padding)]
    reduced = jax.eval_shape(
        lambda x: lax.reduce_window(x, 0.0, lax.add, size, strides, padding, window_dilation=dilation), jnp.zeros(image)
    )
    assert window.positions(image) == reduced.shape


def test_by_group_is_side_by_side():
    a, b = jnp.asarray(brute.random(0, 2, 6)), jnp.asarray(brute.random(1, 2, 9))
    got = windows.by_group(lambda a, b: jnp.concatenate([a, 2 * b], axis=-1), 3, a, b)
    wanted = np.concatenate([a[:, :2], 2 * b[:, :3], a[:, 2:4], 2 * b[:, 3:6], a[:, 4:], 2 * b[:, 6:]], axis=1)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"size": 4, "padding": "VALID"}, ValueError, r"over \[4, 4\] entries .* does not fit into an image of \[3, 5\]"),
        ({"size": 2, "padding": "VALID", "dilation": (3, 1)}, ValueError, r"over \[4, 2\] entries"),
        ({"size": (2, 2, 2), "padding": "SAME"}, ValueError, r"window \[2, 2, 2\] has 3 entries, the image 2 spatial axes"),
        ({"size": 2, "padding": ((1, 1),)}, ValueError, "padding .* has 1 entries, the image 2"),
        ({"size": 2, "padding": "SAME", "strides": (1,)}, ValueError, "strides .* has 1 entries"),
    ],
)
def test_what_does_not_fit(options, error, says):
    with pytest.raises(error, match=says):
        windows.fit("pool", (3, 5), **{"strides": 1, **options})


@pytest.mark.parametrize(
    ("padding", "error"),
    [
        ("same", ValueError),
        (1, TypeError),
        ((1, 1), TypeError),
        (((-1, 0),), ValueError),
        (((0.5, 0),), ValueError),
        ((), TypeError),
    ],
)
def test_unknown_padding(padding, error):
    with pytest.raises(error, match="padding"):
        windows.check_options("pool", padding, window=2)
