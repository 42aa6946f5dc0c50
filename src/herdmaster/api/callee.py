"""What a submission knows about the function that it calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from herdmaster.api.reading import Reader
from herdmaster.core.codec import Codec, write_arguments
from herdmaster.core.kept import NONE_KNOWN, Known
from herdmaster.core.signature import Signature
from herdmaster.errors import ConfigurationError


class Callee(msgspec.Struct, frozen=True):
    """`signature` is None where only the name is known: nothing is checked then, and the result stays plain JSON.
    `codec` is that of the Herd."""

    call: str
    signature: Signature | None = None
    codec: Codec | None = None
    reader: Reader | None = None

    def write_item(self, args: Sequence[object]) -> msgspec.Raw:
        """The arguments of one item of a chunk. Raises NotSerializable, WrongArguments."""
        written, _ = write_arguments(args, {}, self.signature, self.codec)
        return written


def callee_of(
    call: str, function: Callable[..., object] | None, codec: Codec | None, known: Known = NONE_KNOWN
) -> Callee:
    """`function` is None where only its name is known; `known` as `Reader` has it."""
    signature = None if function is None else Signature(call, function)
    return Callee(call, signature, codec, Reader(signature, codecs_of(codec), known))


_NO_CODECS: Final[dict[str, Codec]] = {}


def codecs_of(codec: Codec | None) -> dict[str, Codec]:
    return _NO_CODECS if codec is None else {codec.name: codec}


def check_codec(codec: Codec | None) -> Codec | None:
    """The codec itself. Raises ConfigurationError for what cannot be one."""
    if codec is None:
        return None
    name = getattr(codec, "name", None)
    if isinstance(codec, type) or not isinstance(name, str) or not name:
        raise ConfigurationError(f"codec={codec!r}: it takes an object with a `name`, `encode` and `decode`")
    if not callable(getattr(codec, "encode", None)) or not callable(getattr(codec, "decode", None)):
        raise ConfigurationError(f"the codec {name!r} has to have `encode(value)` and `decode(data)`")
    return codec
