r"""The evidence of a model by Laplace's method (MacKay 2003, ch. 27).

    log p(y) ~= log p(y, sites) + log |d sites / du| + n/2 log 2 pi - log |H| / 2

at the maximum, with H the Hessian by the n unconstrained coordinates u of what was inferred. Of the few (delays, kernel
parameters) and the many (loadings, noise, offsets) log |H| = log |S| + log |H_cc|, S being the profile curvature.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from mrgp.inference.density import constrain
from mrgp.inference.mode.curvature import Curvature, product_on
from mrgp.inference.mode.krylov import log_determinant
from mrgp.inference.optimise import Objective

FAR = 500.0  # where the transform to a bounded site has reached its bounds


def laplace_evidence(objective: Objective, curvature: Curvature, progress: bool = False) -> tuple[float, float]:
    """Compute log p(y, frozen sites) in nats, and the standard error of that computation.

    Args:
        objective: The negative log density, at the maximum.
        curvature: Of some of its sites, all others profiled out.
        progress: Show a progress bar.

    A site between two bounds, such as a delay, is a Gaussian cut there: a delay of which nothing is known must not
    count as evidence for one.

    Raises:
        FloatingPointError: the curvature is not positive definite.
    """
    if not curvature.positive:
        raise FloatingPointError("the curvature at the maximum is not sound: there is no evidence to speak of")
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
        if objective.origin[name].size
    )
    top = -objective(np.zeros(objective.size))[0]
    top += _log_inside(objective, curvature)
    value = top + volume + 0.5 * objective.size * np.log(2 * np.pi) - 0.5 * (of_few + of_many)
    return float(value), 0.5 * error


def _log_inside(objective: Objective, curvature: Curvature) -> float:
    """Log of the Gaussian's mass between the bounds of the few sites, summed over entries."""
    sds, first, total = np.sqrt(np.diag(curvature.covariance)), 0, 0.0
    for name in curvature.names:
        free, transform = objective.origin[name], objective.transforms[name]
        sd, first = sds[first : first + free.size].reshape(free.shape), first + free.size
        low, high = (np.asarray(transform(jnp.full(free.shape, end))) for end in (-FAR, FAR))
        center, slope = jax.jvp(transform, (free,), (jnp.ones_like(free),))
        if (np.abs(low) < FAR).all() and (np.abs(high) < FAR).all():
            width = np.abs(np.asarray(slope)) * sd
            total += np.log(norm.cdf((high - center) / width) - norm.cdf((low - center) / width)).sum()
    return float(total)
