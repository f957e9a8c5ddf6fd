"""Tasks in the workers of executors: every one done once, chains kept together, none left behind."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from mrgp.runtime import workers
from mrgp.runtime.workers import as_done

CHAINS = [[("a", i) for i in range(4)], [("b", i) for i in range(2)], [("c", i) for i in range(3)]]
ALL = [task for chain in CHAINS for task in chain]


class Unhurried(Executor):
    """Does nothing until it is waited for, and then the task that has been under way longest."""

    def __init__(self, size=None):
        self.given, self.doing, self.most = [], {}, 0
        if size is not None:
            self._max_workers = size

    def submit(self, function, task):
        self.given.append(task)
        future = Future()
        self.doing[future] = function, task
        self.most = max(self.most, len(self.doing))
        return future

    def wait(self, running, return_when):
        future = next(iter(running))
        function, task = self.doing.pop(future)
        try:
            future.set_result(function(task))
        except RuntimeError as error:
            future.set_exception(error)
        return SimpleNamespace(done={future})


@pytest.fixture
def unhurried(monkeypatch):
    """The factory of such executors."""

    def make(size=None):
        pool = Unhurried(size)
        monkeypatch.setattr(workers, "wait", pool.wait)
        return pool

    return make


@pytest.mark.parametrize("make", [lambda: None, lambda: ThreadPoolExecutor(1), lambda: ThreadPoolExecutor(5)])
def test_every_task_is_done_once(make):
    found = list(as_done(lambda i: 2 * i, [[1, 2, 3], [], [4], [5, 6]], make()))
    assert sorted(found) == [(i, 2 * i) for i in range(1, 7)]
    assert list(as_done(str, [], make())) == list(as_done(str, [[], []], make())) == []


def test_a_worker_stays_with_its_chain_and_helps_at_the_end(unhurried):
    pool = unhurried(2)
    assert sorted(as_done(str, CHAINS, pool)) == [(task, str(task)) for task in ALL]
    assert pool.most == 2
    # Two chains side by side; who has done the short one begins the third; who has none left helps with what there is.
    a, b, c = CHAINS
    assert pool.given == [a[0], b[0], a[1], b[1], a[2], c[0], a[3], c[1], c[2]]


def test_an_executor_of_unknown_size_is_handed_all_in_order(unhurried):
    pool = unhurried()
    next(as_done(str, CHAINS, pool))
    assert pool.given == ALL


def test_what_a_task_raises_is_raised_and_the_rest_cancelled(unhurried):
    def fails(task):
        if task == ("a", 1):
            raise RuntimeError("of a 1")
        return task

    pool = unhurried()
    found = as_done(fails, CHAINS, pool)
    assert next(found) == (("a", 0), ("a", 0))
    with pytest.raises(RuntimeError, match="of a 1"):
        next(found)
    assert len(pool.doing) == len(ALL) - 2
    assert all(future.cancelled() for future in pool.doing)


def test_whoever_wants_no_more_leaves_nothing_to_do(unhurried):
    pool = unhurried(3)
    for _ in as_done(str, CHAINS, pool):
        break
    assert len(pool.doing) == 3
    assert all(future.cancelled() for future in pool.doing)


def test_processes_end_with_the_one_that_started_them(tmp_path):
    script = tmp_path / "parent.py"
    lines = ["import os, time", "from mrgp.runtime.workers import process_pool", "if __name__ == '__main__':"]
    lines += ["    print(process_pool(1).submit(os.getpid).result(), flush=True)", "    time.sleep(60)"]
    script.write_text("\n".join(lines))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert _runs(worker)
        parent.send_signal(signal.SIGKILL)
    for _ in range(200):
        if not _runs(worker):
            return
        time.sleep(0.05)
    pytest.fail(f"process {worker} has outlived the one that started it")


def _runs(process):
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat")   # an orphan may wait as a zombie for whoever adopts it
        return not state.is_file() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
