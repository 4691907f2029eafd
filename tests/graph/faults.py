"""Planted faults: functions that leave the finite numbers, each at the line that ends in `# fault`."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


@dataclasses.dataclass(frozen=True)
class Fault:
    """`fun` at `x`. Fields `forward` and `backward`: the primitive that does it at the marked line, None for a pass without."""

    fun: Callable
    x: tuple
    forward: str | None
    backward: str | None
    turns: tuple = ()
    within: tuple = ()


def sqrt_at_zero(x):
    y = x * x
    r = jnp.sqrt(y)  # fault
    return jnp.sum(r + 1.0)


def where_branch(x):
    safe = x > 0.0
    y = jnp.log(x)  # fault
    return jnp.sum(jnp.where(safe, y, jnp.zeros_like(y)))


def where_sqrt(x):
    y = jnp.sqrt(x)  # fault
    return jnp.sum(jnp.where(x > 0.0, y, jnp.zeros_like(y)))


def log_of_zero(x):
    y = x * 2.0
    z = jnp.log(y)  # fault
    return jnp.sum(z * 0.5)


def softmax_overflow(x):
    z = 1e4 * x
    e = jnp.exp(z)  # fault
    return jnp.sum(e / jnp.sum(e) * x)


def zero_times_infinity(x):
    y = x + jnp.inf
    z = y * jnp.sin(x * 0.0)  # fault
    return jnp.sum(z)


def norm_at_zero(x):
    d = x - x[1]
    n = jnp.sqrt(jnp.sum(d[1:2] ** 2))  # fault
    return n + jnp.sum(x)


def zero_over_zero(x):
    d = x - x
    q = d / jnp.sum(x * 0.0)  # fault
    return jnp.sum(q)


def power_below_one(x):
    y = x * 3.0
    z = y**0.5  # fault
    return jnp.sum(z)


def overflow_of_a_product(x):
    y = 1e30 * x
    z = y * 1e30  # fault
    return jnp.sum(jnp.tanh(z))


def adjoint_overflow(x):
    y = 1e-30 * x
    z = 1e20 * y  # fault
    w = 1e25 * z
    return jnp.sum(w * 1e5)


def inside_scan(x):
    def step(c, z):
        y = jnp.sqrt(z)  # fault
        return c + y, y

    return lax.scan(step, jnp.float32(0.0), x)[0]


def forward_inside_scan(x):
    def step(c, z):
        y = jnp.log(z)  # fault
        return c + y, y

    return lax.scan(step, jnp.float32(0.0), x)[0]


def backward_through_a_reversed_scan(x):
    def step(c, z):
        return c * 1.0 + jnp.sqrt(z), c  # fault

    return lax.scan(step, jnp.float32(0.0), x, reverse=True)[0]


def inside_cond(x):
    def yes(x):
        return jnp.sum(jnp.sqrt(x))  # fault

    return lax.cond(x[0] > 0.0, yes, lambda x: jnp.sum(x), x)


def inside_jit(x):
    @jax.jit
    def inner(x):
        return 1.0 / x  # fault

    return jnp.sum(inner(x))


def inside_while(x):
    def body(c):
        i, y = c
        return i + 1, y * y  # fault

    return jnp.sum(lax.while_loop(lambda c: c[0] < 5, body, (0, x * 1e9))[1])


def inside_remat(x):
    @jax.checkpoint
    def inner(x):
        return jnp.sqrt(x)  # fault

    return jnp.sum(inner(x))


@jax.custom_vjp
def rooted(x):
    return jnp.sqrt(x)


def rooted_fwd(x):
    return jnp.sqrt(x), x


def rooted_bwd(x, y_bar):
    r = jnp.sqrt(x)
    return (y_bar * 0.5 / r,)  # fault


rooted.defvjp(rooted_fwd, rooted_bwd)


def inside_a_vjp_rule(x):
    return jnp.sum(rooted(x) * 2.0)


@jax.custom_jvp
def sinc(x):
    return x * 1.0


@sinc.defjvp
def sinc_jvp(primals, tangents):
    (x,), (x_dot,) = primals, tangents
    slope = jnp.sin(x) / x  # fault
    return sinc(x), slope * x_dot


def inside_a_jvp_rule(x):
    return jnp.sum(sinc(x) * 2.0)


def primal_of_a_rule(x):
    return jnp.sum(logged(x))


@jax.custom_jvp
def logged(x):
    y = x * 1.0
    return jnp.log(y)  # fault


logged.defjvps(lambda x_dot, ans, x: x_dot)


ONES, ZERO = (2.0, 1.0, 3.0), (2.0, 0.0, 3.0)
TABLE = {
    "sqrt at 0": Fault(sqrt_at_zero, ZERO, None, "sqrt"),
    "where over log": Fault(where_branch, ZERO, "log", "log"),
    "where over sqrt": Fault(where_sqrt, ZERO, None, "sqrt"),
    "log of 0": Fault(log_of_zero, ZERO, "log", "log"),
    "overflow in softmax": Fault(softmax_overflow, ONES, "exp", None),
    "0 * inf": Fault(zero_times_infinity, ONES, "mul", None),
    "norm at 0": Fault(norm_at_zero, ONES, None, "sqrt"),
    "0 / 0": Fault(zero_over_zero, ONES, "div", None),
    "power": Fault(power_below_one, ZERO, None, "pow"),
    "overflow of a product": Fault(overflow_of_a_product, ONES, "mul", None),
    "overflow of an adjoint": Fault(adjoint_overflow, ONES, None, "mul"),
    "scan, backward": Fault(inside_scan, ZERO, None, "sqrt", (1,), ("scan body",)),
    "scan, forward": Fault(forward_inside_scan, ZERO, "log", "log", (1,), ("scan body",)),
    "scan from the end": Fault(backward_through_a_reversed_scan, ZERO, None, "sqrt", (1,), ("scan body",)),
    "cond": Fault(inside_cond, ZERO, None, "sqrt", (), ("branch 1",)),
    "jit": Fault(inside_jit, ZERO, "div", "div", (), ("jit inner",)),
    "while": Fault(inside_while, ONES, "mul", None, (2,), ("while body",)),
    "remat": Fault(inside_remat, ZERO, None, "sqrt", (), ("checkpoint",)),
    "custom_vjp": Fault(inside_a_vjp_rule, ZERO, None, "div", (), ("rule rooted",)),
    "custom_jvp": Fault(inside_a_jvp_rule, ZERO, None, "div", (), ("rule sinc",)),
    "primal of a custom rule": Fault(primal_of_a_rule, ZERO, "log", None, (), ("rule logged",)),
}
SOURCES = {inside_a_vjp_rule: rooted_bwd, inside_a_jvp_rule: sinc_jvp, primal_of_a_rule: logged.fun}
