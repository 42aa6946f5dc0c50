"""The tasks that clients submit for the jobs of a plan."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from herdmaster.core.names import UlidFactory, call_name, raw_name
from herdmaster.core.options import Overrides
from herdmaster.core.payload import BIG, Call
from herdmaster.core.transitions import NewTask
from herdmaster.simulation.plan.jobs import CALL, RARE, Job
from herdmaster.simulation.plan.key_claims import Claim, claim_of


def task_of_job(job: Job, ulids: UlidFactory) -> NewTask:
    """Return a new task."""
    filling = "x" * job.size
    claim = claim_of(job)
    delay = None if job.delay is None else round(job.delay * 1000)
    expires = None if job.expires is None else round(job.expires * 1000)
    if job.raw:
        data = f"t{job.index}:{filling}".encode()
        return _with_key(NewTask(raw_name(ulids.new()), data, delay_ms=delay), claim)
    data = b'{"herd":1,"call":' + filling.encode() if job.garbage else _payload(job, filling, claim)
    conditional = expires is not None
    name = call_name(ulids.new(), job.queue, job.priority, big=len(data) > BIG, conditional=conditional)
    return _with_key(NewTask(name, data, delay_ms=delay, expires_ms=expires), claim)


def _with_key(task: NewTask, claim: Claim | None) -> NewTask:
    if claim is None:
        return task
    return msgspec.structs.replace(task, key_hash=claim.hash, key_record=claim.record, old_key_hash=claim.old_hash)


def _payload(job: Job, filling: str, claim: Claim | None) -> bytes:
    """Encode a call without `encode_call`, which refuses large ones: another client may send them."""
    wanted = Overrides(max_attempts=job.attempts, backoff=job.backoff, timeout=job.timeout or UNSET)
    args = msgspec.Raw(msgspec.json.encode([job.index, filling]))
    name = RARE if job.rare else CALL
    call = Call(1, name, args, msgspec.Raw(b"{}"), outcome=not job.silent, options=wanted, ttl=job.outcome_ttl)
    if claim is not None:
        call = msgspec.structs.replace(call, key=claim.hash, unique=claim.unique)
    return msgspec.json.encode(call)
