"""Saves the results of `once`: commits each to the assignment of its task before the task's code goes on.

A result that comes is put into the task's payload at once, so every later move of the task has it. The code is answered
when the assignment has it too. A save whose reply was lost is sent again after the reconnect: only this session writes
the assignment, and it writes the same again. A task with a result that is not committed is not started again here.

| what happens before the commit                       | the code gets |
|-------------------------------------------------------|---------------|
| the task has left the inbox, or was cancelled          | NotSaved      |
| its run was ended: a time limit, a drain, the fence    | NotSaved      |
| the session ends                                       | NotSaved      |
| ZooKeeper refuses the write                            | NotSaved      |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Final

import msgspec

from herdmaster import forks
from herdmaster.core import transitions
from herdmaster.core.children import encode_worker, is_child_key
from herdmaster.core.payload import decode_call, with_saved, with_start
from herdmaster.core.signing import Keyring, is_signed
from herdmaster.core.table import Verdict
from herdmaster.core.transitions import Move
from herdmaster.errors import ConfigurationError, HerdError, NotSaved
from herdmaster.roles.shared.committer import Committer, Fate, Settlement
from herdmaster.roles.worker.held import Held, HeldTasks, State
from herdmaster.roles.worker.inbox import Inbox
from herdmaster.running.delivery import Delivered
from herdmaster.running.once import Saved
from herdmaster.zookeeper.client import Client

_SESSION_OVER: Final = "the session of its worker is over, and the task may run again elsewhere"
_GONE: Final = "the task has left this worker: it was cancelled, or runs again elsewhere"
_STOPPED: Final = "its run was ended, and the task may run again"


class _Unsaved:
    """The results of one task that are not committed, and the callers that wait for each."""

    def __init__(self, held: Held) -> None:
        self.held = held
        self.callers: dict[str, list[Saved]] = {}
        self.sent: tuple[str, ...] = ()  # those in the request that is under way

    def fail(self, reason: str) -> None:
        for callers in self.callers.values():
            for saved in callers:
                saved(_not_saved(self.held.task, reason))
        self.callers = {name: [] for name in self.callers}


class Saves:
    """The saves of one session. `turn` is called after every answer, `let_go` drops a task that has left the inbox.
    `keyring` signs payloads that were signed. `save` and `may_begin_once` are called on any thread."""

    def __init__(
        self,
        client: Client,
        worker: str,
        tasks: HeldTasks,
        inbox: Inbox,
        *,
        keyring: Keyring | None,
        let_go: Callable[[str], None],
        turn: Callable[[], None],
    ) -> None:
        self._client = client
        self._committer = Committer(client)
        self._worker = worker
        self._tasks = tasks
        self._inbox = inbox
        self._keyring = keyring
        self._let_go = let_go
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()  # calls in the loop belong to the role that made it
        self._generation = forks.generation
        self._unsaved: dict[str, _Unsaved] = {}
        self._is_closed = False

    # --- on threads of tasks -----------------------------------------------------------------------------------------

    def may_begin_once(self, task: Delivered) -> bool:
        """Return False while the session may be over, so that it is unknown whether the task is still here. Raises
        NotSaved; ConfigurationError for a signed task if there are no keys."""
        reason = self._refusal(task)
        if reason:
            raise _not_saved(task, reason)
        if self._keyring is None and is_signed(task.payload):
            raise _no_keys(task)
        return self._client.clock() < self._client.deadline

    def save(self, task: Delivered, name: str, data: bytes, saved: Saved) -> None:
        """Save a result, and call `saved` with it. If there is one of that name, call `saved` with that instead."""
        if forks.generation != self._generation:
            raise _not_saved(task, "a forked process saves nothing")
        try:
            self._loop.call_soon_threadsafe(self._take, task, name, data, saved, context=self._context)
        except RuntimeError:  # the loop is closed
            raise _not_saved(task, _SESSION_OVER) from None

    def _refusal(self, task: Delivered) -> str:
        if forks.generation != self._generation:
            return "a forked process saves nothing"
        if self._is_closed:
            return _SESSION_OVER
        held = self._tasks.get(task.name)
        if held is None or held.task is not task:
            return _GONE
        return "" if held.state is State.IN_POOL else _STOPPED

    # --- in the loop of the session ----------------------------------------------------------------------------------

    def _take(self, task: Delivered, name: str, data: bytes, saved: Saved) -> None:
        reason = self._refusal(task)
        held = self._tasks.get(task.name)
        if reason or held is None:
            saved(_not_saved(task, reason or _GONE))
            return
        if name in task.saved:
            saved(self._answer(name, task.saved[name]))
            return
        unsaved = self._unsaved.get(task.name)
        if unsaved is not None and unsaved.held is not held:
            unsaved.fail(_GONE)  # an earlier delivery of the task
            unsaved = None
        if unsaved is None:
            unsaved = self._unsaved[task.name] = _Unsaved(held)
        if name not in unsaved.callers:
            try:
                known = decode_call(task.payload).saved or {}
                task.payload = self._rewrite(task, {**known, name: msgspec.Raw(data)})
            except HerdError as error:
                saved(error)
                return
            unsaved.callers[name] = []
        unsaved.callers[name].append(saved)
        self._turn()

    def _rewrite(self, task: Delivered, results: Mapping[str, msgspec.Raw]) -> bytes:
        """Return the payload with these results. Raises SavedTooLarge, ConfigurationError, BadSignature."""
        changed = with_saved(task.payload, results)
        if not is_signed(task.payload):
            return changed
        if self._keyring is None:
            raise _no_keys(task)
        return self._keyring.sign_again(task.name, task.name, task.payload, changed)

    @property
    def is_empty(self) -> bool:
        return not self._unsaved

    def send(self) -> None:
        """Commit what can be committed now. To be called before tasks are started."""
        moves: list[Move] = []
        for name, unsaved in list(self._unsaved.items()):
            held = unsaved.held
            if held.state is State.GONE:
                unsaved.fail(_GONE)
            elif held.state is not State.IN_POOL:
                unsaved.fail(_STOPPED)
            if held.state not in (State.IN_POOL, State.WAITING) or not unsaved.callers:
                del self._unsaved[name]  # its next move has the payload
            elif name not in self._tasks.requests and self._inbox.is_read(name):
                unsaved.sent = tuple(unsaved.callers)
                self._tasks.begin_request(name)
                payload = with_start(held.task.payload, self._worker) if held.marked else held.task.payload
                moves.append(transitions.save(self._worker, name, payload))
        if moves:
            self._committer.commit(moves, self._settled)

    def _settled(self, settlement: Settlement) -> None:
        name = settlement.move.task
        self._tasks.end_request(name)
        unsaved = self._unsaved.get(name)
        if unsaved is not None and unsaved.sent:
            sent, unsaved.sent = unsaved.sent, ()
            if settlement.fate is Fate.COMMITTED:
                self._committed(unsaved, sent)
            elif settlement.fate is Fate.REFUSED:
                self._refused(unsaved, settlement.verdict)
            # UNKNOWN: sent again after the reconnect. SESSION_OVER: `close` answers the callers.
        self._turn()

    def _committed(self, unsaved: _Unsaved, sent: tuple[str, ...]) -> None:
        task = unsaved.held.task
        assert task.call is not None
        stored = decode_call(task.payload).saved or {}
        # A new dictionary, because threads of the task may be reading the old one.
        task.call = msgspec.structs.replace(task.call, saved={**task.saved, **{name: stored[name] for name in sent}})
        for name in sent:
            for saved in unsaved.callers.pop(name):
                saved(self._answer(name, stored[name]))

    def _answer(self, name: str, stored: msgspec.Raw) -> msgspec.Raw:
        """A child is submitted with a check of its parent's assignment, which has the name of this worker."""
        return msgspec.Raw(encode_worker(self._worker)) if is_child_key(name) else stored

    def _refused(self, unsaved: _Unsaved, verdict: Verdict | None) -> None:
        task = unsaved.held.task
        del self._unsaved[task.name]
        if verdict is Verdict.RACE_LOST:
            unsaved.fail(_GONE)
            self._let_go(task.name)
        else:  # logged by the committer
            unsaved.fail("ZooKeeper refused to write it")
            task.payload = self._rewrite(task, task.saved)

    def close(self) -> None:
        """Answer all callers: the session is over."""
        self._is_closed = True
        for unsaved in self._unsaved.values():
            unsaved.fail(_SESSION_OVER)
        self._unsaved.clear()


def _no_keys(task: Delivered) -> ConfigurationError:
    return ConfigurationError(
        f"{task.name} is signed, and a worker that saves results for it has to sign them: give its Herd the signing "
        "keys"
    )


def _not_saved(task: Delivered, reason: str) -> NotSaved:
    return NotSaved(f"{task.name}: a result of once() is not saved: {reason}")
