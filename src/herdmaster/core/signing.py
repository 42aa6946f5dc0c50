"""Signatures of payloads and of outcomes: HMAC-SHA256 with keys that submitters and workers share.

A signed payload has one more field, `"signature":{"key":"2026a","mac":"..."}`. The code covers its subject and every
field of the envelope but those that roles change (`UNBOUND`), as the bytes that stand there, in their order. The roles
rewrite envelopes field by field and keep the bytes and the order of the others, so a signature survives every
transition.

| task | its subject | why |
|---|---|---|
| any other | the name of the task | it has the queue and the priority. A replay gives a new name, and signs anew |
| of a schedule | the schedule and the queue | the primary names it, and has no keys. It may set when the task expires |
| a step | the name of its first task | operators run it again without keys. Its payload says which run it is |

A worker that saves results of `once` signs the payload anew, because they decide what the code does.

A signed outcome has the same field at its end, and the code covers the bytes before it. The header of a flow is signed
by the client that submits the flow: its name, and what no role changes.
"""

from __future__ import annotations

import enum
import hmac
import re
from typing import Final

import msgspec

from herdmaster.core.bounds import Number
from herdmaster.core.flows import FlowHeader, FlowStep, KeySignature, encode_header, task_of
from herdmaster.core.names import DEFAULT_QUEUE, is_call, queue_and_time
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome
from herdmaster.core.payload import ENVELOPE_GROWTH, MAX_PAYLOAD, Scheduled
from herdmaster.core.secret_keys import SecretKeys
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload, BadSignature, PayloadTooLarge

UNBOUND: Final = frozenset({
    "alone", "asked", "attempt", "deliveries", "due", "error", "expanded", "expanded_chunk", "missing", "run",
    "scheduled", "started", "traceparent", "tracestate", "signature",
})  # fmt: skip
"""The fields that a signature does not cover: what roles change, and what has no effect on what a task does."""
_UNBOUND_IN_SCHEDULES: Final = UNBOUND | {"expires"}

_OF_TASKS: Final = b"herdmaster task 1\n"
_OF_SCHEDULES: Final = b"herdmaster schedule 1\n"
_OF_OUTCOMES: Final = b"herdmaster outcome 1\n"
_OF_HEADERS: Final = b"herdmaster flow 1\n"
_START: Final = b',"signature":{"key":"'
_MIDDLE: Final = b'","mac":"'
_END: Final = b'"}}'
_DIGITS: Final = 64

_outcome_signature = re.compile(rb',"signature":\{"key":"([A-Za-z0-9._-]{1,64})","mac":"([0-9a-f]{64})"\}\}').fullmatch
_MAX_SIZE: Final = 200
"""Bytes of a signature."""


_encoder = msgspec.json.Encoder()
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_signature_decoder = msgspec.json.Decoder(KeySignature)
_step_decoder = msgspec.json.Decoder(FlowStep)
_run_decoder = msgspec.json.Decoder(Number)
_scheduled_decoder = msgspec.json.Decoder(Scheduled)


class Keyring:
    """The keys of a deployment, by their ids: the first one signs, and all verify. Threads may share it."""

    def __init__(self, keys: object) -> None:
        """Raises ConfigurationError, without any part of a secret."""
        self._keys = SecretKeys(keys, "signing")

    def load(self) -> None:
        """Call the functions that return secrets. Raises ConfigurationError."""
        self._keys.load()

    def __repr__(self) -> str:
        return f"<Keyring of {self._keys.ids}>"

    @property
    def size(self) -> int:
        """How many bytes a signature takes."""
        return len(_START) + len(self._keys.first) + len(_MIDDLE) + _DIGITS + len(_END) - 1

    # --- payloads ----------------------------------------------------------------------------------------------------

    def sign_task(self, task: str, data: bytes) -> bytes:
        """Return the payload with a signature for the task of that name, in place of one that it may have. Raises
        PayloadTooLarge, BadPayload."""
        return self._sign_task(task, data, MAX_PAYLOAD)

    def sign_scheduled(self, schedule: str, queue: str, data: bytes) -> bytes:
        """As `sign_task`, for the tasks that a schedule makes in a queue."""
        return self._sign_scheduled(schedule, queue, data, MAX_PAYLOAD)

    def sign_again(self, task: str, new_task: str, data: bytes, changed: bytes) -> bytes:
        """Return `changed`, made of the payload `data` of a task, with a signature for its new name, which may be the
        old one. Raises BadSignature if that of `data` is missing or wrong."""
        self.verify_task(task, data)
        scheduled = _fields(data).get("scheduled")
        if scheduled is None:
            return self._sign_task(new_task, changed, MAX_PAYLOAD + ENVELOPE_GROWTH)
        name = _scheduled_decoder.decode(scheduled).schedule
        return self._sign_scheduled(name, _queue_of(new_task), changed, MAX_PAYLOAD + ENVELOPE_GROWTH)

    def verify_task(self, task: str, data: bytes) -> None:
        """Raises BadSignature if the payload of a task was not signed for it with one of the keys."""
        fields = _fields(data)
        if "signature" not in fields:
            raise BadSignature("the payload is not signed, and this worker runs signed tasks only")
        signature = _signature_of(fields)
        try:
            scheduled = _scheduled_decoder.decode(fields["scheduled"]) if "scheduled" in fields else None
        except UNREADABLE:
            raise BadSignature("the signature of the payload cannot be read") from None
        if scheduled is None:
            message = _message(_of_task(task, fields), fields, UNBOUND)
        else:
            subject = _of_schedule(scheduled.schedule, _queue_of(task))
            message = _message(subject, fields, _UNBOUND_IN_SCHEDULES)
        self._verify(signature.key, message, signature.mac, "payload")

    def verify_scheduled(self, schedule: str, queue: str, data: bytes) -> None:
        """Raises BadSignature if the payload of a stored schedule was not signed for it with one of the keys."""
        fields = _fields(data)
        if "signature" not in fields:
            raise BadSignature("its task is not signed, and the keys here would sign it")
        signature = _signature_of(fields)
        message = _message(_of_schedule(schedule, queue), fields, _UNBOUND_IN_SCHEDULES)
        self._verify(signature.key, message, signature.mac, "task")

    def _sign_task(self, task: str, data: bytes, limit: int) -> bytes:
        fields = _fields(data)
        return self._sign(_of_task(task, fields), data, fields, UNBOUND, limit)

    def _sign_scheduled(self, schedule: str, queue: str, data: bytes, limit: int) -> bytes:
        return self._sign(_of_schedule(schedule, queue), data, _fields(data), _UNBOUND_IN_SCHEDULES, limit)

    def _sign(
        self, subject: bytes, data: bytes, fields: dict[str, msgspec.Raw], unbound: frozenset[str], limit: int
    ) -> bytes:
        if "signature" in fields:
            del fields["signature"]
            data = _encoder.encode(fields)
        signed = self._signed(data, _message(subject, fields, unbound))
        if len(signed) > limit:
            raise PayloadTooLarge(len(signed), limit)
        return signed

    # --- outcomes ----------------------------------------------------------------------------------------------------

    def sign_outcome(self, task: str, data: bytes) -> bytes:
        """Return the status of a task, or the result of a step (`flows.result_name`), with a signature. That of a raw
        task is returned as it is."""
        return self._signed(data, _of_outcome(task, data)) if _has_result(task) else data

    def open_outcome(self, task: str, data: bytes) -> tuple[bytes, bool]:
        """Return a status without its signature, and whether it had one. Raises BadSignature for a wrong one."""
        at = data.rfind(_START, max(0, len(data) - _MAX_SIZE))
        found = None if at < 0 else _outcome_signature(data, at)
        if found is None:
            return data, False
        body = data[:at] + b"}"
        self._verify(found[1].decode(), _of_outcome(task, body), found[2].decode(), "outcome")
        return body, True

    # --- headers of flows --------------------------------------------------------------------------------------------

    def sign_header(self, flow: str, header: FlowHeader) -> FlowHeader:
        key = self._keys.first
        return msgspec.structs.replace(header, signature=KeySignature(key, self._code(key, _of_header(flow, header))))

    def verify_header(self, flow: str, header: FlowHeader) -> None:
        """Raises BadSignature if the header was not signed for the flow of that name with one of the keys."""
        if header.signature is None:
            raise BadSignature(f"the header of {flow} is not signed, and only signed flows are read here")
        self._verify(header.signature.key, _of_header(flow, header), header.signature.mac, "header")

    # --- all ---------------------------------------------------------------------------------------------------------

    def _signed(self, data: bytes, message: bytes) -> bytes:
        mac = self._code(self._keys.first, message).encode()
        return b"".join((memoryview(data)[:-1], _START, self._keys.first.encode(), _MIDDLE, mac, _END))

    def _verify(self, key: str, message: bytes, mac: str, what: str) -> None:
        if key not in self._keys:
            raise BadSignature(f"the {what} is signed with the key {key}, and the keys here are {self._keys.ids}")
        if not hmac.compare_digest(self._code(key, message), mac):
            raise BadSignature(
                f"the signature of the {what} is wrong: it was changed, is of another task, or {key} is another secret"
            )

    def _code(self, key: str, message: bytes) -> str:
        return hmac.digest(self._keys[key], message, "sha256").hex()


class Unsigned(enum.StrEnum):
    """What may be unsigned although there are keys: raw tasks, which cannot be signed, or all tasks and results."""

    RAW = "raw"
    ALL = "all"


class SignedOnly(msgspec.Struct, frozen=True):
    """What a worker with keys asks of tasks, and a client with keys of results. A wrong signature is never accepted."""

    keyring: Keyring
    but: Unsigned | None = None

    def check_task(self, task: str, data: bytes) -> None:
        """Raises BadSignature for a task that the worker must not run."""
        if is_call(task):
            if self.but is not Unsigned.ALL or is_signed(data):
                self.keyring.verify_task(task, data)
        elif self.but is None:
            raise BadSignature("a raw task has no signature, and this worker runs signed tasks only")

    def check_header(self, flow: str, header: FlowHeader) -> None:
        """Raises BadSignature for a flow whose results the client must not take."""
        if self.but is not Unsigned.ALL or header.signature is not None:
            self.keyring.verify_header(flow, header)

    def read_outcome(self, task: str, data: bytes) -> Outcome:
        """Return the outcome in the status of a task, or of a flow, or in the result of a step (`flows.result_name`).
        Raises BadSignature for a wrong signature, and for a result without one; BadOutcome.

        Only workers have keys, so what a primary ends has no signature: no such task is done, and a flow that is done
        has its results elsewhere.
        """
        body, is_signed = self.keyring.open_outcome(task, data)
        outcome = decode_outcome(task, body)
        if is_signed or self.but is Unsigned.ALL or outcome.state is not OutcomeState.DONE or not _has_result(task):
            return outcome
        raise BadSignature(f"the result of {task} is not signed, and only signed results are read here")


def is_signed(data: bytes) -> bool:
    """Return whether a payload has a signature, be it right or wrong."""
    try:
        return b'"signature"' in data and "signature" in _fields(data)
    except BadPayload:
        return False


def _fields(data: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _fields_decoder.decode(data)
    except UNREADABLE as error:
        raise BadPayload(f"the payload is not JSON that can be read: {error}") from None


def _signature_of(fields: dict[str, msgspec.Raw]) -> KeySignature:
    try:
        return _signature_decoder.decode(fields["signature"])
    except UNREADABLE:
        raise BadSignature("the signature of the payload cannot be read") from None


def _message(subject: bytes, fields: dict[str, msgspec.Raw], unbound: frozenset[str]) -> bytes:
    bound = {name: value for name, value in fields.items() if name not in unbound}
    return subject + b"\n" + _encoder.encode(bound)


def _of_task(task: str, fields: dict[str, msgspec.Raw]) -> bytes:
    """The subject of a task. That of a step is the task of its first run, so that an operator without keys may run it
    again. Raises BadSignature if a task is not the step that its payload says it is."""
    if "flow" in fields:
        try:
            step = _step_decoder.decode(fields["flow"])
            run = _run_decoder.decode(fields.get("run", b"0"))
            if task_of(step, run) != task:
                raise BadSignature(f"{task} is not the task of run {run} of step {step.step} of {step.flow}")
        except (BadPayload, *UNREADABLE):
            raise BadSignature("what the payload says of its flow cannot be read") from None
        task = step.task
    return _OF_TASKS + task.encode()


def _of_schedule(schedule: str, queue: str) -> bytes:
    return _OF_SCHEDULES + _encoder.encode((schedule, queue))


def _of_outcome(task: str, data: bytes) -> bytes:
    return _OF_OUTCOMES + task.encode() + b"\n" + data


def _of_header(flow: str, header: FlowHeader) -> bytes:
    return _OF_HEADERS + flow.encode() + b"\n" + encode_header(header.unchanging)


def _has_result(name: str) -> bool:
    """Whether an outcome of that name may have a result: of a call, or of a step."""
    return is_call(name) or "/" in name


def _queue_of(task: str) -> str:
    return queue_and_time(task)[0] if is_call(task) else DEFAULT_QUEUE
