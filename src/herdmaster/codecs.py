"""Codecs that can be given to a Herd: `Herd(codec=CloudpickleCodec(), signing_keys=...)`."""

from __future__ import annotations

import importlib
import pickle
from typing import Protocol, cast

from herdmaster.errors import ConfigurationError

__all__ = ["CloudpickleCodec"]


class _Cloudpickle(Protocol):
    def dumps(self, value: object, /) -> bytes: ...


class CloudpickleCodec:
    """Carries nearly every Python object, also functions made on the spot, between equal versions of Python.

    Unpickling runs whatever code the pickle says. So the Herd needs signing keys: then workers unpickle what programs
    with the keys have submitted, and clients what workers with the keys have returned. With `unsigned=True` it works
    without keys, and every program that may write to the Herd's namespace in ZooKeeper can run any code on its workers
    and its clients. An app without this codec never unpickles anything, whatever a payload says. Its extra is
    `herdmaster[cloudpickle]`.
    """

    name = "cloudpickle"

    def __init__(self, *, unsigned: bool = False) -> None:
        """Raises ConfigurationError where cloudpickle is not installed."""
        self.needs_signing = not unsigned
        try:
            self._cloudpickle = cast("_Cloudpickle", importlib.import_module("cloudpickle"))
        except ModuleNotFoundError:
            raise ConfigurationError(
                "CloudpickleCodec needs the package cloudpickle: install herdmaster[cloudpickle]"
            ) from None

    def encode(self, value: object, /) -> bytes:
        return self._cloudpickle.dumps(value)

    def decode(self, data: bytes, /) -> object:
        return pickle.loads(data)  # noqa: S301 - what its documentation warns of
