"""Steps after which the gains of a Kalman filter are constant.

Later steps need no covariances.
"""

from typing import Any

import jax
import numpy as np
from jax import Array

from mrgp.likelihoods.kalman import MarkovGP
from mrgp.likelihoods.recursions.filter import Dynamics, StateReadout

QUIET = 10  # steps without a change, after which none is to come: beside as many as came before, and as there are
# states, since what one region has measured another may read at the far end of the registers


def settling_steps(distribution: MarkovGP, value: Any, tolerance: float = 1e-9) -> int | None:
    """Count the steps until the gains of a time-invariant model are constant.

    They are if they change by no more than ``tolerance``; None if they never are.

    The covariance recursion is run once at the distribution's own (concrete) parameters. A margin is added, since the
    number is used while a fit moves the parameters; the fit checks it again at its end.
    """
    dynamics, readout, precision = jax.tree.map(np.asarray, _recursion(distribution, value))
    if precision.shape[0] > 1 or readout.weights.shape[0] > 1:
        return None
    n_steps = -(-distribution.n_bins // distribution.space.window.step)
    A, W, told = dynamics.transition, readout.weights[0], precision[0, 0]
    predicted, before, late = dynamics.stationary, None, 0
    for step in range(n_steps):
        cross = predicted @ W.T
        gain = A @ np.linalg.solve((np.eye(len(W)) + told @ (W @ cross + np.diag(readout.noise[0]))).T, cross.T).T
        closed = A - gain @ told @ W
        predicted = closed @ predicted @ A.T + dynamics.process_noise
        predicted = 0.5 * (predicted + predicted.T)
        if before is None or np.abs(closed - before).max() > tolerance:
            late = step
        elif step > max(2 * late, late + len(A)) + QUIET:
            break
        before = closed
    margin = late + 3 + max(5, (late + 3) // 4)
    return margin if margin < n_steps else None


@jax.jit
def _recursion(distribution: MarkovGP, value: Array) -> tuple[Dynamics, StateReadout, Array]:
    """Dynamics, readout and precision of a trial without holes, in steps."""
    # Gains depend on the patterns of missing entries, not on where trials end.
    whole = distribution.with_missing(None)
    return *whole.space.assemble(whole.latents), whole._in_steps(whole.information(value)).precision
