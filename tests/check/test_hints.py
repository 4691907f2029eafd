"""Hints: planted errors of every category get their name, random ones get none."""

import time

import ml_dtypes
import numpy as np
import pytest

from jaxbp.check.hint_numbers import number
from jaxbp.check.hints import Context, explain


SHAPES = [(7,), (5, 4), (4, 4), (3, 1, 5), (1, 6), (2, 3, 4, 5)]
MANY = [*SHAPES, (1,), (), (2,), (1, 1)]


def draw(shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def hints(claimed, true, /, leaf="x", value=None, **more):
    value = draw(np.shape(true), 99) if value is None else value
    values = {leaf: value, **more.pop("values", {})}
    leaves = {"claimed": {leaf: claimed, **more.pop("claimed", {})}, "true": {leaf: true, **more.pop("true", {})}}
    found = explain(leaf, claimed, true, Context(values=values, **leaves, **more))
    assert found[-1].category == "localised"
    assert all(h.text and "\n" not in h.text for h in found)
    return found


def first(*args, **more):
    hint = hints(*args, **more)[0]
    return hint.category, hint.text


# --- a whole leaf


@pytest.mark.parametrize("shape", MANY)
def test_nan(shape):
    true = draw(shape)
    claimed = true.copy()
    claimed.reshape(-1)[-1] = np.nan
    category, text = first(claimed, true)
    assert category == "nan"
    assert "nan" in text


def test_nan_says_where_and_the_truth_may_be_infinite():
    value = np.array([1.0, 0.0, -2.0, 0.0, 3.0])
    true = np.array([np.inf, 2.0, 3.0, 4.0, 5.0])
    category, text = first(np.where(value == 0, np.inf, true), true, value=value)
    assert category == "nan"
    assert "where 'x' is 0" in text or "ties" in text
    assert first(np.where(np.isinf(true), np.nan, 2 * true), true)[0] == "factor"


@pytest.mark.parametrize("shape", MANY)
def test_zero_and_sign(shape):
    true = draw(shape)
    assert first(np.zeros(shape), true)[0] == "zero"
    assert first(-true, true)[0] == "sign"


@pytest.mark.parametrize("shape", MANY)
@pytest.mark.parametrize(("k", "name"), [(2.0, "2"), (0.5, "1/2"), (-2.0, "−2"), (1 / 32, "1/32, 32 the batch"), (48.0, "48")])
def test_known_factors(shape, k, name):
    category, text = first(k * draw(shape), draw(shape), batch=32, values={"w": draw((48, 3))})
    assert category == "factor"
    assert f"k = {name}" in text


@pytest.mark.parametrize("shape", [s for s in MANY if np.prod(s) > 1])
@pytest.mark.parametrize(("k", "name"), [(1.001, "1.001"), (0.9, "0.9"), (1.2345678, "about 1.23457")])
def test_other_factors_need_more_than_one_entry(shape, k, name):
    category, text = first(k * draw(shape), draw(shape))
    assert category == "factor"
    assert text.endswith(f"k = {name}")


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("k", [1.2345678, 1.001, -0.7])
def test_a_scalar_is_parallel_to_anything(shape, k):
    true, other = draw(shape), draw(shape, 3)
    found = hints(k * true, true, values={"y": other}, true={"y": other}, out_bar=[draw(shape, 5)])
    assert found[0].category == "missing-term"
    assert "by no simple factor" in found[0].text


def test_names_of_numbers():
    shapes = {"'w'": (64, 10), "'b'": (10,)}
    name = lambda k, tolerance=1e-9: number(k, tolerance, shapes, 12).text
    assert name(1 / 8) == "1/√64, 64 the size of axis 0 of 'w'"
    assert name(0.15) == "0.15"
    assert name(10.0).startswith("10, the size of axis 1 of 'w'")
    assert name(-0.1).startswith("−1/10")
    assert name(1 / 12) == "1/12, 12 the batch size"
    assert "n − 1" in name(63.0)
    assert "(n − 1)/n" in name(11 / 12)
    assert name(np.pi) == "π"
    assert "640" in name(1 / 640)
    assert name(63.0001, 1e-2) == "63"
    assert name(1.5) == "3/2"


# --- the right entries elsewhere


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (2, 4, 4), (4, 3, 4), (2, 3, 5, 5)])
def test_transposed(shape):
    true = draw(shape)
    claimed = np.swapaxes(true, -1, -2).reshape(shape) if shape != (4, 3, 4) else np.swapaxes(true, 0, 2)
    assert first(claimed, true)[0] == "transposed"


@pytest.mark.parametrize("rows", [(), (1,), (6,), (2, 3)])
def test_an_operand_not_transposed(rows):
    w, d = draw((4, 4)), draw((*rows, 4))
    category, text = first(d @ w, d @ w.T, values={"w": w, "k": draw((4, 4), 5)})
    assert category == "transposed"
    assert "'w'" in text
    if len(rows) == 1:
        assert first(w @ d.T, w.T @ d.T, values={"w": w})[0] == "transposed"
    inverse = np.linalg.inv(w)
    category, text = first(d @ inverse, d @ inverse.T, values={"w": w})
    assert category == "transposed"
    assert "inverse" in text


@pytest.mark.parametrize("shape", SHAPES)
def test_swapped(shape):
    true, other = draw(shape), draw(shape, 1)
    category, text = first(other, true, true={"params[1].w": other, "b": draw((3,))}, values={"params[1].w": draw(shape, 2)})
    assert category == "swapped"
    assert "'params[1].w'" in text


@pytest.mark.parametrize("shape", [(7,), (5, 4), (3, 1, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("axis", [0, -1])
def test_permuted(shape, axis):
    true = draw(shape)
    assert first(np.flip(true, axis), true) == ("permuted", f"claimed is true reversed along axis {axis % len(shape)}")
    category, text = first(np.roll(true, 1, axis), true)
    assert category == "permuted"
    if shape[axis] > 2:
        assert text == f"claimed is true rolled by 1 along axis {axis % len(shape)}"
    shuffled = np.random.default_rng(2).permutation(true.reshape(-1)).reshape(shape)
    assert first(shuffled, true)[0] == "permuted"


def test_permuted_more():
    true = draw((3, 3, 2, 4))
    assert first(true[::-1, ::-1], true) == ("permuted", "claimed is true reversed along axes 0 and 1")
    shifted = np.concatenate([np.zeros((9, 1)), draw((9, 6))[:, :-1]], 1)
    category, text = first(shifted, draw((9, 6)))
    assert category == "permuted"
    assert "shifted by 1 along axis 1" in text
    halves = draw((5, 8))
    assert first(np.roll(halves, 4, 1), halves)[1] == "claimed is true rolled by 4 along axis 1"


# --- the error's own shape


@pytest.mark.parametrize("shape", [*SHAPES, (2,)])
def test_decay(shape):
    true, value = draw(shape), draw(shape, 1)
    assert first(true + 0.01 * value, true, value=value)[0] == "decay"
    category, text = first(true - 2 * value, true, value=value)
    assert category == "decay"
    assert "−2" in text


def test_decay_beside_the_loss_and_a_projection():
    true, value = draw((5, 4)), draw((5, 4), 1)
    category, text = first(true + 0.01 * -0.7312345 * value, true, value=value, out_bar=[np.array(-0.7312345)])
    assert (category, "k = 0.01 × the output's cotangent" in text) == ("decay", True)
    assert first(true + 0.7312345 * value, true, value=value, out_bar=[draw((3,)), np.array(1.3)])[0] == "decay"
    category, text = first(true + 0.7312345 * value, true, value=value, out_bar=[draw((5, 4), 2)])
    assert (category, "the value of 'x'" in text) == ("missing-term", True)


def test_decay_of_a_scalar_by_a_short_rate():
    true, value, bar = draw(()), draw((), 1), np.array(-0.7312345)
    category, text = first(true + 0.05 * bar * value, true, value=value, out_bar=[bar])
    assert (category, "k = 0.05 × the output's cotangent" in text) == ("decay", True)
    assert first(true + 0.0512345 * bar * value, true, value=value, out_bar=[bar])[0] == "missing-term"
    assert first(np.array(7.0), np.array(12.0), value=np.array(2.0))[0] == "missing-term"  # −2.5 · 2, and much else


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[-1] > 2])
def test_constant(shape):
    true = draw(shape)
    claimed = true + draw((*shape[:-1], 1), 4)
    category, text = first(claimed, true)
    assert category == "constant"
    assert str(len(shape) - 1) in text
    assert first(true + 0.3, true)[0] == "constant"


def test_constant_names_the_mean():
    g = draw((5, 7))
    centred = g - g.mean(1, keepdims=True)
    assert first(g, centred)[1].endswith("claimed − mean(claimed) along axis 1 would be right")
    assert "subtracted" in first(centred, g)[1]


# --- some entries


def test_subset_by_value():
    true, value = draw((6, 5)), draw((6, 5), 1)
    category, text = first(np.where(value < 0, 1.3 * true, true), true, value=value)
    assert category == "subset"
    assert "where 'x' < 0" in text
    assert "k = 1.3" in text
    value[::2, 1] = 0
    category, text = first(np.where(value == 0, 0, true), true, value=value)
    assert category == "subset"
    assert "is 0" in text or "ties" in text
    assert "the claimed is 0" in text
    category, text = first(np.where(np.abs(value) > 1, 0, true), true, value=value)
    assert category == "subset"
    assert "or more" in text


def test_subset_beyond_a_bound():
    """Huber: the slope is clipped beyond delta, which depends on prediction and target."""
    x, target = 2 * draw((30,), 1), draw((30,), 2)
    r = x - target
    category, text = first(r, np.clip(r, -1, 1), value=x, values={"target": target})
    assert (category, "where |'x' − 'target'| is" in text) == ("subset", True)
    category, text = first(np.sign(r) * 0.3, np.where(r > 0, 0.3, -0.7), value=x, values={"target": target})
    assert (category, "where 'x' − 'target' < 0" in text) == ("subset", True)


def test_subset_at_ties():
    value = np.array([1.0, 3.0, 3.0, -1.0, 2.0, 0.5])
    true = draw((6,))
    category, text = first(np.where(value == 3, true / 2, true), true, value=value)
    assert (category, "at ties" in text, "k = 1/2" in text) == ("subset", True, True)
    a, b = draw((9,), 1), draw((9,), 2)
    b[[2, 5]] = a[[2, 5]]
    true = np.where(a >= b, draw((9,)), 0)
    true[[2, 5]] = [0.3, 0.7]
    category, text = first(np.where(a == b, 2 * true, true), true, value=a, values={"y": b})
    assert (category, "'x' and 'y' are equal" in text, "k = 2" in text) == ("subset", True, True)


def test_share_moved_between_ties_is_no_permutation():
    value = np.array([[5.0, 5.0, 1.0, 2.0], [0.1, 0.2, 0.3, 0.7], [4.0, 0.0, 4.0, 1.5], [1.1, 2.2, 9.0, 8.0]])
    bars = draw((4, 1))
    true = np.where(np.arange(4) == np.argmax(value, 1)[:, None], bars, 0)
    last = np.where(np.arange(4) == 3 - np.argmax(value[:, ::-1], 1)[:, None], bars, 0)
    category, text = first(last, true, value=value)
    assert category == "subset"
    assert "at ties" in text


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 2, 1)])
def test_subset_of_repeated_indices(shape):
    tokens = np.array([[1, 4, 1], [0, 4, 4]])
    true = draw(shape)
    true[[2, 3, 5]] = 0
    claimed = true.copy()
    claimed[[1, 4]] = draw(shape, 4)[[1, 4]]
    category, text = first(claimed, true, values={"tokens": tokens})
    assert category == "subset"
    assert "occur more than once in 'tokens'" in text


def test_subset_of_labels_masks_and_lengths():
    logits = draw((6, 4))
    labels = np.array([0, 3, 1, 1, 2, 0])
    named = labels[:, None] == np.arange(4)
    category, text = first(logits + named, logits, values={"labels": labels})
    assert (category, "that 'labels' names" in text) == ("subset", True)
    mask = np.array([True, True, False, True, False, True])
    category, text = first(logits, np.where(mask[:, None], logits, 0), values={"mask": mask})
    assert (category, "'mask' is False" in text, "the truth is 0" in text) == ("subset", True, True)
    lengths = np.array([2, 4, 3, 1, 4, 2])
    padding = np.arange(4) >= lengths[:, None]
    category, text = first(logits, np.where(padding, 0, logits), values={"lengths": lengths})
    assert (category, "padding beyond the lengths" in text) == ("subset", True)


def test_subset_where_one_takes_the_share_of_two():
    true = np.zeros((4, 6))
    true[[0, 0, 1, 1, 2, 2, 3, 3], [1, 4, 0, 2, 5, 3, 2, 4]] = np.repeat(draw((4,)), 2)
    claimed = true.copy()
    claimed[[0, 1, 2, 3], [1, 2, 3, 4]] = 0
    claimed[[0, 1, 2, 3], [4, 0, 5, 2]] *= 2
    category, text = first(claimed, true)
    assert (category, "claimed is 0 at 4 entries and 2 · true at 4" in text) == ("subset", True)


def test_subset_of_most():
    """Where most entries are wrong, the region must be more than a list of them."""
    true, claimed = draw((5, 3)), draw((5, 3), 1)
    claimed[4] = true[4]
    category, text = first(claimed, true)
    assert (category, "only axis 0 at 0..3, the first 4 of 5" in text) == ("subset", True)
    claimed = draw((5, 3), 1)
    claimed[[0, 3], [1, 2]] = true[[0, 3], [1, 2]]
    category, text = first(claimed, true)
    assert (category, "right only at [0, 1], [3, 2]" in text) == ("missing-term", True)


def test_subset_of_places():
    true = draw((8, 5))
    places = [(slice(6, 8), "6..7, the last 2 of 8"), (slice(0, 3), "0..2, the first 3"), (slice(1, None, 2), "every 2.")]
    for rows, words in places:
        claimed = true.copy()
        claimed[rows] = draw((8, 5), 3)[rows]
        category, text = first(claimed, true)
        assert category == "subset"
        assert f"axis 0 at {words}" in text or words in text
    square = draw((5, 5))
    category, text = first(square * (1 + np.eye(5)), square)
    assert (category, "on the diagonal" in text, "k = 2" in text) == ("subset", True, True)
    category, text = first(np.triu(square), square)
    assert (category, "below the diagonal" in text) == ("subset", True)


@pytest.mark.parametrize("shape", [s for s in MANY if np.prod(s) > 1])
@pytest.mark.parametrize("k", [1.001, 1.0001, 0.0, 2.0])
def test_one_entry(shape, k):
    true = np.where(np.abs(draw(shape)) < 0.1, 0.5, draw(shape))
    claimed = true.copy()
    claimed.reshape(-1)[1] *= k
    found = hints(claimed, true)
    assert found[0].category == "subset"
    assert f"1 of {true.size} entries" in found[0].text
    index = np.unravel_index(1, shape)
    assert f"[{', '.join(map(str, map(int, index)))}]" in found[-1].text


# --- a term


def test_missing_terms_by_name():
    true, value, g, y = draw((6, 5)), draw((6, 5), 1), draw((6, 5), 2), draw((6, 5), 3)
    for term, name in [
        (y, "the true cotangent of 'y'"),
        (g, "the output's cotangent"),
        (value * g, "the value of 'x' × the output's cotangent"),
        (np.sign(value), "the sign of 'x'"),
    ]:
        category, text = first(true + 0.3 * term, true, value=value, true={"y": y}, out_bar=[g])
        assert category == "missing-term"
        assert "k = 0.3" in text
        assert name in text
    category, text = first(true, true * y, values={"gamma": y})
    assert (category, "claimed × the value of 'gamma' is right" in text) == ("missing-term", True)


def test_missing_softmax_term():
    z, g = draw((6, 5), 1), draw((6, 5), 2)
    p = np.exp(z) / np.sum(np.exp(z), 1, keepdims=True)
    true = p * (g - np.sum(p * g, 1, keepdims=True))
    category, text = first(p * g, true, value=z, out_bar=[g], outputs=[p])
    assert category == "missing-term"
    assert "along axis 1 the error is parallel to the output" in text


def test_missing_layer_norm_terms():
    x, g, gamma = draw((6, 5), 1), draw((6, 5), 2), draw((5,), 3)
    sigma = x.std(1, keepdims=True)
    normed, bar = (x - x.mean(1, keepdims=True)) / sigma, g * gamma
    mean, term = bar.mean(1, keepdims=True), normed * np.mean(bar * normed, 1, keepdims=True)
    true, more = (bar - mean - term) / sigma, {"value": x, "values": {"gamma": gamma}, "out_bar": [g]}
    assert first((bar - term) / sigma, true, **more)[0] == "constant"
    category, text = first((bar - mean) / sigma, true, **more)
    assert (category, "'x' − its mean along axis 1" in text) == ("missing-term", True)


def test_missing_transpose():
    a, t = draw((4, 4)), draw((3, 4, 4))
    assert first(a, a + a.T) == ("missing-term", "the transpose is missing: claimed + claimedᵀ is right")
    assert first(t, (t + np.swapaxes(t, 1, 2)) / 2)[0] == "missing-term"
    assert first((a + a.T) / 2, a) == ("missing-term", "a transpose too many: claimed is half of true + trueᵀ")


# --- no wrong hint


@pytest.mark.parametrize("shape", MANY)
@pytest.mark.parametrize("size", [1e-5, 1e-2, 1.0, 100.0])
def test_random_errors_get_no_cause(shape, size):
    others = {"y": draw(shape, 5), "w": draw((4, 4), 6), "b": draw((4,), 7), "tokens": np.array([1, 0, 1, 1])}
    for seed in range(10):
        true = draw(shape, seed)
        claimed = true + size * draw(shape, seed + 50)
        more = {"true": {"y": draw(shape, 8)}, "claimed": {"y": draw(shape, 9)}, "out_bar": [draw(shape, 4)]}
        found = hints(claimed, true, values=others, **more)
        assert found[0].category in ("missing-term", "localised")
        told = (" entries are wrong, most of all [", "by no simple factor")
        assert found[0].category == "localised" or any(words in found[0].text for words in told)


def test_random_errors_at_random_entries():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        true, value, mask = rng.normal(size=(6, 7)), rng.normal(size=(6, 7)), rng.random((6, 7)) < 0.3
        text = first(true + mask * rng.normal(size=(6, 7)), true, value=value)[1]
        assert text.startswith(f"right but for {mask.sum()} of 42 entries, at [")


def test_small_entries_are_not_right_ones():
    """Entries whose error is below the noise because the cotangent is, as in saturation, do not make a subset."""
    true = draw((40,)) * np.logspace(0, -12, 40)
    assert first(true * (1 + draw((40,), 1)), true)[0] == "missing-term"


def test_noise_is_respected():
    true = draw((5, 4))
    noisy = 2 * true + 1e-6 * draw((5, 4), 1)
    assert first(noisy, true, tolerance=1e-5) == ("factor", "claimed = k · true on every entry, with k = 2")
    assert first(noisy, true, tolerance=1e-9)[0] == "missing-term"
    assert hints(true + 1e-12, true)[0].category == "localised"


def test_sparse_true_cotangents():
    """Zeros on both sides say nothing: a factor stays a factor, a dense error stays one."""
    true = draw((9, 4)) * (np.arange(9) % 3 == 0)[:, None]
    assert first(2 * true, true)[0] == "factor"
    assert first(true * (1 + draw((9, 4), 1)), true)[0] == "missing-term"
    category, text = first(draw((9, 4)), np.zeros((9, 4)), true={"y": draw((3,))})
    assert (category, "true cotangent is zero" in text) == ("missing-term", True)


# --- precedence


def test_precedence():
    value = draw((4, 4), 1)
    square = value + value.T
    skew = value - value.T
    assert first(skew.T, skew)[0] == "sign"
    assert first(square * 2, square, value=square)[0] == "factor"
    assert first(-value, value, true={"y": -value}, values={"y": value})[0] == "sign"
    assert first(value.T, value, true={"y": value.T}, values={"y": value})[0] == "transposed"
    assert first(value[::-1], value, true={"y": value[::-1]}, values={"y": value})[0] == "swapped"
    assert first(np.zeros((4, 4)), square, value=-square)[0] == "zero"
    nan = np.full((4, 4), np.nan)
    assert first(nan, value)[0] == "nan"


def test_arrays_of_any_dtype():
    true, g = draw((5, 4)), draw((5, 4), 1)
    values = {
        "x": draw((5, 4)).astype(ml_dtypes.bfloat16),
        "i": np.arange(5),
        "m": np.ones(5, bool),
        "w": np.full((4, 4), np.nan),
    }
    leaves = {"x": true, "i": np.zeros(5, [("float0", "V")]), "huge": np.full((5, 4), 1e300)}
    for claimed, category in [(true + 0.3 * g, "missing-term"), (1e200 * g, "missing-term"), (2 * true, "factor")]:
        context = Context(values, leaves, leaves, [g.astype(np.float32).astype(np.float64), np.float32(2)])
        context = context if category == "factor" else context._replace(true={"x": true, "i": leaves["i"]})
        assert explain("x", claimed, true, context)[0].category == category
    assert explain("e", np.zeros((0, 3)), np.zeros((0, 3)), Context({}, {}, {}))[0].category == "localised"


def test_bad_shapes():
    with pytest.raises(ValueError, match="one shape"):
        explain("x", draw((3,)), draw((4,)), Context({}, {}, {}))


def test_large_leaves_are_quick():
    rng = np.random.default_rng(0)
    shape = (784, 256)
    true, value, other = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape)
    context = Context({"w": value, "v": other}, {}, {"w": true, "v": other}, [rng.normal(size=(32, 256))])
    wrong = true.copy()
    wrong[3, 5] *= 1.0001
    start = time.process_time()
    hint = explain("w", wrong, true, context)[0]
    seconds = time.process_time() - start
    assert hint.category == "subset"
    assert "[3, 5]" in hint.text
    assert seconds < 1.0
    assert explain("w", true + rng.normal(size=shape), true, context)[0].category == "missing-term"
