"""What an app registers with its Herd: functions, hooks, exceptions, a codec and a raw handler."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType

from herdmaster.api.callee import Callee, callee_of, check_codec, codecs_of, module_name
from herdmaster.api.checks import check_call, check_exceptions
from herdmaster.api.declarations import Declarations
from herdmaster.api.definition import Definition
from herdmaster.api.hooks import HookLists
from herdmaster.api.signing_keys import NOT_GIVEN, Signing
from herdmaster.core.codec import Codec, Codecs
from herdmaster.core.kept import Known
from herdmaster.core.modules import check_modules, import_modules
from herdmaster.core.names import DEFAULT_QUEUE
from herdmaster.core.options import RunOptions
from herdmaster.core.signing import Keyring, SignedOnly
from herdmaster.errors import ConfigurationError
from herdmaster.running.hooks import Hooks
from herdmaster.running.registration import Registration

RawHandler = Callable[[str, bytes], None]


class Registry:
    """The registrations of one Herd. A worker of the app runs them, and submissions look up the function's hints."""

    def __init__(
        self,
        codec: Codec | None,
        imports: Iterable[str],
        *,
        trace_parent: bool = False,
        signing: Signing = NOT_GIVEN,
    ) -> None:
        """Raises ConfigurationError for a codec or a module name."""
        self.codec = check_codec(codec)
        self.imports = check_modules("imports", imports)
        self.trace_parent = trace_parent
        self.signing = signing
        self.raw: RawHandler | None = None
        self.hook_lists = HookLists()
        self.declarations = Declarations(lambda: self.keyring)
        self._exceptions: dict[str, type[Exception]] = {}
        self._functions: dict[str, Registration] = {}
        self._definitions: dict[str, Definition] = {}
        self._callees: dict[str, Callee] = {}
        self._queues: dict[str, None] = {}  # an ordered set

    def add(self, call: str, definition: Definition, function: Callable[..., object], options: RunOptions) -> None:
        """Register a function under the name of its call. Raises ConfigurationError if another one has the name."""
        known = self._definitions.get(call)
        if known is not None:
            definition.check_replaces(known)
        self._definitions[call] = definition
        self._functions[call] = Registration(function, options, self.exceptions)
        self._callees.pop(call, None)

    def add_queue(self, queue: str) -> None:
        """Note a queue that a task names."""
        self._queues[queue] = None

    def add_exceptions(self, name: str, kinds: object) -> None:
        """Register one exception class, or several. `name` stands in the error. Raises ConfigurationError."""
        for each in check_exceptions(name, kinds):
            if getattr(builtins, each.__name__, None) is not each:
                self._exceptions[f"{module_name(each.__module__)}.{each.__qualname__}"] = each

    def learn_exceptions(self, options: Mapping[str, object]) -> None:
        """Register the exception classes that the options of a task name."""
        if "raises" in options:
            self.add_exceptions("raises", options["raises"])

    @cached_property
    def keyring(self) -> Keyring | None:
        """The keys that sign and verify; those of the environment are read at the first use. Raises
        ConfigurationError."""
        return self.signing.find_keyring(self.codec)

    @property
    def signed_only(self) -> SignedOnly | None:
        """What is asked of tasks and results if there are keys. Raises ConfigurationError."""
        return None if self.keyring is None else SignedOnly(self.keyring, self.signing.allow_unsigned)

    def check_raw(self) -> None:
        """Raises ConfigurationError if the workers of this app refuse raw tasks."""
        if self.keyring is not None and self.signing.allow_unsigned is None:
            raise ConfigurationError(
                "a raw task cannot be signed, and workers with signing keys refuse it: submit a call, or give the "
                'Herds of both sides allow_unsigned="raw"'
            )

    def load_imports(self) -> None:
        """Import the modules that `imports` names. Raises ConfigurationError for one that cannot be imported."""
        import_modules("imports", self.imports)

    @property
    def functions(self) -> Mapping[str, Registration]:
        """The registered functions with their options, by the name of their call."""
        return MappingProxyType(self._functions)

    @property
    def exceptions(self) -> Known:
        """The registered exception classes, including later ones, by the names that failures give."""
        return MappingProxyType(self._exceptions)

    @property
    def codecs(self) -> Codecs:
        """The codecs that a worker of this app decodes besides JSON, by name."""
        return MappingProxyType(codecs_of(self.codec))

    @property
    def hooks(self) -> Hooks:
        """The hooks that a worker of this app calls."""
        return self.hook_lists.hooks()

    @property
    def queues(self) -> tuple[str, ...]:
        """The default queue and those that the tasks name; `task.options(queue=...)` may name others."""
        return tuple(dict.fromkeys((DEFAULT_QUEUE, *self._queues)))

    def callee(self, call: str) -> Callee:
        """Return what is known about a call: its hints, if its function is registered here. Raises ConfigurationError
        for text that is no call."""
        found = self._callees.get(call)
        if found is None:
            check_call(call)
            registered = self._functions.get(call)
            found = callee_of(call, None if registered is None else registered.function, self.codec, self.exceptions)
            if registered is not None:
                self._callees[call] = found
        return found
