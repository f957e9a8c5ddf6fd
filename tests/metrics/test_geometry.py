"""Dimensions, angles, tangling and holes, against loops, closed forms and shapes that are known."""

import sys

import numpy as np
import pytest

from mrgp import DataError
from mrgp.metrics import (
    cross_validated_dimensionality,
    participation_ratio,
    persistent_holes,
    signal_angles,
    tangling,
)
from mrgp.metrics.homology import chances

RNG = np.random.default_rng(0)


def test_participation_ratio_of_known_variances():
    rows = RNG.standard_normal((50, 4))
    whitened = np.linalg.qr(rows - rows.mean(0))[0]
    turn = np.linalg.qr(RNG.standard_normal((4, 4)))[0]
    for variances in ([1, 1, 1, 1], [4, 1, 1, 0], [1, 0, 0, 0]):
        values = (whitened * np.sqrt(variances)) @ turn
        wanted = np.sum(variances) ** 2 / np.sum(np.square(variances))
        assert participation_ratio(values) == pytest.approx(wanted, rel=1e-9)
        holes = np.concatenate([values, np.full((1, 4), np.nan)]).reshape(3, 17, 4)
        assert participation_ratio(holes) == pytest.approx(wanted, rel=1e-9)


def repeated(n_trials=40, noise=1.0, seed=1):
    """Two conditions whose mean responses span three dimensions of variances 9, 4 and 1, of twelve neurons."""
    rng = np.random.default_rng(seed)
    courses = np.linalg.qr(rng.standard_normal((2 * 30, 3)) - 0.0)[0]
    courses -= courses.mean(0)
    courses = np.linalg.qr(courses)[0] * np.sqrt(60) * [3, 2, 1]
    means = (courses @ np.linalg.qr(rng.standard_normal((12, 3)))[0].T).reshape(2, 30, 12)
    kinds = np.repeat([0, 1], n_trials // 2)
    return means[kinds] + noise * rng.standard_normal((n_trials, 30, 12)), np.array(["a", "b"])[kinds]


def test_what_repeats_is_counted_without_noise():
    values, kinds = repeated()
    found = cross_validated_dimensionality(values, kinds)
    np.testing.assert_allclose(found["variance"][:3], [9, 4, 1], rtol=0.15)
    assert np.abs(found["variance"][3:]).max() < 0.03  # noise of a half has a variance of 0.1 along each
    assert float(found["participation_ratio"]) == pytest.approx(14**2 / 98, rel=0.1)
    assert int(found["n_components"]) == 3
    assert participation_ratio(values) > float(found["participation_ratio"]) + 2  # of single trials, with noise


def test_cross_validated_variances_by_hand():
    """Two trials of each condition have two halves only, one trial each, in either order."""
    values, kinds = repeated(n_trials=2, noise=0.5)
    values = np.concatenate([values, repeated(n_trials=2, noise=0.5, seed=1)[0] + RNG.standard_normal((2, 30, 12))])
    kinds = np.array(["a", "b", "a", "b"])
    found = cross_validated_dimensionality(values, kinds, n_splits=1000)
    each = []
    for first in ([0, 1], [0, 3], [2, 1], [2, 3]):
        second = [2 - first[0], 4 - first[1]]
        halves = [np.concatenate([values[half[0]], values[half[1]]]) for half in (first, second)]
        one, other = (half - half.mean(0) for half in halves)
        vectors = np.linalg.eigh(one.T @ one)[1][:, ::-1]
        each.append([np.mean((one @ v) * (other @ v)) for v in vectors.T])
    # A thousand draws of four halvings: their average has an error of 3% of the spread between them.
    np.testing.assert_allclose(found["variance"], np.mean(each, 0), atol=0.1 * np.std(each, 0).max())


def test_angles_between_time_courses():
    time = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    waves = np.stack([np.sin(time), np.cos(time), np.sin(2 * time), np.cos(3 * time)], -1).reshape(2, 100, 4)
    mixed = waves[..., :2] @ RNG.standard_normal((2, 5))
    tilt = np.radians(30)
    turned = np.stack([waves[..., 0], np.cos(tilt) * waves[..., 1] + np.sin(tilt) * waves[..., 2]], -1)
    found = signal_angles(mixed, turned @ RNG.standard_normal((2, 7)), share=1 - 1e-9)
    np.testing.assert_allclose(found, [0, 30], atol=1e-4)
    np.testing.assert_allclose(signal_angles(waves[..., :1], waves[..., 2:]), [90], atol=1e-6)
    small = np.concatenate([waves[..., :1], 0.01 * waves[..., 3:]], -1)
    assert signal_angles(small, waves[..., 3:]).values == pytest.approx([90], abs=1e-4)  # too little to count
    holes = mixed.copy()
    holes[1, 40:, 2] = np.nan
    cut = signal_angles(holes[:, :, :], turned, share=1 - 1e-9)
    alone = signal_angles(
        np.concatenate([mixed[0], mixed[1, :40]])[None], np.concatenate([turned[0], turned[1, :40]])[None], 1 - 1e-9
    )
    np.testing.assert_allclose(cut, alone, atol=1e-6)


def test_tangling_by_loops():
    values = RNG.standard_normal((2, 9, 3)).cumsum(1)
    values[1, 6:] = np.nan
    found = tangling(values, 0.02)
    there = [(b, t) for b in range(2) for t in range(9) if b == 0 or t < 5]  # the last bin has no difference
    softening = 0.1 * np.var([values[at] for at in there], axis=0).sum()

    def speed(b, t):
        if t == 0:
            return (values[b, 1] - values[b, 0]) / 0.02
        if t == 8:
            return (values[b, 8] - values[b, 7]) / 0.02
        return (values[b, t + 1] - values[b, t - 1]) / 0.04

    for at in there:
        ratios = [np.sum((speed(*at) - speed(*s)) ** 2) / (np.sum((values[at] - values[s]) ** 2) + softening)
                  for s in there]  # fmt: skip
        assert float(found[at]) == pytest.approx(max(ratios), rel=1e-9)
    assert np.isnan(found.values).sum() == 4


def test_crossing_paths_are_tangled():
    phase = np.linspace(0, 2 * np.pi, 101)
    circle = np.stack([np.cos(phase), np.sin(phase)], -1)[None]
    eight = np.stack([np.cos(phase), np.sin(2 * phase)], -1)[None]
    assert float(tangling(eight, 0.01).max()) > 20 * float(tangling(circle, 0.01).max())


# --- holes


def cloud(shape, n=300, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, (n, 2))
    points = {
        "ring": np.stack([np.cos(angle[:, 0]), np.sin(angle[:, 0]), np.zeros(n)], -1),
        "eight": np.stack([np.cos(angle[:, 0]) + 2.2 * (np.arange(n) % 2), np.sin(angle[:, 0]), np.zeros(n)], -1),
        "disc": np.sqrt(rng.random(n))[:, None] * np.stack([np.cos(angle[:, 0]), np.sin(angle[:, 0])], -1),
        "normal": rng.standard_normal((n, 3)),
    }[shape]  # fmt: skip
    return points + noise * rng.standard_normal(points.shape)


@pytest.mark.parametrize(("shape", "betti"), [("ring", 1), ("eight", 2), ("disc", 0), ("normal", 0)])
def test_holes_of_shapes(shape, betti):
    pytest.importorskip("ripser")
    found = persistent_holes(cloud(shape), n_points=200)
    assert int(found["betti"]) == betti
    assert found.sizes["point"] == 200
    assert (np.diff(found["death"] / found["birth"]) <= 0).all()
    if shape == "ring":
        assert float(found["death"][0]) == pytest.approx(np.sqrt(3), abs=0.35)  # side of the triangle in a circle


def test_hollow_sphere_has_no_ring():
    pytest.importorskip("ripser")
    points = np.random.default_rng(0).standard_normal((100, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert int(persistent_holes(points, dimension=2)["betti"]) == 1
    assert int(persistent_holes(points, dimension=1)["betti"]) == 0


def test_chances_by_hand():
    diagram = np.array([[1.0, 3.0], [1.0, 1.5], [2.0, 2.5], [1.0, 1.1]])
    loglog = [np.log(np.log(death / birth)) for birth, death in diagram]
    shift = -0.5772156649 - sum(loglog) / 4
    np.testing.assert_allclose(chances(diagram), [np.exp(-np.exp(one + shift)) for one in loglog], rtol=1e-9)
    assert chances(np.empty((0, 2))).shape == (0,)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: participation_ratio(np.ones((4, 2))), "values are the same in all rows"),
        (lambda: participation_ratio([1.0, 2.0]), "of which 0 rows are numbers: give two at least"),
        (lambda: cross_validated_dimensionality(np.ones((4, 2))), "give numbers .trial, time, dimension."),
        (lambda: cross_validated_dimensionality(np.ones((3, 4, 2)), ["a", "a", "b"]), "two trials of every kind"),
        (lambda: cross_validated_dimensionality(np.ones((4, 3, 2))), "nothing repeats from trial to trial"),
        (lambda: cross_validated_dimensionality(np.ones((4, 3, 2)), n_splits=0), "give 1 split or more"),
        (lambda: signal_angles(np.ones((2, 3, 1)), np.ones((2, 4, 1))), "give the same trials and bins of both"),
        (lambda: signal_angles(np.ones((2, 3, 1)), np.ones((2, 3, 1))), "a population does not vary"),
        (lambda: tangling(np.ones((2, 2, 1)), 0.1), "three bins or more"),
        (lambda: tangling(np.ones((2, 3, 1)), 0.1), "there is no path"),
        (lambda: persistent_holes(np.ones((3, 2))), "give 4 at least"),
        (lambda: persistent_holes(np.ones((9, 2)), dimension=0), "give a dimension from 1"),
    ],
)
def test_what_has_no_geometry(use, message):
    with pytest.raises(ValueError, match=message):
        use()


def test_without_ripser_a_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "ripser", None)
    with pytest.raises(DataError, match=r"persistent_holes needs ripser, .*: pip install ripser, .* \[geometry\]"):
        persistent_holes(cloud("ring"))
