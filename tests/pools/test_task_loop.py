"""The loop of coroutines and its thread, from its start to its end."""

from __future__ import annotations

import threading
from functools import partial

from herdmaster import forks
from herdmaster.pools.task_loop import TaskLoop


def test_a_child_knows_the_loop_of_its_thread_until_the_loop_has_ended() -> None:
    """The number of a thread that has ended is given to another one."""
    broken: list[BaseException] = []
    running = threading.Event()
    loop = TaskLoop("test-loop", escaped=lambda _escaped: None, broke=lambda _loop, error: broken.append(error))
    loop.start()
    loop.call(running.set)
    assert running.wait(30)
    ident = loop.thread.ident
    assert ident is not None
    assert forks._loops[ident] is loop.loop

    loop.call(partial(loop.shut, 0.0))
    loop.thread.join(30)
    assert ident not in forks._loops
    assert loop.loop.is_closed()
    assert broken == []
