"""In which process a worker ran: from its record while it is alive, from the history afterwards."""

from __future__ import annotations

from herdmaster.core import layout
from herdmaster.core.history import Batch, batch_name, encode_batch
from herdmaster.core.members import WorkerRecord, encode_record
from herdmaster.inspection.processes import ProcessSeen, find_process
from tests.roles.stage import Stage

WRONG = 1_700_000_000_000
"""The time of a clock that is off."""


async def test_a_worker_that_is_alive_says_where_it_runs(stage: Stage) -> None:
    await stage.play_primary()
    await stage.put(layout.worker_path("worker-aa"), data=encode_record(WorkerRecord(1, host="h", pid=7)))
    assert await find_process(stage.zk, "worker-aa", "task-1") == ProcessSeen("h", 7, is_alive=True)


async def test_the_history_tells_of_a_worker_that_is_gone(stage: Stage) -> None:
    await stage.play_primary()
    await stage.put(layout.status_path("task-1"), data=b"done")
    ended = (await stage.zk.get(layout.status_path("task-1")))[1].ctime
    for number, (writer, pid) in enumerate((("worker-bb", 9), ("worker-aa", 7), ("worker-old", None))):
        batch = Batch(1, WRONG, WRONG + number, writer, host=None if pid is None else "h", pid=pid)
        await stage.put(layout.history_path(batch_name(ended + number, f"aa{number}")), data=encode_batch(batch))
    late = Batch(1, ended, ended + 3_600_000, "worker-late", host="h", pid=7)
    await stage.put(layout.history_path(batch_name(late.ends, "aa")), data=encode_batch(late))
    assert await find_process(stage.zk, "worker-aa", "task-1") == ProcessSeen("h", 7, is_alive=False)
    assert await find_process(stage.zk, "worker-late", "task-1") is None
    assert await find_process(stage.zk, "worker-aa", "task-2") is None
    assert await find_process(stage.zk, "worker-old", "task-1") is None


async def test_a_worker_writes_its_process_into_the_history(stage: Stage) -> None:
    worker = await stage.worker()
    record = worker._recorder
    batch = record.take(5)
    assert (batch.writer, batch.host, batch.pid) == (worker.name, worker.system.host, worker.system.pid)
