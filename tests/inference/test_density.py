"""Log densities of programs of one's own: their sites, and coordinates."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from mrgp.inference.density import LogJoint, free_sites
from mrgp.inference.optimise import Objective

HIGH = jnp.array([1.0, 2.0])
PRIORS = {
    "of each entry": lambda: dist.Uniform(jnp.zeros(2), HIGH).to_event(1),
    "computed": lambda: dist.Uniform(0.0, 1.5 * HIGH).to_event(1),
    "numbers": lambda: dist.Uniform(0.0, 1.0).expand([2]).to_event(1),
    "none": lambda: dist.Normal(0.0, HIGH).to_event(1),
}


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_bounds_may_be_computed_by_the_program(prior):
    def program(data):
        x = numpyro.sample("x", prior())
        numpyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=data)

    y, start = jnp.array([0.4, 0.6]), {"x": np.array([0.5, 0.7])}
    assert np.shape(free_sites(program, y)["x"]["value"]) == (2,)
    objective = Objective(LogJoint(program), y, start, {})
    value, slope = objective(np.zeros(2))
    wanted = prior().log_prob(start["x"]) + dist.Normal(start["x"], 1.0).log_prob(y).sum()
    np.testing.assert_allclose(-value, wanted, rtol=1e-12)
    np.testing.assert_allclose(objective.sites(np.zeros(2))["x"], start["x"], rtol=1e-12)
    step = np.array([1e-5, 0.0])
    np.testing.assert_allclose(slope[0], (objective(step)[0] - objective(-step)[0]) / 2e-5, rtol=1e-6, atol=1e-8)
