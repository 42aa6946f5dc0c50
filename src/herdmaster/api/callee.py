"""What a submission knows about the function that it calls, and the name by which workers find it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from herdmaster.api.results import Reader
from herdmaster.core.codec import Codec, write_arguments
from herdmaster.core.kept import NONE_KNOWN, Known
from herdmaster.core.signature import Signature
from herdmaster.errors import ConfigurationError


def call_of(function: Callable[..., object]) -> str:
    """Return the name of the call of a function, `module:qualname`."""
    return f"{module_name(function.__module__)}:{function.__qualname__}"


def module_name(name: str) -> str:
    """Return the name by which a worker imports a module, also under `python -m package.module`."""
    if name != "__main__":
        return name
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return getattr(spec, "name", None) or name


def findable_call_of(function: Callable[..., object]) -> str:
    """As `call_of`, but raise ConfigurationError for a function that no worker can find."""
    call = call_of(function)
    if call.startswith("__main__:"):
        raise ConfigurationError(
            f"{function.__qualname__} is defined in a script that was run by its file name, or at a prompt, so no "
            f"worker can find it: run the script with `python -m {_script_module()}`, or move the task into a module "
            "of its own"
        )
    return call


def _script_module() -> str:
    """Return the name by which `python -m` runs the script, MODULE if that depends on more than its file."""
    path = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    is_here = path.suffix == ".py" and path.resolve().parent == Path.cwd().resolve()
    return path.stem if is_here and path.stem.isidentifier() else "MODULE"


class Callee(msgspec.Struct, frozen=True):
    """A function as submissions know it. `signature` is None if only the name is known: then nothing is checked, and
    the result stays plain JSON. `codec` is the Herd's."""

    call: str
    signature: Signature | None = None
    codec: Codec | None = None
    reader: Reader | None = None

    def write_item(self, args: Sequence[object]) -> msgspec.Raw:
        """Return the JSON of the arguments of one item of a chunk. Raises NotSerializable, WrongArguments."""
        written, _ = write_arguments(args, {}, self.signature, self.codec)
        return written


def callee_of(
    call: str, function: Callable[..., object] | None, codec: Codec | None, known: Known = NONE_KNOWN
) -> Callee:
    """Return the callee of a call. `function` is None if only the name is known; `known` is as for `Reader`."""
    signature = None if function is None else Signature(call, function)
    return Callee(call, signature, codec, Reader(signature, codecs_of(codec), known))


_NO_CODECS: Final[dict[str, Codec]] = {}


def codecs_of(codec: Codec | None) -> dict[str, Codec]:
    """Return the codec, if there is one, by its name."""
    return _NO_CODECS if codec is None else {codec.name: codec}


def check_codec(codec: Codec | None) -> Codec | None:
    """Return the codec. Raises ConfigurationError for an object that cannot be one."""
    if codec is None:
        return None
    name = getattr(codec, "name", None)
    if isinstance(codec, type) or not isinstance(name, str) or not name:
        raise ConfigurationError(f"codec={codec!r}: it takes an object with a `name`, `encode` and `decode`")
    if not callable(getattr(codec, "encode", None)) or not callable(getattr(codec, "decode", None)):
        raise ConfigurationError(f"the codec {name!r} has to have `encode(value)` and `decode(data)`")
    return codec
