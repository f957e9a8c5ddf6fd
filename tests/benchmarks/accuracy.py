"""What the approximations cost: KL divergence per trial of each lift from the exact model.

    python tests/benchmarks/accuracy.py
"""

import jax.numpy as jnp
from common import record, table

from mrgp import SquaredExponential, Window
from mrgp.likelihoods.statespace.assemble import Latents, Prior, StateSpace
from mrgp.likelihoods.statespace.autoregressive import AutoregressiveSpace
from mrgp.likelihoods.statespace.covariance import divergence, exact_covariance, lifted_covariance
from mrgp.likelihoods.statespace.lift import build_lift
from mrgp.parts.latents import LatentLayout

BINS, DELAYS, OBSERVATION_VARIANCE = 100, (0.0, 2.3, -1.7), 0.05
LENGTHSCALES = (0.7, 1.0, 1.41, 2.0, 5.0, 10.0, 30.0)


def main() -> None:
    kernel = SquaredExponential()
    prior = Prior(kernel, 1e-3, LatentLayout((1, 1, 1), 1, (0, 0, 0)))
    spaces = {"vector AR(2)": AutoregressiveSpace(prior, 2), "vector AR(4)": AutoregressiveSpace(prior, 4)}
    for order in (4, 5, 6):
        for window in (Window(6), Window(12, 1, 2)):
            name = f"readout, order {order}, {window.n_registers} registers {window.spacing:g} bin apart"
            spaces[name] = StateSpace(prior, build_lift(kernel, order), window)
    spaces["readout, order 5, no registers"] = StateSpace(prior, build_lift(kernel, 5), Window(0))
    spaces["readout, order 5, 2 bins per step, 4 registers"] = StateSpace(prior, build_lift(kernel, 5), Window(4, 2))
    precision = jnp.eye(3 * BINS) / OBSERVATION_VARIANCE
    rows = []
    for name, space in spaces.items():
        row: list[object] = [name, space.n_states]
        for lengthscale in LENGTHSCALES:
            delay = jnp.asarray(DELAYS)[None, :, None]
            latents = Latents(delay, {"timescale": jnp.array([lengthscale])}, {"timescale": jnp.zeros(0)})
            pair = exact_covariance(prior, latents, BINS), lifted_covariance(space, latents, BINS)
            row.append(f"{float(divergence(*pair, precision)):.1e}")
        rows.append(row)
    note = (
        f"Nats per trial of {BINS} bins, 3 regions with delays {DELAYS} bins, squared exponential, GP noise 1e-3, "
        f"observation variance {OBSERVATION_VARIANCE}; columns are lengthscales in bins."
    )
    body = f"{table(['lift', 'states', *LENGTHSCALES], rows)}\n\n{note}"
    record("KL divergence of the lifts", body, "python tests/benchmarks/accuracy.py")


if __name__ == "__main__":
    main()
