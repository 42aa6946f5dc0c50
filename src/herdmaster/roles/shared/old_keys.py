"""Keys without a hold, as programs of older versions take them.

Nothing in a transaction tells whose such a key is: another task that has taken it meanwhile has it at the same path and
version. So what frees one makes the hold of its holder in the same transaction. Of two that have read the same holder
one is refused there, with NodeExists. The hold is swept like any that has no key, long after the last request that it
has to refuse.
"""

from __future__ import annotations

from herdmaster.core import layout
from herdmaster.core.names import parse_task_name
from herdmaster.zookeeper.client import Transaction


def free_old_key(transaction: Transaction, key_hash: str, holder: str) -> Transaction:
    """Adds that to the transaction. What is no task's name makes no hold."""
    if parse_task_name(holder) is not None:
        transaction.create(layout.hold_path(key_hash, holder))
    return transaction.delete(layout.key_path(key_hash))
