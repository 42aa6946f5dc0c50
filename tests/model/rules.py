"""The rules of the protocol, each of which can be switched off, and what is modelled in one run."""

from __future__ import annotations

import enum
from typing import NamedTuple

from tests.model.vocabulary import Kind


class Rule(enum.Enum):
    """A rule as the design states it. Its value says what is done where it is switched off."""

    ONE_TRANSACTION = "the primary moves a task in two requests"
    GUARD = "a move is carried out although the task is no longer where it is taken from"
    WORKER_CHECK = "an assignment does not check that the worker is alive"
    RACE_LOST_ONLY_AT_GUARD = "a worker takes any refusal for a lost race"
    STATUS_DROPS = "a status that exists already does not drop the assignment"
    KEEP_AND_TRY_LATER = "an assignment is dropped because the task stands in /tasks as well"
    DROPS_CHECK = "what assumes another copy does not check it in the same transaction"
    HAND_BACK_TO_OURS = "a worker hands back while there is no primary, and the next one may be the reference's"
    ONE_IN_FLIGHT = "the primary decides about a task while a move of it is under way"
    OWN_DELIVERY = "a worker knows a delivery by the task's name alone"
    REPLY_ONLY_ENDS_MARK = "the reply to an assignment marks the task as assigned"
    LISTING_REPLACES = "a listing adds names to the picture and takes none away"
    FRESH_LISTING = "after a reconnect nothing is listed anew"
    WHOLE_PICTURE = "the primary decides before all listings have come"
    ORPHAN_WAIT = "an inbox without a worker is taken away at once"
    NEW_WORKER_ID = "a worker starts again under its old id"
    RETRY_TO_OURS = "a worker retries into /tasks while there is no primary, and the next one may be the reference's"
    STAND_IN_KEEPS = "a master that stands in drops from /delayed what stands in /tasks as well"
    STAND_IN_WAITS = "a master that stands in moves what the primary is about to move"
    ATTEMPT_COUNTED = "a retry does not count the attempt"
    ASKED_COUNTED = "a worker that lacks the function does not say that it was asked"
    MARK_START = "a worker does not mark the start of a task that was lost before"
    ONLY_STARTED_COST = "a task that was lost before loses a further delivery although it was not started"
    WORKER_FENCE = "a worker starts tasks while it does not hear from ZooKeeper"
    SESSION_FENCE = "writes of a session that has ended are carried out"
    OWNER_IS_PRIMARY = "who is primary is told by the data of /master, not by its owner"
    ALIVE_CHECK = "a batch does not check the alive node of its session"
    OLDER_ALIVE_DELETED = "a new session leaves the older alive nodes"
    JOURNAL_VERSION = "a batch does not expect a version of the journal"
    BAD_VERSION = "BadVersion is taken for accepted"
    JOURNAL_READ = (
        "after a doubt the client does not read the journal: it sends again, and a task that exists was accepted"
    )
    HOLD_GUARDS_KEY = "what ends a task frees its key without looking whether the task holds it"
    SYNC = "the client reads the journal without sync"


class Setup(NamedTuple):
    """One run. `faults` is how many losses of connection and crashes there may be in all. `prompt`: the primary hears
    of everything at once, otherwise of each folder when it pleases. `max_deliveries` as in the product."""

    tasks: int = 1
    faults: int = 1
    off: Rule | None = None
    masters: tuple[Kind, ...] = (Kind.OURS,)
    workers: Kind = Kind.OURS
    clients: Kind = Kind.OURS
    hit: frozenset[str] = frozenset({"primary", "worker", "client"})
    prompt: bool = False
    wire_order: bool = False
    draining: bool = False
    cancelling: bool = False
    key_taken: bool = False
    keyed: bool = False
    """The task has a key, which an operator may release, and another task may get then."""
    too_large: bool = False
    max_deliveries: int = 1
    delaying: bool = False
    """The client submits into `/delayed`."""
    attempts: int = 1
    lacking: bool = False
    """One of the workers lacks the task's function."""
    c_master: bool = False
    """The masters of the reference are the C program: it recovers nothing, and dies of a task without a worker."""
    expiring: bool = False
    """The time in which a task has to begin may be over at any time."""

    @property
    def only_ours(self) -> bool:
        return self.masters == (Kind.OURS,) and self.workers is self.clients is Kind.OURS

    @property
    def keeps_picture(self) -> bool:
        """Whether a primary that was away goes on with the picture that it had."""
        return self.off in (Rule.LISTING_REPLACES, Rule.FRESH_LISTING)

    def may_fail(self, role: str, faults: int) -> bool:
        """Whether a fault may befall this role, with so many left."""
        return faults > 0 and role in self.hit

    def keeps(self, rule: Rule) -> bool:
        return self.off is not rule
