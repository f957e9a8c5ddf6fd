r"""The evidence of a model by Laplace's method (MacKay 2003, ch. 27).

    log p(y) ~= log p(y, sites) + log |d sites / du| + n/2 log 2 pi - log |H| / 2

at the maximum, with H the Hessian by the n unconstrained coordinates u of what was inferred. Of the few (delays, kernel
parameters) and the many (loadings, noise, offsets) log |H| = log |S| + log |H_cc|, S being the profile curvature.
"""

import jax.numpy as jnp
import numpy as np

from mrgp.inference.curvature import Curvature, product_on
from mrgp.inference.krylov import log_determinant
from mrgp.inference.map import Objective, constrain


def laplace_evidence(objective: Objective, curvature: Curvature, progress: bool = False) -> tuple[float, float]:
    """log p(y, frozen sites) in nats and the standard error of its computation.

    Args:
        objective: The negative log density, at the maximum.
        curvature: Of some of its sites, all others profiled out.
        progress: Show a progress bar.

    Raises:
        FloatingPointError: the curvature is not positive definite.
    """
    rest = [name for name in objective.origin if name not in curvature.names]
    size = sum(np.size(objective.origin[name]) for name in rest)
    logarithm, error = log_determinant(product_on(objective, rest), size, progress=progress)
    scales = sum(float(jnp.log(objective.scale[name]).sum()) for name in rest)
    of_many = logarithm - 2 * scales
    of_few = -np.linalg.slogdet(curvature.covariance)[1]
    sites = constrain(objective.transforms, objective.origin)
    volume = sum(
        float(jnp.sum(transform.log_abs_det_jacobian(objective.origin[name], sites[name])))
        for name, transform in objective.transforms.items()
    )
    top = -objective(np.zeros(objective.size))[0]
    value = top + volume + 0.5 * objective.size * np.log(2 * np.pi) - 0.5 * (of_few + of_many)
    return float(value), 0.5 * error
