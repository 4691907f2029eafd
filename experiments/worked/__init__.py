"""A small net worked by hand: `python -m experiments worked`."""

from experiments.worked.study import run


__all__ = ["run"]
