"""What the tests of the checker ask with: rules of a few lines, a check without its battery, float32 as users have it."""

import jax
import pytest

from jaxbp.check import check_vjp


@pytest.fixture(autouse=True)
def as_users_see_it():
    with jax.enable_x64(False):
        yield
        assert not jax.config.jax_enable_x64


def rule(primal, backward):
    """`primal` with a rule backward(arguments, cotangent)."""
    fun = jax.custom_vjp(primal)
    fun.defvjp(lambda *args: (primal(*args), args), backward)
    return fun


def quick(fun, *args, **options):
    return check_vjp(fun, *args, battery=False, **options)
