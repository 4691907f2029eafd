"""Any JAX function as a graph whose every node has its value and its adjoint.

    adjoints(fun)(*args)                    every intermediate: line, primitive, value, adjoint, statistics
    find_nonfinite(fun)(*args)              where each pass first leaves the finite numbers
    explain(fun, argument, index)(*args)    d output / d one entry, path by path and factor by factor
    draw(fun)(*args)                        the graph as an SVG

It knows no layer of this library. The adjoints come from reverse accumulation written here over the traced program.
"""

from jaxbp.graph.drawing import draw, draw_graph
from jaxbp.graph.nodes import Graph, Node, Statistics, adjoints
from jaxbp.graph.nonfinite import Fault, Nonfinite, find_nonfinite
from jaxbp.graph.paths import Explanation, Route, explain


__all__ = [
    "Explanation",
    "Fault",
    "Graph",
    "Node",
    "Nonfinite",
    "Route",
    "Statistics",
    "adjoints",
    "draw",
    "draw_graph",
    "explain",
    "find_nonfinite",
]
