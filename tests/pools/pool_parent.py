"""A process with a pool, to be killed by a test: says the ids of a task's family, and what the task ended with.

Run as `python -m tests.pools.pool_parent UNTIL`, with what the task takes: seconds or the path of a file.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial

from tests.pools.conditions import until
from tests.pools.process_setting import Setting


async def main(end: str) -> None:
    # Ctrl-C is the worker's to handle: it would drain.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, partial(print, "interrupted", flush=True))
    setting = Setting(2)
    await setting.run("echo warm")
    item = f"start_family {end}"
    setting.pool.submit([item])
    await until(lambda: setting.notes)
    print(setting.notes[0][1].decode(), flush=True)  # noqa: T201
    await until(lambda: len(setting.deliveries.all) == 2, 120)
    print(setting.deliveries.results[item], flush=True)  # noqa: T201
    setting.pool.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
