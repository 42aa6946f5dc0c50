"""The children of a task: the tasks and flows that its code has submitted with `child=True`.

Their names stand in the payload of the parent, among the saved results of `once`, under names that no result can have.
They are saved before the child is submitted, so a child is never unknown to who ends its parent.
"""

from __future__ import annotations

from typing import Final

from herdmaster.core.names import parse_flow_name, parse_task_name
from herdmaster.core.payload import decode_call
from herdmaster.errors import BadPayload

_MARK: Final = "\n"
"""Begins the name of a child; the name of a result has printable characters only."""
NOTHING: Final = b"0"
"""What is saved for a child, beside its name."""


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
    return [name for name in names if parse_task_name(name) is not None or parse_flow_name(name) is not None]
