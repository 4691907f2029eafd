"""What the tests of hints share: shapes, draws, and the hints of one leaf."""

import numpy as np

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
