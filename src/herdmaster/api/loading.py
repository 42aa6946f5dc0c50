"""Finds the Herd in a user's module."""

from __future__ import annotations

import importlib
import sys

from herdmaster.api.app import Herd
from herdmaster.errors import ConfigurationError
from herdmaster.pools.folder import Folder


def load_app(spec: str) -> Herd:
    """The Herd of `MODULE[:ATTR]`; without ATTR the module must hold exactly one. The working directory is importable.

    Raises ConfigurationError, which says what to write instead. What the module itself raises goes through, except
    that it cannot be found.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigurationError(f"{spec!r} is no app: write MODULE or MODULE:ATTRIBUTE, such as shop.tasks:herd")
    folder = Folder()
    _make_importable(folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # it was found, and misses a module of its own
        raise ConfigurationError(
            f"no module {error.name!r} is importable from here: run this in the folder that holds it, or install it"
        ) from None
    _make_importable(folder)  # the module may have added paths of its own
    if attribute:
        return _attribute(module_name, module, attribute)
    herds = {id(value): name for name, value in vars(module).items() if isinstance(value, Herd)}
    if not herds:
        raise ConfigurationError(
            f"module {module_name} has no Herd: put `herd = Herd()` at its top level, or name the module that has one"
        )
    if len(herds) > 1:
        names = sorted(herds.values())
        raise ConfigurationError(
            f"module {module_name} has several Herds ({', '.join(names)}): name one, as in {module_name}:{names[0]}"
        )
    return _attribute(module_name, module, next(iter(herds.values())))


def import_from_here() -> None:
    """Makes the modules of the working directory importable, as `python -m` does, also once a task has changed it."""
    _make_importable(Folder())


def _make_importable(folder: Folder) -> None:
    sys.path[:] = folder.resolve(sys.path)
    if folder.path not in sys.path:
        sys.path.insert(0, folder.path)


def _attribute(module_name: str, module: object, attribute: str) -> Herd:
    value = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise ConfigurationError(f"{module_name}:{attribute} is not there: name the Herd as the module does")
        value = getattr(value, part)
    if not isinstance(value, Herd):
        raise ConfigurationError(f"{module_name}:{attribute} is no Herd but {type(value).__name__}: name one that is")
    return value
