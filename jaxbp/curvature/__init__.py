"""Curvature: Fisher, Gauss-Newton and Hessian quantities of our nets, from the factors of their backward passes.

All are of the objective C = 1/W sum_b w_b C_b, W = sum_b w_b, of `value_and_grad` (reduction="sum": W = 1), so that a
Gauss-Newton matrix, a Fisher matrix and a Hessian of the same batch have the same scale. Functions are called
f(params, x, targets, *, sample_weight=None, key=None, train=True), products f(params, v, x, targets, ...).

    ggn_diagonal               diag of 1/W sum w_b J_b^T H_b J_b     exact, or samples=
    fisher_diagonal            the same with targets drawn from the net's predictive distribution
    empirical_fisher_diagonal  diag of 1/W sum w_b g_b g_b^T         the second moment of the gradients
    kfac                       A (x) G for every parameter           of any of the three; expand or reduce
    ggn_vector_product         (1/W sum w_b J_b^T H_b J_b) v
    hessian_vector_product     (d^2 C / dparams^2) v

J_b: the Jacobian of the outputs of example b, H_b: the Hessian of its loss in them. Only quantities: optimisers and Laplace
posteriors are their users. Called under one `jax.jit` with `value_and_grad` at the same arguments, XLA runs the forward pass
that they share once.

Nets in whose training examples meet (batch norm) are refused by all but the two products. With train=False they are taken.
"""

from jaxbp.curvature.diagonals import empirical_fisher_diagonal, fisher_diagonal, ggn_diagonal
from jaxbp.curvature.kfac import kfac
from jaxbp.curvature.kronecker import Kronecker
from jaxbp.curvature.products import ggn_vector_product, hessian_vector_product


__all__ = [
    "Kronecker",
    "empirical_fisher_diagonal",
    "fisher_diagonal",
    "ggn_diagonal",
    "ggn_vector_product",
    "hessian_vector_product",
    "kfac",
]
