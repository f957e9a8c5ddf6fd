"""Tools to share out tasks to the workers of any executor."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait

TRACING = threading.RLock()
"""Held by whoever runs or compiles a NumPyro program, of which a process has one stack of handlers for all threads.

Who compiles a function that runs a program holds it all the while: another thread that needs the same function waits
for it inside JAX, and must not hold the lock there that the first one needs. For the same reason nobody holds it while
waiting for the workers of an executor.
"""


def as_done[Task, Result](
    function: Callable[[Task], Result], chains: Sequence[Sequence[Task]], executor: Executor | None
) -> Iterator[tuple[Task, Result]]:
    """Yield every task with ``function(task)``, in the order in which they end.

    Tasks of one chain have something in common that a process learns once, such as a compiled program. A worker of a
    pool therefore goes on with the chain it is at, and helps with another's only when no fresh one waits: as many
    tasks are under way as the pool has workers, and whoever ends one is given the next. An executor that does not say
    how many workers it has (those of dask) is handed everything at once, and knows best itself.

    Args:
        function: What workers do; it and the tasks must be picklable where workers are processes.
        chains: The tasks.
        executor: Any of ``concurrent.futures``; None does everything in this process, in order.
    """
    if executor is None:
        for chain in chains:
            yield from ((task, function(task)) for task in chain)
        return
    width: int | None = getattr(executor, "_max_workers", None)
    if width is None:
        chains = [[task] for chain in chains for task in chain]
    left = deque(deque(chain) for chain in chains)
    running: dict[Future[Result], tuple[Task, deque[Task]]] = {}

    def begin(own: deque[Task]) -> bool:
        """Start the next task: of this chain, of a fresh one, or of the one begun longest ago."""
        while left and not left[0]:
            left.popleft()
        if not own and not left:
            return False
        chain = own or left[0]
        if not own:
            left.rotate(-1)
        task = chain.popleft()
        running[executor.submit(function, task)] = task, chain
        return True

    try:
        while len(running) < (width or len(chains)) and begin(deque()):
            pass
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task, chain = running.pop(future)
                begin(chain)
                yield task, future.result()
    finally:  # also where a task raised, or whoever asked wants no more
        for future in running:
            future.cancel()


def process_pool(n_workers: int) -> ProcessPoolExecutor:
    """Make a pool of processes on this machine, which end when this process is killed.

    They are started afresh ("spawn"), since JAX cannot be forked. A script that uses them does so under
    ``if __name__ == "__main__":``, since each process imports it; kernels and scores of one's own must be in a file
    that can be imported.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(n_workers, mp_context=context, initializer=_follow_parent)


def _follow_parent() -> None:
    """End this worker when the process that started it ends.

    That process may have no time to say so.
    """

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
