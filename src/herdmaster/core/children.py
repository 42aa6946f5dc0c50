"""The children of a task: the tasks and flows that its code has submitted with `child=True`.

Their names stand in the payload of the parent, among the saved results of `once`, under names that no result can have.
They are saved before the child is submitted, so a child is never unknown to who ends its parent. The transaction that
submits the child checks the assignment under which the code of the parent runs. So when that assignment is gone, no
more children come. Until then a request to cancel a child that is nowhere is kept: the child may be on its way.
"""

from __future__ import annotations

from typing import Final

from herdmaster.core import layout
from herdmaster.core.names import has_outcome, parse_task_name, parse_worker_name
from herdmaster.core.payload import decode_call
from herdmaster.errors import BadPayload

_MARK: Final = "\n"
"""Begins the name of a child; the name of a result has printable characters only."""
NOTHING: Final = b"0"
"""What is saved for a child, beside its name. The answer to the save is the worker that has the parent, as
`encode_worker` writes it; in tests without a worker it is this."""


def key_of_child(task: str) -> str:
    """Return the name under which a child is saved."""
    return _MARK + task


def is_child_key(name: str) -> bool:
    return name.startswith(_MARK)


def children_of(payload: bytes) -> list[str]:
    """Return the names of a task's children; none for what is no call."""
    if b'"saved"' not in payload:
        return []
    try:
        saved = decode_call(payload).saved or {}
    except BadPayload:
        return []
    names = (name.removeprefix(_MARK) for name in saved if is_child_key(name))
    return [name for name in names if has_outcome(name)]


def encode_worker(worker: str) -> bytes:
    return b'"%s"' % worker.encode()


def assignment_of(task: str, answer: bytes) -> str | None:
    """Return the path of the assignment of a parent, by the answer to the save of a child; None without a worker."""
    worker = answer.decode("ascii", "replace").strip('"')
    return None if parse_worker_name(worker) is None else layout.assignment_path(worker, task)


def encode_parent(worker: str, task: str) -> bytes:
    """Return the data of a request to cancel the child of a task that this worker has."""
    return f"{worker}/{task}".encode()


def decode_parent(data: bytes | None) -> tuple[str, str] | None:
    """Return the worker and the task that a request to cancel names; None if it is for no child."""
    worker, _, task = (data or b"").decode("ascii", "replace").partition("/")
    return None if parse_worker_name(worker) is None or parse_task_name(task) is None else (worker, task)
