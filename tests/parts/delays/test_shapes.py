"""Delay trajectories: their equations, how they broadcast, what they refuse."""

import numpy as np
import pytest

from mrgp.parts.delays.shapes import SHAPES, box, check_delay, constant, gaussian_bump, ramp, sine, trajectory

DURATION = 2.0   # seconds
TIME = np.linspace(0, DURATION, 9)   # every eighth of a trial
A = 0.05   # seconds


def test_shapes_are_their_equations():
    u = TIME / DURATION
    np.testing.assert_allclose(constant(TIME, DURATION, A), A * np.ones(9))
    wave = sine(TIME, DURATION, A, cycles=2, phase=0.25)
    np.testing.assert_allclose(wave, A * np.cos(4 * np.pi * u), atol=1e-15)
    inside = np.isin(u, [0.375, 0.5, 0.625])
    np.testing.assert_allclose(box(TIME, DURATION, A, center=0.5, width=0.25), A * inside)
    np.testing.assert_allclose(ramp(TIME, DURATION, A, start=0.25, stop=0.75), A * np.clip(2 * u - 0.5, 0, 1))
    bump = gaussian_bump(TIME, DURATION, A, center=0.25, width=0.125)
    np.testing.assert_allclose(bump, A * np.exp(-((8 * u - 2) ** 2) / 2))


@pytest.mark.parametrize("name", SHAPES)
class TestEveryShape:
    def test_amplitude_bounds_it_and_is_reached(self, name):
        fine = np.linspace(0, DURATION, 401)
        assert np.abs(SHAPES[name](fine, DURATION, -A)).max() == pytest.approx(A, rel=1e-12)

    def test_is_a_function_of_the_time_alone(self, name):
        whole = SHAPES[name](TIME, DURATION, A)
        each = [SHAPES[name](TIME[i : i + 1], DURATION, A) for i in range(len(TIME))]
        np.testing.assert_allclose(whole, np.concatenate(each), rtol=1e-14, atol=1e-17)

    def test_scales_with_the_duration(self, name):
        np.testing.assert_allclose(SHAPES[name](TIME, DURATION, A), SHAPES[name](3 * TIME, 3 * DURATION, A))

    def test_amplitudes_broadcast(self, name):
        amplitude = np.array([[0.0, 0.0], [A, -2 * A], [0.3 * A, A]])
        delay = trajectory(name, TIME, DURATION, amplitude, {})
        assert delay.shape == (3, 2, 9)
        np.testing.assert_allclose(delay, amplitude[..., None] * SHAPES[name](TIME, DURATION, 1.0))
        assert not delay[0].any()

    def test_refuses_a_bad_duration_or_amplitude(self, name):
        with pytest.raises(ValueError, match="duration must be positive"):
            SHAPES[name](TIME, 0.0, A)
        with pytest.raises(ValueError, match="finite parameters"):
            SHAPES[name](TIME, DURATION, np.nan)


def test_parameters_may_differ_between_regions_and_latents():
    center = np.array([[0.25, 0.5], [0.75, 1.0]])
    delay = trajectory("gaussian_bump", TIME, DURATION, np.full((2, 2), A), {"center": center, "width": 0.05})
    np.testing.assert_array_equal(TIME[delay.argmax(-1)], center * DURATION)


@pytest.mark.parametrize(
    ("shape", "parameters", "message"),
    [
        ("sine", {"cycles": 0}, "sine needs cycles > 0"),
        ("box", {"width": 0}, "box needs width > 0"),
        ("gaussian_bump", {"width": [0.1, -0.1]}, "gaussian_bump needs width > 0"),
        ("ramp", {"start": 0.5, "stop": 0.5}, "ramp needs start < stop"),
        ("ramp", {"stop": np.inf}, "finite parameters"),
        ("sawtooth", {}, "no delay shape 'sawtooth': choose from constant, sine, box, ramp, gaussian_bump"),
        ("box", {"cycles": 2}, "'box' has no parameter 'cycles': it takes center, width"),
        ("constant", {"center": 0.5}, "'constant' has no parameter 'center': it takes none"),
    ],
)
def test_what_a_shape_refuses(shape, parameters, message):
    with pytest.raises(ValueError, match=message):
        trajectory(shape, TIME, DURATION, A, parameters)


def test_parameters_must_fit_the_amplitudes():
    with pytest.raises(ValueError, match="numbers or arrays of one shape"):
        trajectory("box", TIME, DURATION, np.full((2, 2), A), {"center": [0.1, 0.2, 0.3]})


def test_check_delay():
    given = [[0, 0], [1, 2]]
    np.testing.assert_array_equal(check_delay(given, 2, 2, 5), given)
    moving = np.arange(5) * np.array(given)[..., None]
    np.testing.assert_array_equal(check_delay(moving, 2, 2, 5), moving)
    for wrong, message in [
        ([0, 1], r"delay has shape \(2,\), not \(region, across_latent\) = \(2, 2\)"),
        (moving[..., :4], r"delay has shape \(2, 2, 4\)"),
        ([[0, 0], [1, np.nan]], "must be finite"),
        ([[0.1, 0], [1, 2]], "first region's delays must be 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_delay(wrong, 2, 2, 5)
