"""Strict flags for every test: float64 available, no implicit rank promotion. Warnings are errors (pyproject.toml)."""

import os
import pathlib

import hypothesis
import jax
import pytest


jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


hypothesis.settings.register_profile("jaxbp", deadline=None)  # the machine may be busy
hypothesis.settings.load_profile("jaxbp")


# what these hold to the last digit, or in bytes, has to hold of the programs that users run
OPTIMISED = {
    "test_ops",
    "test_activations",
    "test_softmax",
    "test_cross_entropy",
    "test_margins",
    "test_probabilities",
    "test_normalization",
    "test_outer",
    "test_conv",
    "test_rows",
    "test_classics",
}


@pytest.fixture(autouse=True, scope="module")
def quick_compiles(request):
    """XLA without most of its optimisations where agreement in float64 does not hang on them: half the compile time."""
    quick = request.module.__name__.rpartition(".")[2] not in OPTIMISED
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # thousands of programs would stay in memory, gigabytes by the end


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """The folder of outside data sets, from JAXBP_DATA; tests that need it skip without it."""
    folder = os.environ.get("JAXBP_DATA")
    if not folder or not pathlib.Path(folder).is_dir():
        pytest.skip("needs the data folder: set JAXBP_DATA to a folder with mnist/, mnist_1000/, uci/ (see README)")
    return pathlib.Path(folder)
