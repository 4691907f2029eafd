"""What the tests of reports share: a comparison of gradients, and the parts of a page."""

import re


FOLDS, EPOCHS = 10, 50


def comparison():
    leaf = lambda path, shape, *errors: {
        "path": path, "shape": shape, "scale": 0.0312, **dict(zip(("hand_f64", "hand_f32", "autodiff_f32"), errors, strict=True))
    }  # fmt: skip
    leaves = [leaf("params[0].w", (64, 32), 3.4e-16, 1.4e-7, 1.6e-7), leaf("params[0].b", (32,), 0.0, 9.3e-8, 9.4e-8)]
    return {"leaves": leaves, "step_time_ratio": 1.012, "compile_time_ratio": None, "memory_ratio": 0.76, "dtype": "float32"}


def figures(page):
    return re.findall(r"<svg xmlns.*?</figure>", page, re.DOTALL)


def headings(page):
    return re.findall(r"<h2[^>]*>(.*?)</h2>", page)
