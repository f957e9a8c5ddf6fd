"""``mrgp compare``: its options reach the comparison, and what stops it is told; nothing is fitted."""

import numpy as np
import pytest

import mrgp
from mrgp.cli.main import main


@pytest.fixture
def asked(monkeypatch):
    """What the comparison was asked for; it then ends with an error."""
    told = {}

    def compared(data, hypotheses, **settings):
        told.update(settings, hypotheses=hypotheses, data=data)
        if settings["tell"] is not None:
            settings["tell"]("none: fit, 1.0 s")
        raise told.get("error", ValueError("stopped here"))

    monkeypatch.setattr(mrgp, "compare_delays", compared)
    return told


@pytest.fixture
def command(tmp_path):
    counts = np.random.default_rng(0).poisson(2.0, (8, 20, 11))
    counts[..., 3] = 0  # a silent neuron, which a model of counts takes
    np.savez(tmp_path / "made.npz", V1=counts[..., :6], V2=counts[..., 6:], bin_width=0.02)
    return ["compare", str(tmp_path / "made.npz"), "--n-across", "1", "--n-within", "0", "--out", str(tmp_path / "out")]


def test_options_of_models_reach_the_comparison(asked, command, tmp_path, capsys):
    assert main([*command, "--emission", "poisson", "--mean", "psth", "--mean-timescale", "0.1"]) == 1
    assert {name: asked.get(name) for name in ("emission", "mean", "mean_timescale", "noise", "out")} == {
        "emission": "poisson", "mean": "psth", "mean_timescale": 0.1, "noise": None, "out": tmp_path / "out",
    }  # fmt: skip
    assert asked["data"].layout.n_neurons == (6, 5)
    printed = capsys.readouterr()
    assert "none: fit, 1.0 s\n" in printed.out
    assert printed.err == "mrgp: stopped here\n"
    assert asked["n_draws"] is None
    assert main([*command, "--noise", "ar1", "--drop-dead", "--quiet", "--draws", "200"]) == 1
    assert (asked["noise"], asked["tell"], asked["data"].layout.n_neurons) == ("ar1", None, (5, 5))
    assert asked["n_draws"] == 200
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:left out as dead")
def test_a_stopped_comparison_tells_what_is_kept(asked, command, tmp_path, capsys):
    asked["error"] = KeyboardInterrupt()
    assert main([*command, "--drop-dead"]) == 1
    assert capsys.readouterr().err.endswith("mrgp: interrupted: nothing was done\n")
    (tmp_path / "out" / "fit_constant.nc").write_text("")
    assert main([*command, "--drop-dead"]) == 1
    assert "keeps what was fitted, the same command goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--emission", "gamma"], "--emission: invalid choice: 'gamma'"),
        (["--mean-timescale", "0.1"], "--mean-timescale is of --mean psth: add it, or leave both out"),
        (["--likelihoo", "dense"], "unrecognized arguments: --likelihoo dense"),
    ],
)
def test_wrong_options_send_to_the_help_of_the_command(command, options, message, capsys):
    assert main([*command, *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.endswith("(see mrgp compare --help)\n")
