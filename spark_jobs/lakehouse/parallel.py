"""Independent pieces of a stage side by side.

On small data most of a stage's time is latency (planning, code generation, commits), not work, so
that a few threads that submit Spark jobs shorten it much.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait

WORKERS = 4
NAME = "lakehouse piece"


def side_by_side(pieces: Iterable[Callable[[], None]]) -> None:
    """Run all pieces, each to its end, then raise the first error there was.

    A signal that ends the run is not held up by pieces that are still at work.
    """
    pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix=NAME)
    futures = [pool.submit(piece) for piece in pieces]
    try:
        wait(futures)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    for future in futures:
        future.result()


def at_work() -> bool:
    """Whether threads of ``side_by_side`` are still there; the interpreter would wait for them before it ends."""
    return any(t.name.startswith(NAME) for t in threading.enumerate())
