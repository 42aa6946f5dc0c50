"""Stalls of the client's own process, longer or shorter than its session lives."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import SessionState
from tests.zookeeper.client.sessions import Events, States, client_of, wait_until


@pytest.mark.long
async def test_a_stalled_loop_reads_what_came_before_it_judges_the_silence(server: str) -> None:
    async with client_of(server, session_timeout=3.0) as client:
        states = States()
        client.add_listener(states)
        asking = asyncio.ensure_future(client.get("/"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # it has left
        time.sleep(2.15)  # noqa: ASYNC251 - this is the stall: longer than two thirds of the timeout
        await asking
        await client.get("/")
        assert states == []


_STOPPED_PROCESS = """
import asyncio, sys
from herdmaster.zookeeper.client import Client

async def main():
    async with Client(sys.argv[1], session_timeout=3.0) as client:
        client.add_listener(lambda state: print(state.value, flush=True))
        await client.add_watch("/", lambda event: print(event.path, flush=True), recursive=True)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await client.get("/")
        print("alive", flush=True)

asyncio.run(main())
"""


@pytest.mark.long
async def test_a_process_that_was_stopped_reads_what_came_before_it_judges_the_silence(server: str) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _STOPPED_PROCESS, server, stdin=pipe, stdout=pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with client_of(server) as other:
        assert await process.stdout.readline() == b"ready\n"
        # In its select, which a stop interrupts: it then returns without what has arrived.
        await wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S")
        os.kill(process.pid, signal.SIGSTOP)
        await other.create("/seen")
        await asyncio.sleep(2.15)  # longer than two thirds of the timeout, shorter than the timeout
        os.kill(process.pid, signal.SIGCONT)
        process.stdin.write(b"\n")
        output, _ = await process.communicate()
    assert output == b"/seen\nalive\nclosed\n"


@pytest.mark.long
async def test_a_process_that_stalls_for_longer_than_the_session_lives_says_so_at_once(server: str) -> None:
    async with client_of(server) as other, client_of(server, session_timeout=0.8) as client:
        events, states = Events(), States()
        client.add_listener(states)
        await client.add_watch("/a", events)
        writing = asyncio.ensure_future(other.create("/a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(1.3)  # noqa: ASYNC251 - this is the stall
        with pytest.raises(errors.SessionExpired):
            await client.get("/")
        await writing
        assert states == [SessionState.EXPIRED]
        assert events.seen == [], "an event that came too late is not believed"
