"""Frees keys without a hold, as programs of older versions create them.

No check in a transaction tells whose such a key is: another task that has taken it meanwhile has it at the same path
and version. So a transaction that frees one creates the hold of its holder as well. If two have read the same holder,
the second is refused there, with NodeExists. The hold is swept like any hold without a key, long after the last request
that it has to refuse.
"""

from __future__ import annotations

from herdmaster.core import layout
from herdmaster.core.names import parse_task_name
from herdmaster.zookeeper.client import Transaction


def free_old_key(transaction: Transaction, key_hash: str, holder: str) -> Transaction:
    """Add the operations that free the key. A holder that is no task's name gets no hold."""
    if parse_task_name(holder) is not None:
        transaction.create(layout.hold_path(key_hash, holder))
    return transaction.delete(layout.key_path(key_hash))
