"""An executor that the end of the program does not wait for.

asyncio resolves host names in its default executor, and the interpreter does not end before the threads of a
ThreadPoolExecutor do. Where no name server answers, that is half a minute for nothing.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class DaemonExecutor(concurrent.futures.ThreadPoolExecutor):
    """A daemon thread per call. (It is a ThreadPoolExecutor because asyncio takes nothing else.)"""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[R]:
        future: concurrent.futures.Future[R] = concurrent.futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it is the future's
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, name="herdmaster-resolver", daemon=True).start()
        return future
