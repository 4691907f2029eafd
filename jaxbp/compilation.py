"""Compiling in half the time what runs only a few times.

XLA's default for CPU spends its time on code that pays off in millions of iterations. For a program that runs once, such as
drawing initial params or a reference in float64, most of that time is lost. Nothing but rounding differs.
"""

from __future__ import annotations

from typing import Any

import jax


CPU_OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_llvm_disable_expensive_passes": True,
    "xla_backend_optimization_level": 1,
}


def compile_briefly(lowered: Any) -> Any:
    """The executable of `jax.jit(f).lower(...)`, with fewer optimisations where the platform is CPU.

    A jaxlib that does not know an option compiles as always.
    """
    if jax.default_backend() != "cpu":
        return lowered.compile()
    try:
        return lowered.compile(compiler_options=CPU_OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        if "option" not in str(error):
            raise
        return lowered.compile()
