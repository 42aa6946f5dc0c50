"""Tasks that fork, by hand and by the standard library."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from herdmaster import Herd

herd = Herd()

_forking = multiprocessing.get_context("fork")


def _append(file: Path, text: str) -> None:
    with file.open("a") as lines:
        lines.write(text)


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(how: str) -> int:
    pid = os.fork()
    if pid:
        return _wait(pid)
    if how == "exits":
        sys.exit(3)
    if how == "raises":
        raise LookupError("in the child")
    return -1000


def square(number: int) -> int:
    return number * number


def _use(what: str) -> object:
    match what:
        case "pool":
            with _forking.Pool(2) as pool:
                return pool.map(square, range(3))
        case "executor":
            with concurrent.futures.ProcessPoolExecutor(2, _forking) as executor:
                return list(executor.map(square, range(3)))
        case "terminate":
            process = _forking.Process(target=time.sleep, args=(60,))
            process.start()
            process.terminate()
            process.join()
            return process.exitcode
        case "subprocess":
            child = subprocess.Popen(["sleep", "60"])
            child.terminate()
            return child.wait()
    raise ValueError(what)


@herd.task
def fork_in_thread(how: str) -> int:
    return _fork(how)


@herd.task(pool="process")
def fork_in_process(how: str) -> int:
    return _fork(how)


@herd.task
async def fork_in_coroutine(how: str) -> int:
    if how != "awaits":
        return _fork(how)
    pid = os.fork()
    if pid == 0:
        await asyncio.sleep(0)
        return -1000
    return _wait(pid)


@herd.task
def use_in_thread(what: str) -> object:
    return _use(what)


@herd.task(pool="process")
def use_in_process(what: str) -> object:
    return _use(what)


@herd.task
async def use_in_coroutine(what: str) -> object:
    return _use(what)


@herd.task
async def step(file: str, steps: int) -> None:
    """Says at each step in which process it is."""
    for _ in range(steps):
        _append(Path(file), f"{os.getpid()}\n")
        await asyncio.sleep(0)


@herd.task
def leave_a_child(stop: str) -> int:
    """The id of a child that lives until there is a file of that name, and has given up what was its parent's."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        _live_until(stop, writing)
    return _read_pid(reading, writing)


@herd.task(pool="process")
def leave_a_daemon(stop: str) -> int:
    """As `leave_a_child`, but nothing of the worker's can wait for it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            _live_until(stop, writing)
        os._exit(0)
    os.waitpid(pid, 0)
    return _read_pid(reading, writing)


def _live_until(stop: str, writing: int) -> NoReturn:
    """Tell the process id only now, since the hooks of a fork run in the child beside its parent."""
    os.write(writing, str(os.getpid()).encode())
    os.close(writing)
    while not Path(stop).exists():
        time.sleep(0.05)
    os._exit(0)


def _read_pid(reading: int, writing: int) -> int:
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return int(pipe.read(20))


@herd.task(pool="process")
def double(number: int) -> int:
    return 2 * number
