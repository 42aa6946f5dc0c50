"""A client process, which submits at a steady rate until SIGTERM, waits for every outcome, and ends.

    python -m chaos.client HOSTS --name c1 --record FILE [--rate N] [--attach FILE]

With `--attach` it submits nothing and waits for the tasks whose names are in that file, one per line, as a program does
that was killed and starts again. What it learns it notes down in `--record` (`records.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
from pathlib import Path
from typing import Final

from chaos.app import CALL, join, work
from chaos.records import Accepted, Gone, RecordFile, Refused, Told, Unknown
from herdmaster import FlowFuture, Herd
from herdmaster.api import Future
from herdmaster.core.names import parse_flow_name
from herdmaster.errors import NotSubmitted, OutcomeGone, SubmissionUnknown

SUBMIT_SECONDS: Final = 120.0
"""Longer than any fault lasts: a submission has to come through in the end."""
MOST_UNDER_WAY: Final = 400

FLOW_EVERY: Final = 40
"""Of so many submissions one is a flow: a wide join, which goes on in one more step."""
WIDTH: Final = 12
FLOW_TTL: Final = 60.0

DURATIONS: Final = ((0.0, 0.6), (0.1, 0.25), (1.0, 0.15))
"""Seconds that a task takes, and the share of the tasks that take so long."""


class LoadingClient:
    def __init__(self, herd: Herd, name: str, record: RecordFile) -> None:
        self._herd = herd
        self._name = name
        self._record = record
        self._work = herd.task(work.function)
        self._join = herd.task(join.function)
        self._rng = random.Random(name)
        self._room = asyncio.Semaphore(MOST_UNDER_WAY)
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def submit_steadily(self, rate: float) -> None:
        number = 0
        while not self._stopping.is_set():
            await self._room.acquire()
            number += 1
            submit = self._submit if number % FLOW_EVERY else self._submit_flow
            task = asyncio.ensure_future(submit(f"{self._name}-{number:06d}"))
            self._under_way.add(task)
            task.add_done_callback(self._ended)
            await self._pause(1 / rate)
        await asyncio.gather(*self._under_way)

    async def attach(self, names: list[str]) -> None:
        await asyncio.gather(*(self._wait(self._future(name)) for name in names))

    def _future(self, name: str) -> Future[object] | FlowFuture[object]:
        return self._herd.flow_run(name) if parse_flow_name(name) is not None else self._herd.future(name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._room.release()
        if not task.cancelled() and task.exception() is not None:
            self._stopping.set()  # a fault that is not foreseen here: `gather` raises it

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _submit(self, tag: str) -> None:
        (seconds,) = self._rng.choices([each for each, _ in DURATIONS], [share for _, share in DURATIONS])
        try:
            future: Future[object] = await self._herd.submit_call_async(CALL, (tag, seconds))
        except NotSubmitted as error:
            self._record.append(Refused(tag, str(error)))
        except SubmissionUnknown as error:
            for name in error.names:
                self._record.append(Unknown(tag, name))
                await self._wait(self._herd.future(name))
        else:
            self._record.append(Accepted(tag, future.name))
            await self._wait(future)

    async def _submit_flow(self, tag: str) -> None:
        with self._herd.flow("chaos", ttl=FLOW_TTL) as flow:
            parts = [self._work.step(f"{tag}.{number}", 0.05) for number in range(WIDTH)]
            flow.returns(self._work.step(self._join.step(parts, tag), 0.0))
        try:
            run = await flow.submit_async()
        except NotSubmitted as error:
            self._record.append(Refused(tag, str(error)))
        except SubmissionUnknown as error:
            for name in error.names:
                self._record.append(Unknown(tag, name))
                await self._wait(self._future(name))
        else:
            self._record.append(Accepted(tag, run.name))
            await self._wait(run)

    async def _wait(self, future: Future[object] | FlowFuture[object]) -> None:
        try:
            result = await future
        except OutcomeGone:
            self._record.append(Gone(future.name))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the client was told
            self._record.append(Told(future.name, error=f"{type(error).__name__}: {error}"))
        else:
            self._record.append(Told(future.name, result=str(result)))


async def run(options: argparse.Namespace) -> None:
    timeout: float = options.session_timeout
    async with Herd(options.hosts, session_timeout=timeout, submit_timeout=SUBMIT_SECONDS) as herd:
        client = LoadingClient(herd, options.name, RecordFile(options.record))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stop)
        if options.attach is not None:
            await client.attach(options.attach.read_text().split())
        else:
            await client.submit_steadily(options.rate)


def main() -> None:
    parser = argparse.ArgumentParser(description="One client of the chaos.")
    parser.add_argument("hosts")
    parser.add_argument("--name", required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--attach", type=Path)
    parser.add_argument("--rate", type=float, default=30.0, help="tasks per second")
    parser.add_argument("--session-timeout", type=float, default=4.0)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
