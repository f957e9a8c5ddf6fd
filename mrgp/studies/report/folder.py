"""Report of the folder of a run. Imports nothing heavy, unless a fit must be asked."""

from datetime import datetime
from pathlib import Path

from mrgp.recordings.checks import DataError
from mrgp.runtime import account as accounts
from mrgp.runtime import run_record
from mrgp.runtime.account import Account
from mrgp.runtime.run_record import RunRecord
from mrgp.studies.report.page import Report
from mrgp.studies.report.pictures import is_png

FIT, SUMMARY = "fit.nc", "summary.json"
MOST_NAMED = 3


def report_of_folder(folder: str | Path) -> Report:
    """Make the report of a folder that a command of ``mrgp`` has written.

    Raises:
        DataError: there is no such folder, it holds no results, or those of a run that was not finished.
    """
    place = Path(folder)
    if not place.is_dir():
        what = "is no folder" if place.exists() else "does not exist"
        raise DataError(f"{place} {what}: give the folder that a command had as --out")
    run = _run_of(place)
    remarks = []
    if run is not None and not run.is_done:
        remarks.append(_unfinished(place, run))
    if _is_current(place, run):
        account = _account_of(place)
    else:
        account = _account_of_earlier(place, run)
        if run is None:
            remarks.append(
                "This folder was written by an earlier version of mrgp: the command and what needs the recording are "
                "not known. Run the command again to have all."
            )  # fmt: skip
    pictures = {}
    for picture in account.pictures:
        path = place / f"{Path(picture.name).name}.png"  # of this folder, whatever its account says
        if run is not None and not run.is_done and path.is_file() and not _is_newer(path, run):
            continue  # of a run before
        if path.is_file() and is_png(png := path.read_bytes()):
            pictures[picture.name] = png
    return Report(account, pictures, run, remarks)


def _run_of(place: Path) -> RunRecord | None:
    path = place / run_record.FILE
    if not path.is_file():
        return None
    try:
        return RunRecord.from_text(path.read_text())
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}): run the command again") from error


def _is_current(place: Path, run: RunRecord | None) -> bool:
    """True if the folder has an account, which is not of a run before one that was killed."""
    path = place / accounts.FILE
    if not path.is_file():
        return False
    return run is None or run.is_done or path.stat().st_mtime >= datetime.fromisoformat(run.began).timestamp()


def _account_of(place: Path) -> Account:
    path = place / accounts.FILE
    try:
        return Account.from_text(path.read_text())
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}): run the command again") from error


def _unfinished(place: Path, run: RunRecord) -> str:
    why = f"it ended with: {run.failure}" if run.failure else "it is still running, or was killed"
    return f"The run in {place} was not finished, {why}. Give the same command again: {run.command}"


def _account_of_earlier(place: Path, run: RunRecord | None) -> Account:
    """Give the account of a folder without one: of its fit, if it has one.

    Raises:
        DataError: it has none.
    """
    is_fit_of_run = run is None or ((place / FIT).is_file() and _is_newer(place / FIT, run))
    if (place / FIT).is_file() and is_fit_of_run:
        from mrgp.results.fit import load_fit

        return load_fit(place / FIT).account()
    if run is not None and run.is_done:
        raise DataError(f"{place} has lost its {accounts.FILE}: run the same command again, {run.command}")
    if run is not None:
        raise DataError(_unfinished(place, run))
    if (place / SUMMARY).is_file():
        earlier = "an earlier version of mrgp, which kept no account for a report"
        raise DataError(f"{place} was written by {earlier}: run the command again")
    names = sorted(path.name for path in place.iterdir())
    remedy = "give a folder that mrgp fit, evaluate, cv, compare, communication, calibrate or demo had as --out"
    if not names:
        raise DataError(f"{place} is empty: {remedy}")
    shown = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    raise DataError(f"{place} holds no results of mrgp but {shown}: {remedy}")


def _is_newer(path: Path, run: RunRecord) -> bool:
    return path.stat().st_mtime >= datetime.fromisoformat(run.began).timestamp()
