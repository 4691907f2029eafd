"""Strict flags for every test: float64 available, no implicit rank promotion. Warnings are errors (pyproject.toml)."""

import os
import pathlib

import jax
import pytest


jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """The folder of outside data sets, from JAXBP_DATA; tests that need it skip without it."""
    folder = os.environ.get("JAXBP_DATA")
    if not folder or not pathlib.Path(folder).is_dir():
        pytest.skip("needs the data folder: set JAXBP_DATA to a folder with mnist/, mnist_1000/, uci/ (see README)")
    return pathlib.Path(folder)
