"""Accounts and records of runs: what is written is what is read, and what is none is refused."""

import json

import numpy as np
import pytest

from mrgp.runtime.account import Account, Light, Picture, State, Table, graded
from mrgp.runtime.run_record import FILE, RunRecord

GOOD, LOOK, BAD = State


@pytest.mark.parametrize(
    ("value", "look", "bad", "state"),
    [
        (1.0, 1.0, 2.0, GOOD), (1.0 + 1e-9, 1.0, 2.0, LOOK), (2.0, 1.0, 2.0, LOOK), (2.0 + 1e-9, 1.0, 2.0, BAD),
        (400.0, 400.0, 100.0, GOOD), (399.9, 400.0, 100.0, LOOK), (100.0, 400.0, 100.0, LOOK),
        (99.9, 400.0, 100.0, BAD),
        (np.nan, 1.0, 2.0, BAD), (np.inf, 1.0, 2.0, BAD), (-np.inf, 400.0, 100.0, BAD), (0.0, 0.0, np.inf, GOOD),
    ],
)  # fmt: skip
def test_numbers_are_graded_on_both_sides_of_each_threshold(value, look, bad, state):
    assert graded(value, look, bad) is state


def test_an_account_is_read_as_it_was_written(tmp_path):
    account = Account(
        "Fit", "of <V1>", ["It is so."], {"model": "DLAG"}, [Light("a", LOOK, "3 of 4", "Look.")],
        [Table("t", [{"region": "V1"}], "below")], [Picture("delays", "Delays", "They are shown.")], ["note"], "a  b",
        {"seed": np.int64(3), "settings": {"n_across": np.arange(2)}}, {"mrgp": "0.1"},
    )  # fmt: skip
    account.save(tmp_path)
    again = Account.from_text((tmp_path / "report.json").read_text())
    assert again.lights == account.lights
    assert again.lights[0].state is LOOK
    assert (again.tables, again.pictures) == (account.tables, account.pictures)
    assert again.made_with == {"seed": 3, "settings": {"n_across": [0, 1]}}
    assert (again.title, again.verdict, again.text) == (account.title, account.verdict, account.text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 99}', '{"format": 1, "lights": [{}]}'])
def test_what_is_no_account_is_refused(text):
    with pytest.raises(ValueError):   # noqa: PT011  of JSON too
        Account.from_text(text)


def test_a_record_tells_how_a_run_went(tmp_path):
    record = RunRecord("mrgp fit x.npz")
    record.end()
    assert list(tmp_path.iterdir()) == []   # no work had begun
    record.begin(tmp_path)
    begun = RunRecord.from_text((tmp_path / FILE).read_text())
    assert not begun.is_done
    assert begun.ended == ""
    (tmp_path / "x.npz").write_bytes(b"abc")
    record.add_file(tmp_path / "x.npz")
    record.add_file(tmp_path / "x.npz")
    record.add_note("left out")
    record.end()
    told = json.loads((tmp_path / FILE).read_text())
    assert RunRecord(**told).is_done
    assert [own["sha256"][:8] for own in told["read"]] == ["ba7816bf"]   # of FIPS 180-2, appendix B.1
    assert (told["notes"], told["command"]) == (["left out"], "mrgp fit x.npz")
    assert told["versions"]["mrgp"]
    record.end("interrupted")
    assert not RunRecord.from_text((tmp_path / FILE).read_text()).is_done
    with pytest.raises(ValueError, match="no record"):
        RunRecord.from_text('{"x": 1}')
