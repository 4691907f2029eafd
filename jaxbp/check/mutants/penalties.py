"""Planted bugs in penalties: decay in the wrong place, norms at zero, borders, singular vectors."""

from functools import partial

import jax.numpy as jnp

from jaxbp.check.mutants.cases import Check, draw, on, planted, with_rule


STRENGTH = 0.3


# --- a ridge loss, its gradient by hand


def ridge(params, x, y):
    errors = x @ params["w"] + params["b"] - y
    return jnp.mean(errors**2) + 0.5 * STRENGTH * jnp.sum(params["w"] ** 2)


def ridge_parts(params, x, y):
    errors_bar = 2 * (x @ params["w"] + params["b"] - y) / y.size
    return x.T @ errors_bar, jnp.sum(errors_bar)


def ridge_gradient_doubled(params, x, y):
    w_bar, b_bar = ridge_parts(params, x, y)
    return {"w": w_bar + 2 * STRENGTH * params["w"], "b": b_bar}  # the 1/2 of the penalty forgotten


def ridge_gradient_bias(params, x, y):
    w_bar, b_bar = ridge_parts(params, x, y)
    return {"w": w_bar + STRENGTH * params["w"], "b": b_bar + STRENGTH * params["b"]}  # the bias is not penalised


def build_ridge(gradient, key, dtype):
    w, b, x, y = draw(key, dtype, (4,), (), (6, 4), (6,))
    return Check(ridge, ({"w": w, "b": b}, x, y), "gradient", gradient)


# --- absolute values and norms


def lasso(w):
    return STRENGTH * jnp.sum(jnp.abs(w))


def lasso_forward(w):
    return lasso(w), w


def lasso_backward(w, bar):
    return (bar * STRENGTH * w / jnp.abs(w),)  # 0/0 at a pruned weight


lasso_at_zero = with_rule(lasso, lasso_forward, lasso_backward)


def build_pruned(key, dtype):
    (w,) = draw(key, dtype, (3, 4))
    return Check(lasso_at_zero, (w.at[1, 2].set(0).at[2, 0].set(0),))


def elastic(w):
    return STRENGTH * jnp.sum(jnp.abs(w)) + 0.5 * jnp.sum(w**2)


def elastic_forward(w):
    return elastic(w), w


def elastic_backward(w, bar):
    return (bar * (STRENGTH + w),)  # STRENGTH sign(w)


elastic_without_sign = with_rule(elastic, elastic_forward, elastic_backward)


def group_lasso(w):
    """The sum of the norms of the rows (all weights of one input)."""
    return jnp.sum(jnp.sqrt(jnp.sum(w**2, axis=1)))


def group_lasso_forward(w):
    return group_lasso(w), w


def group_lasso_backward(w, bar):
    return (bar * w / jnp.sqrt(jnp.sum(w**2)),)  # a norm for each row


one_group = with_rule(group_lasso, group_lasso_forward, group_lasso_backward)


def orthogonality(w):
    gram = w.T @ w
    return jnp.sum((gram - jnp.eye(gram.shape[0], dtype=w.dtype)) ** 2)


def orthogonality_forward(w):
    return orthogonality(w), w


def orthogonality_backward(w, bar):
    return (bar * 4 * w @ (w.T @ w),)  # - identity


identity_lost = with_rule(orthogonality, orthogonality_forward, orthogonality_backward)


def spectral_norm(w):
    return jnp.linalg.svd(w, compute_uv=False)[0]


def spectral_norm_forward(w):
    u, s, vt = jnp.linalg.svd(w)
    return s[0], (u[:, 0], vt[0])


def spectral_norm_backward(residuals, bar):
    u, v = residuals
    return (bar * jnp.outer(v, u),)  # outer(u, v)


singular_vectors_swapped = with_rule(spectral_norm, spectral_norm_forward, spectral_norm_backward)


def build_square(key, dtype):
    """A matrix whose largest singular value stands apart."""
    w, u, v = draw(key, dtype, (4, 4), (4,), (4,))
    return Check(singular_vectors_swapped, (0.3 * w + 2 * jnp.outer(u, v),))


# --- neighbours


def roughness(x):
    """Squared differences of neighbours; the line does not close."""
    return 0.5 * jnp.sum((x[1:] - x[:-1]) ** 2)


def roughness_forward(x):
    return roughness(x), x


def roughness_backward(x, bar):
    return (bar * (2 * x - jnp.roll(x, 1) - jnp.roll(x, -1)),)  # on a ring


closed_to_a_ring = with_rule(roughness, roughness_forward, roughness_backward)


def entropy(probs):
    return -jnp.sum(probs * jnp.log(probs), axis=1)


def entropy_forward(probs):
    return entropy(probs), probs


def entropy_backward(probs, bar):
    return (-bar[:, None] * jnp.log(probs),)  # - 1


entropy_product_rule = with_rule(entropy, entropy_forward, entropy_backward)


def build_entropy(key, dtype):
    (logits,) = draw(key, dtype, (3, 5))
    weights = jnp.exp(logits)
    return Check(entropy_product_rule, (weights / jnp.sum(weights, axis=1, keepdims=True),))


MUTANTS = planted(
    "penalties",
    ("ridge decay doubled", "decay in the rule", partial(build_ridge, ridge_gradient_doubled), "decay"),
    ("ridge decays the bias", "decay in the rule", partial(build_ridge, ridge_gradient_bias), "decay"),
    ("lasso at a zero weight", "zero input", build_pruned, "nan"),
    ("elastic net without the sign", "sign of the entry", on(elastic_without_sign, (4, 5)), "subset"),
    ("group lasso with one norm for all", "sum over too much", on(one_group, (4, 3)), "missing-term"),
    ("orthogonality without the identity", "constant term", on(identity_lost, (5, 3)), "decay"),
    ("singular vectors exchanged", "outer product turned", build_square, "transposed"),
    ("roughness of a ring", "border windows", on(closed_to_a_ring, (7,)), "subset"),
    ("entropy without the minus one", "constant term", build_entropy, "constant"),
)
