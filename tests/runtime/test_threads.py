"""Threads of one process: fits take turns, and find what they find one by one; nobody waits for somebody who waits."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from mrgp.models import DLAG, FA

import mrgp
from mrgp.runtime.workers import TRACING
from mrgp.simulations.simulate import simulate

PATIENCE = 300.0   # s: who has not answered then waits for ever
MODEL = DLAG(n_across=1, n_within=0, max_delay=0.06)
QUICK = {"n_starts": 1, "progress": False, "max_iterations": 12}
pytestmark = pytest.mark.filterwarnings("ignore:the fit has not converged")


@pytest.fixture(scope="module")
def data():
    return simulate(
        regions={"V1": 4, "V2": 4}, n_across=1, n_within=0, n_trials=8, n_bins=12, delay=[[0.0], [0.02]], seed=0
    ).data


@pytest.fixture(scope="module")
def serial(data):
    return [MODEL.fit(data, seed=seed, **QUICK) for seed in range(2)]


@pytest.mark.slow
def test_fits_in_threads_are_those_of_one_by_one(data, serial):
    expected = serial[0].latents()
    jax.clear_caches()   # all have something to compile, which is when they would be in each other's way
    start = threading.Barrier(3)

    def fit(seed):
        start.wait(PATIENCE)
        fitted = MODEL.fit(data, seed=seed, **QUICK)
        return fitted, fitted.log_likelihood().values

    def read():
        start.wait(PATIENCE)
        return serial[0].latents()

    with ThreadPoolExecutor(3) as pool:
        latents, *fits = pool.submit(read), pool.submit(fit, 0), pool.submit(fit, 1)
        found = [one.result(PATIENCE) for one in fits]
        read_meanwhile = latents.result(PATIENCE)
    for (fitted, scores), one in zip(found, serial, strict=True):
        assert fitted.sites.keys() == one.sites.keys()
        for name, value in one.sites.items():
            np.testing.assert_allclose(fitted.sites[name], value, rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(scores, one.log_likelihood().values, rtol=1e-9)
    for name, value in expected.items():
        np.testing.assert_allclose(read_meanwhile[name].values, value.values, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_threads_whose_workers_are_threads_do_not_wait_for_each_other(data, serial):
    expected = mrgp.bootstrap_delays(serial[0], n_samples=4, progress=False).delays.values
    jax.clear_caches()

    def resample():
        with ThreadPoolExecutor(2) as own:
            return mrgp.bootstrap_delays(serial[0], n_samples=4, executor=own, progress=False)

    with ThreadPoolExecutor(2) as pool:
        bootstrap, fit = pool.submit(resample), pool.submit(MODEL.fit, data, seed=0, **QUICK)
        np.testing.assert_allclose(bootstrap.result(PATIENCE).delays.values, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(fit.result(PATIENCE).delays.values, serial[0].delays.values, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_who_holds_the_lock_goes_on(data):
    with TRACING:
        assert np.isfinite(FA(1).fit(data, **QUICK).log_likelihood(data).values).all()
