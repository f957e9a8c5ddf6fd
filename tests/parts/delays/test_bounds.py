"""Bounds of delays, and delays that the recording leaves open."""

import numpy as np

from mrgp.parts.delays.bounds import shortest


def test_delays_known_up_to_a_shift_are_short():
    delay = np.array([[0.3, 0.05, 0.2], [0.34, -0.4, 0.1]])
    read = np.array([[False, True, False], [True, True, False], [True, False, False]])
    np.testing.assert_allclose(shortest(delay, read), [[-0.02, 0.05, 0.0], [0.02, 0.0, 0.0]], atol=1e-12)
    read = np.ones((3, 3), bool)
    np.testing.assert_array_equal(shortest(delay, read), delay)
