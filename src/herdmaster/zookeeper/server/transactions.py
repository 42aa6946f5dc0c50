"""The checks of every write, in ZooKeeper's order, and the effect of a write that passes them.

A view answers for the tree as it will be: the tree itself for a single request, a `Draft` for the operations of a
multi, each of which sees the effects of those before it.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from herdmaster.zookeeper import paths
from herdmaster.zookeeper.errors import (
    BadArguments,
    BadVersion,
    MarshallingError,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
    Unimplemented,
)
from herdmaster.zookeeper.model import Acl, CreateMode, Id
from herdmaster.zookeeper.server import acls
from herdmaster.zookeeper.server.effects import AclSet, DataSet, NodeCreated, NodeDeleted, NodeEffect
from herdmaster.zookeeper.server.settings import Settings
from herdmaster.zookeeper.server.tree import SPECIAL_PATHS, Tree, parent_key, wrap32
from herdmaster.zookeeper.wire.multi import WriteOperation
from herdmaster.zookeeper.wire.records import (
    Check,
    Create,
    Create2,
    CreateContainer,
    CreateTtl,
    Delete,
    SetAcl,
    SetData,
)

_MAX_TTL: Final = 0xFFFFFFFFFF
_TTL_MODES: Final = (CreateMode.PERSISTENT_TTL, CreateMode.PERSISTENT_SEQUENTIAL_TTL)

AnyCreate = Create | Create2 | CreateContainer | CreateTtl


class Facts(Protocol):
    """What the checks need to know of a znode."""

    @property
    def acl(self) -> tuple[Acl, ...]: ...
    @property
    def session_id(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def aversion(self) -> int: ...
    @property
    def created(self) -> int: ...
    @property
    def num_children(self) -> int: ...


class View(Protocol):
    def find(self, path: str) -> Facts | None: ...


class Actor(msgspec.Struct):
    """The client that asks. `identities` begins with the ip of the connection."""

    session_id: int
    identities: list[Id]


class Rules(msgspec.Struct, frozen=True):
    """What the settings of the server allow: times to live, and identities of these schemes in ACLs."""

    ttl_allowed: bool = True
    schemes: frozenset[str] = Settings().schemes


class Shadow(msgspec.Struct, gc=False):
    """A znode as the operations of a multi leave it."""

    acl: tuple[Acl, ...]
    session_id: int
    version: int
    aversion: int
    created: int
    num_children: int


class Draft:
    """The effects of the operations of a multi so far, over a tree that stays as it is until all have passed."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._shadows: dict[str, Shadow | None] = {}

    def find(self, path: str) -> Facts | None:
        key = path or "/"
        return self._shadows[key] if key in self._shadows else self._tree.find(path)

    def note(self, effect: NodeEffect) -> None:
        path = effect.path
        if isinstance(effect, NodeCreated):
            parent = self._shadow(parent_key(path))
            parent.created = wrap32(parent.created + 1)
            parent.num_children += 1
            self._shadows[path] = Shadow(effect.acl, effect.session_id, 0, 0, 0, 0)
        elif isinstance(effect, NodeDeleted):
            self._shadow(parent_key(path)).num_children -= 1
            self._shadows[path] = None
        elif isinstance(effect, DataSet):
            node = self._shadow(path)
            node.version = wrap32(node.version + 1)

    def _shadow(self, path: str) -> Shadow:
        key = path or "/"
        shadow = self._shadows.get(key)
        if shadow is None:
            node = _require(self._tree, key)
            shadow = Shadow(node.acl, node.session_id, node.version, node.aversion, node.created, node.num_children)
            self._shadows[key] = shadow
        return shadow


def prepare(
    view: View, request: WriteOperation | SetAcl, actor: Actor, rules: Rules, *, in_multi: bool = False
) -> NodeEffect | None:
    """Check a request, and return its effect; None for a check.

    Raises the ServerError that the client gets; MarshallingError concerns the whole multi.
    """
    if isinstance(request, Create | Create2 | CreateContainer | CreateTtl):
        return _prepare_create(view, request, actor, rules, in_multi)
    if isinstance(request, SetData):
        return _prepare_set_data(view, request, actor)
    if isinstance(request, Delete):
        return _prepare_delete(view, request, actor)
    if isinstance(request, SetAcl):
        return _prepare_set_acl(view, request, actor, rules)
    _check(view, request, actor)
    return None


def _prepare_create(view: View, request: AnyCreate, actor: Actor, rules: Rules, in_multi: bool) -> NodeCreated:
    mode, ttl = _mode_of(request, rules.ttl_allowed, in_multi)
    path = request.path
    if "/" not in path or "\0" in path:
        raise BadArguments(path)
    acl = acls.resolve(request.acl, actor.identities, path, rules.schemes)
    parent = _require(view, parent_key(path))
    acls.require(parent.acl, acls.CREATE, actor.identities, path)
    if mode.is_sequential:
        path = f"{path}{parent.created:010d}"
    _validate(path)
    if view.find(path) is not None:
        raise NodeExists(path)
    if parent.session_id:
        raise NoChildrenForEphemerals(path)
    # Outside a multi the opcode alone makes a container (flags 4 in a plain create are ignored), inside one the flags.
    container = mode is CreateMode.CONTAINER if in_multi else isinstance(request, CreateContainer)
    owner = actor.session_id if mode.is_ephemeral and not container else 0
    return NodeCreated(path, request.data, acl, owner, ttl, container)


def _mode_of(request: AnyCreate, ttl_allowed: bool, in_multi: bool) -> tuple[CreateMode, int]:
    try:
        mode = CreateMode(request.flags)
    except ValueError:
        raise BadArguments(request.path) from None
    has_ttl = mode in _TTL_MODES
    if in_multi and has_ttl and not isinstance(request, CreateTtl):
        # ZooKeeper takes the flags for the type there, and cannot read the rest of the operation.
        raise MarshallingError(request.path)
    if has_ttl and not ttl_allowed:
        raise Unimplemented(request.path)
    if not isinstance(request, CreateTtl):
        if has_ttl:
            raise BadArguments(request.path)
        return mode, 0
    # A real server mishandles a time to live with flags that have none: it is refused here before anything happens.
    if not has_ttl or not 1 <= request.ttl <= _MAX_TTL:
        raise BadArguments(request.path)
    return mode, request.ttl


def _prepare_delete(view: View, request: Delete, actor: Actor) -> NodeDeleted:
    path = request.path
    if "/" not in path or "\0" in path or path in SPECIAL_PATHS:
        raise BadArguments(path)
    parent = _require(view, parent_key(path))
    acls.require(parent.acl, acls.DELETE, actor.identities, path)
    node = _require(view, path)
    _compare(request.version, node.version, path)
    if node.num_children:
        raise NotEmpty(path)
    return NodeDeleted(path)


def _prepare_set_data(view: View, request: SetData, actor: Actor) -> DataSet:
    path = request.path
    _validate(path)
    node = _require(view, path)
    acls.require(node.acl, acls.WRITE, actor.identities, path)
    _compare(request.version, node.version, path)
    return DataSet(path, request.data)


def _prepare_set_acl(view: View, request: SetAcl, actor: Actor, rules: Rules) -> AclSet:
    path = request.path
    _validate(path)
    acl = acls.resolve(request.acl, actor.identities, path, rules.schemes)
    node = _require(view, path)
    acls.require(node.acl, acls.ADMIN, actor.identities, path)
    _compare(request.version, node.aversion, path)
    return AclSet(path, acl)


def _check(view: View, request: Check, actor: Actor) -> None:
    path = request.path
    _validate(path)
    node = _require(view, path)
    acls.require(node.acl, acls.READ, actor.identities, path)
    _compare(request.version, node.version, path)


def _validate(path: str) -> None:
    if not paths.is_valid(path):
        raise BadArguments(path)


def _require(view: View, path: str) -> Facts:
    node = view.find(path)
    if node is None:
        raise NoNode(path)
    return node


def _compare(expected: int, actual: int, path: str) -> None:
    if expected not in (-1, actual):
        raise BadVersion(path)
