"""Hints: a term that is missing is named."""

import numpy as np
from hinting import draw, first


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
