"""The same gradient by other ways: by hand, `jax.grad`, forward mode, differences, complex step, by examples, by paths.

gradient(fun, by="forward")(params, ...)    grads and the passes that they took, of any JAX function
of_net(net, loss)                           a net's objective as such a function, which is also known by hand
compare(fun)(params, ...)                   all ways side by side
path_counts(of_net(net, loss))(params, ...) how many paths lead from each parameter to the cost
"""

from jaxbp.routes.doors import WAYS, Route, Routes, compare, gradient, of_net
from jaxbp.routes.path_sum import path_counts
from jaxbp.routes.problem import Found, NetObjective, Passes


__all__ = ["WAYS", "Found", "NetObjective", "Passes", "Route", "Routes", "compare", "gradient", "of_net", "path_counts"]
