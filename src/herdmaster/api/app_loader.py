"""Loads an app: imports the module that `--app` names, and finds its Herd."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable

from herdmaster.api.herd import Herd
from herdmaster.api.internals import core_of
from herdmaster.core.modules import import_modules, is_absence_of, is_module_name
from herdmaster.errors import ConfigurationError
from herdmaster.greenlets import refuse_patched
from herdmaster.pools.folder import Folder


def load_app(spec: str, imports: Iterable[str] = ()) -> Herd:
    """Return the Herd of `MODULE[:ATTR]`, with the tasks of the modules that it or `imports` names. Without ATTR the
    module must hold exactly one Herd. The working directory is importable.

    Raises ConfigurationError, also if the module cannot be found, and what the module itself raises.
    """
    _check_spec(spec)
    folder = Folder()
    _make_importable(folder)
    try:
        herd = _find(spec)
        core_of(herd).registry.load_imports()
        import_modules("--import", imports)
    finally:
        _make_importable(folder)  # a module may have added paths of its own
    return herd


def _check_spec(spec: str) -> None:
    module, colon, attribute = spec.partition(":")
    name = module.removesuffix(".py").removeprefix("./").strip("/").replace("/", ".")
    shown = f"{name} or {name}:herd" if is_module_name(name) else "MODULE or MODULE:ATTRIBUTE, such as shop.tasks:herd"
    if not spec.strip():
        instead = "it is empty; write MODULE or MODULE:ATTRIBUTE"
    elif not module:
        instead = f"no module stands before the colon; write MODULE:{attribute or 'ATTRIBUTE'}"
    elif not is_module_name(module) or module.endswith(".py"):
        is_file = module.endswith(".py") or "/" in module
        instead = f"{'that is a file; ' if is_file else ''}write {shown}"
    elif colon and not is_module_name(attribute):
        instead = f"{'no name' if not attribute else 'no such name'} stands behind the colon; write {shown}"
    else:
        return
    raise ConfigurationError(f"{spec!r} is no app: {instead}")


def _find(spec: str) -> Herd:
    module_name, _, attribute = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except RuntimeError:
        refuse_patched()  # gevent takes away the lock under which it was imported
        raise
    except ModuleNotFoundError as error:
        if not is_absence_of(module_name, error):
            raise  # it was found, but a module that it imports was not
        raise ConfigurationError(
            f"no module {error.name!r} is importable from here: run this in the folder that holds it, or install it"
        ) from None
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
    """Make the modules of the working directory importable, as `python -m` does, even after a task has changed it."""
    _make_importable(Folder())


def _make_importable(folder: Folder) -> None:
    sys.path[:] = folder.resolve(sys.path)
    if folder.path not in sys.path:
        sys.path.insert(0, folder.path)


def _attribute(module_name: str, module: object, attribute: str) -> Herd:
    value = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            advice = f"name the variable that holds the Herd, as in {module_name}:herd"
            raise ConfigurationError(f"{module_name}:{attribute} does not exist: {advice}")
        value = getattr(value, part)
    if not isinstance(value, Herd):
        raise ConfigurationError(f"{module_name}:{attribute} is no Herd but {type(value).__name__}: name one that is")
    return value
