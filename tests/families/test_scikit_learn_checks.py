"""The checks that scikit-learn has for estimators, on a model of white latents, whose samples are rows."""

import pytest
from mrgp.models import FA

import mrgp

checks = pytest.importorskip("sklearn.utils.estimator_checks")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BRIEF = mrgp.Estimator(FA(1), bin_width=1.0, settings={"n_starts": 1, "max_iterations": 20})

FAILED: dict[str, str] = {}
"""Checks that cannot pass, and why."""


@checks.parametrize_with_checks([BRIEF], expected_failed_checks=lambda estimator: FAILED)
def test_it_is_an_estimator(estimator, check):
    check(estimator)
