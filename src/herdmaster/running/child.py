"""What runs in the processes of a worker's pool: it imports the worker's app, and runs one call after the other.

The app is imported by the name under which the worker was given it, so its functions are the ones that the worker has.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol, runtime_checkable

import msgspec

from herdmaster import forks
from herdmaster.core.modules import import_modules
from herdmaster.core.options import RunOptions
from herdmaster.core.payload import decode_call
from herdmaster.core.run import Lacking, Run, encode_run
from herdmaster.errors import ConfigurationError
from herdmaster.running.current import Awaited, Said
from herdmaster.running.delivery import Delivered
from herdmaster.running.hooks import Hooks
from herdmaster.running.invocation import invoke
from herdmaster.running.program import Program, way
from herdmaster.running.registration import Registration

HANDLER: Final = "herdmaster.running.child:make_handler"
_SAY_SECONDS: Final = 0.5
"""Between two words of progress on their way to the worker."""

SendNote = Callable[[bytes], None]


@runtime_checkable
class App(Protocol):
    """The part of an app that a child process needs. `codecs` and `hooks` are looked for, too. A Herd returns such an
    object as `__herdmaster_app__`."""

    @property
    def functions(self) -> Mapping[str, Registration]: ...


class Setting(msgspec.Struct, frozen=True):
    """What a child is told when it starts. `app` is `module:attribute`; `imports` are modules that register tasks with
    it."""

    app: str | None
    prefixes: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


class Handover(msgspec.Struct, frozen=True, array_like=True):
    """One task for a child. `options` are all that hold for it."""

    name: str
    payload: bytes
    options: RunOptions
    started: int


_encoder: Final = msgspec.msgpack.Encoder()
_handover_decoder: Final = msgspec.msgpack.Decoder(Handover)
_note_decoder: Final[msgspec.msgpack.Decoder[Said | Awaited]] = msgspec.msgpack.Decoder(Said | Awaited)


def encode_handover(task: Delivered) -> bytes:
    return _encoder.encode(Handover(task.name, task.payload, task.options, task.started))


def hear(task: Delivered, data: bytes) -> None:
    """Takes a note of a child's code: of its progress, or of what it waits for."""
    note = _note_decoder.decode(data)
    if isinstance(note, Said):
        task.say(note)
    else:
        task.hear_awaited(note)


def make_handler(argument: str) -> Callable[[bytes, SendNote], bytes]:
    """For `herdmaster.pools.processes`; `argument` is a `Setting` as JSON. Raises what importing the app raises."""
    program = load_program(msgspec.json.decode(argument, type=Setting))

    def handle(request: bytes, send_note: SendNote) -> bytes:
        handover = _handover_decoder.decode(request)
        # What a task sets in context variables goes with its copy.
        return encode_run(contextvars.copy_context().run(run_handover, program, handover, Speaker(send_note)))

    return handle


def load_program(setting: Setting) -> Program:
    """Raises ConfigurationError if there is no such app or one of `imports` fails, and what the app's module raises."""
    if setting.app is None:
        return Program({}, prefixes=setting.prefixes)
    module, _, attribute = setting.app.partition(":")
    app: object = importlib.import_module(module)
    for part in attribute.split("."):
        app = getattr(app, part, None)
    app = getattr(app, "__herdmaster_app__", app)
    if not isinstance(app, App):
        raise ConfigurationError(
            f"{setting.app} is no app: give the worker app='module:attribute', where a Herd stands at the top level"
        )
    import_modules(f"the worker of {setting.app}", setting.imports)
    hooks = getattr(app, "hooks", None)
    return Program(
        app.functions,
        prefixes=setting.prefixes,
        codecs=getattr(app, "codecs", None),
        hooks=hooks if isinstance(hooks, Hooks) else None,
    )


def run_handover(program: Program, handover: Handover, speaker: Speaker) -> Run:
    """Raises MemoryError of a task with a memory limit."""
    call = decode_call(handover.payload)
    callee = program.find(call.call)
    if callee is None:
        reason = f"{call.call} is registered with the worker, and not in the app that its processes import"
        return Run(Lacking(reason), handover.started, handover.started)
    task = HandedOver(
        handover.name, handover.payload, 0, call, callee, way(handover.options), handover.started, speaker=speaker
    )
    started = _unix_ms()
    try:
        return Run(invoke(task, callee, call), started, _unix_ms())
    finally:
        speaker.close()


class Speaker:
    """Passes on what code says of its progress, and what it waits for: the last word for certain, but not each."""

    def __init__(self, send_note: SendNote) -> None:
        self._send_note = send_note
        self._generation = forks.generation
        self._lock = threading.Lock()
        self._unsent: dict[type, Said | Awaited] = {}
        self._may_send_at = 0.0
        self._timer: threading.Timer | None = None

    def say(self, note: Said | Awaited) -> None:
        if forks.generation != self._generation:
            return  # a forked child has nothing to say here, and may have the lock from a thread that it does not have
        with self._lock:
            self._unsent[type(note)] = note
            wait = self._may_send_at - time.monotonic()
            if wait <= 0:
                self._send()
            elif self._timer is None:
                timer = threading.Timer(wait, self._is_time)
                timer.daemon = True
                with contextlib.suppress(RuntimeError, MemoryError):  # no room for a thread: then the next word goes
                    timer.start()
                    self._timer = timer

    def close(self) -> None:
        """The rest is dropped: the task has ended."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._unsent.clear()

    def _is_time(self) -> None:
        with self._lock:
            self._timer = None
            self._send()

    def _send(self) -> None:
        for note in self._unsent.values():
            self._may_send_at = time.monotonic() + _SAY_SECONDS
            self._send_note(_encoder.encode(note))
        self._unsent.clear()


class HandedOver(Delivered, kw_only=True):
    """A task in a child's hands."""

    speaker: Speaker

    def say(self, said: Said) -> None:
        self.speaker.say(said)

    def begin_wait(self, task: str) -> None:
        super().begin_wait(task)
        self.speaker.say(Awaited(self.waits_for))

    def end_wait(self, task: str) -> None:
        super().end_wait(task)
        self.speaker.say(Awaited(self.waits_for))


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
