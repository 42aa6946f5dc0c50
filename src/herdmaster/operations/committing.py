"""Commits the moves of an operator as one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from herdmaster.core.operations import Move
from herdmaster.core.table import Failure, Verdict
from herdmaster.core.transitions import verdict
from herdmaster.errors import HerdError
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.committer import add_operation
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client


async def commit(client: Client, moves: Sequence[Move]) -> bool | None:
    """Commit moves as one transaction. Return True if that is done, False if what they rely on has changed, None if the
    reply was lost. Raises HerdError if another task holds a key, and what ZooKeeper raises."""
    transaction = client.transaction()
    owners: list[tuple[Move, int]] = []
    for move in moves:
        for index, operation in enumerate(move.operations):
            add_operation(transaction, operation)
            owners.append((move, index))
    try:
        await transaction.commit()
    except errors.ConnectionLoss:
        return None
    except errors.TransactionFailed as failure:
        move, index = owners[failure.index]
        match verdict(move, index, Failure(type(failure.error).__name__)):
            case Verdict.RACE_LOST | Verdict.DECIDE_AGAIN | Verdict.STEP_ENDED:
                return False
            case Verdict.FOLDER_MISSING:
                await make_folders(client)
                return False
            case Verdict.KEY_TAKEN:
                raise HerdError(f"{move.task}: another task holds its uniqueness key") from None
        raise failure.error from None
    return True
