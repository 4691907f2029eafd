"""Functions with custom rules, right ones and wrong ones, that the tests of the audit share."""

import functools

import jax
import jax.numpy as jnp


def make(name, slope=1.0, right=True):
    """A rule of slope * sin(x) * w; a wrong one forgets the slope in w_bar."""

    def formula(x, w):
        return slope * jnp.sin(x) * w

    def forward(x, w):
        return rule(x, w), (x, w)

    def backward(residuals, bar):
        x, w = residuals
        return bar * slope * jnp.cos(x) * w, bar * (slope if right else 1.0) * jnp.sin(x)

    formula.__name__ = name
    rule = jax.custom_vjp(formula)
    rule.defvjp(forward, backward)
    return rule


sound = make("sound")
X, W = jnp.array([0.3, 1.2, -0.5], jnp.float32), jnp.array([1.1, 0.4, -0.6], jnp.float32)


@jax.custom_vjp
def broken(x, w):
    return jnp.sin(x) * w


def broken_forward(x, w):
    return broken(x, w), (x, w)


def broken_backward(residuals, bar):
    x, w = residuals
    return bar * jnp.cos(x) * w, -bar * jnp.sin(x)


broken.defvjp(broken_forward, broken_backward)


@jax.custom_jvp
def forward_rule(x):
    return jnp.cos(x)


forward_rule.defjvp(lambda primals, tangents: (forward_rule(*primals), -jnp.sin(primals[0]) * tangents[0]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def static_power(k, x, w):
    return x**k * w


static_power.defvjp(lambda k, x, w: (x**k * w, (x, w)), lambda k, r, bar: (bar * k * r[0] ** (k - 1) * r[1], bar * r[0] ** k))
