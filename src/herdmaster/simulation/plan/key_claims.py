"""What the submission of a job says about its uniqueness key."""

from __future__ import annotations

import msgspec

from herdmaster.core.keys import KeyRecord, KeyScope, Unique, encode_record, hash_key
from herdmaster.simulation.plan.jobs import CALL, RARE, Job


class Claim(msgspec.Struct, frozen=True):
    """A claim to a key. Old clients and raw tasks give only its hash."""

    hash: str
    unique: Unique | None = None
    record: bytes | None = None
    old_hash: str | None = None


def claim_of(job: Job) -> Claim | None:
    """Return the claim of a job, or None if it has no key."""
    if job.key is None:
        return None
    everywhere = hash_key(job.key)
    if job.old_key or job.raw:
        return Claim(everywhere)
    call = RARE if job.rare else CALL
    own = hash_key(job.key, call) if job.key_scope is KeyScope.CALL else everywhere
    unique = Unique(job.key, job.key_scope, job.key_holds)
    record = encode_record(KeyRecord(job.key, job.key_scope, call))
    return Claim(own, unique, record, None if own == everywhere else everywhere)


def may_be_told_of(job: Job, holder: Job) -> bool:
    """Return whether the submitter of `job` may be told that `holder` has its key."""
    mine, other = claim_of(job), claim_of(holder)
    if mine is None or other is None:
        return False
    is_old = other.hash == mine.old_hash and (other.record is None or job.rare == holder.rare)
    return other.hash == mine.hash or is_old
