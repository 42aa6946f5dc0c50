"""The book's other masters, as far as their faults matter to ours: the C program, and the one on Curator."""

from __future__ import annotations

import threading
from functools import partial

from tests.reference.master import FOLDERS, MasterState, ReferenceMaster
from tests.reference.session import Code, Reply, warn_unless_ok

_C_NAME = 15
_C_ID = 4


class CMaster(ReferenceMaster):
    """It assigns, and nothing else: no takeover, no lost workers. It cuts names at 15 characters and its own id at 4,
    and a task that it reads while there is no worker ends the process by a division by zero."""

    def _run_for_master(self) -> None:
        self.master_id = self.master_id[:_C_ID]
        super()._run_for_master()

    def _take_over(self) -> None:
        self._enter(MasterState.ELECTED)
        self._list_workers()

    def _workers_listed(self, reply: Reply[list[str]]) -> None:
        if reply.code is not Code.OK:
            warn_unless_ok(reply)
            return
        self._seen_workers = reply.value
        self._list_tasks()

    def _tasks_listed(self, reply: Reply[list[str]]) -> None:
        if reply.code is not Code.OK:
            warn_unless_ok(reply)
            return
        new = [name for name in reply.value if name not in self._seen_tasks]
        self._seen_tasks = set(reply.value)
        for name in new:
            cut = name[:_C_NAME]
            self._session.get(f"/tasks/{cut}", partial(self._task_read, cut))

    def _task_read(self, name: str, reply: Reply[bytes]) -> None:
        if reply.code is Code.OK and not self._seen_workers:
            threading.Thread(target=self.close, daemon=True).start()  # the process is dead
            return
        super()._task_read(name, reply)


class CuratorMaster(ReferenceMaster):
    """Its `/master` is a folder in which the candidates stand in line. It deletes the assignments of a lost worker, and
    then looks for the tasks where they are not; and it deletes a task whatever became of its assignment."""

    def start(self) -> None:
        self._session.start()
        for folder in (*FOLDERS, "/master"):
            self._session.create(folder, b"", self._folder_created)
        standing = threading.Event()

        def stands(_reply: Reply[str]) -> None:
            standing.set()

        # It is the only one: whose turn it is, is not modelled.
        path = f"/master/_c_{self.master_id}-latch-"
        self._session.create(path, self.master_id.encode(), stands, ephemeral=True, sequence=True)
        if not standing.wait(15.0):
            raise TimeoutError("no candidate's znode within 15 s")
        self._take_over()

    def _lost_inbox_listed(self, worker: str, reply: Reply[list[str]]) -> None:
        if reply.code is not Code.OK:
            warn_unless_ok(reply)
            return
        for name in reply.value:
            self._session.delete(f"/assign/{worker}/{name}", warn_unless_ok)
        self._session.delete(f"/assign/{worker}", warn_unless_ok)
        for name in reply.value:
            self._session.get(f"/tasks/{name}", partial(self._task_read, name))

    def _assigned(self, name: str, reply: Reply[str]) -> None:
        warn_unless_ok(reply)
        self._session.delete(f"/tasks/{name}", warn_unless_ok)
