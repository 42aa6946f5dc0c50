"""An executor that does not delay the end of the program.

asyncio resolves host names in its default executor, and the interpreter waits for the threads of a ThreadPoolExecutor
before it ends. If no name server answers, that takes half a minute.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class DaemonExecutor(concurrent.futures.ThreadPoolExecutor):
    """Starts a daemon thread for each call. (asyncio accepts no other class than ThreadPoolExecutor.)"""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[R]:
        future: concurrent.futures.Future[R] = concurrent.futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it becomes the future's
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, name="herdmaster-resolver", daemon=True).start()
        return future
