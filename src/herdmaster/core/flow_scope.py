"""Which folders below `/flows` a primary follows.

| folder | followed |
|---|---|
| `/flows/F` | always |
| `running`, `steps`, `results` and `failed` of F | if `running` is there, and from their creation on if that is seen |
| `/flows/F/steps/S` | with `steps`, except where S has `:`: it has no children |

So nothing is listed for a flow that is being built or has ended, and nothing has to be listed for one that was made
under the eyes of this primary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

RUNNING: Final = "running"
STEPS: Final = "steps"
RESULTS: Final = "results"
FAILED: Final = "failed"
PARTS: Final = (RUNNING, STEPS, RESULTS, FAILED)
CANCEL: Final = "cancel"
FOLLOWER_SIGN: Final = ":"

_END_OF_STEPS: Final = f"/{STEPS}"
_LEVEL_OF_FLOWS: Final = 1
_LEVEL_OF_FLOW: Final = 2
_LEVEL_OF_PART: Final = 3


class FlowScope:
    """The scope of a stream of `/flows` (`zookeeper.recipes.children.Scope`)."""

    def of_listing(self, folder: str, names: Iterable[str]) -> Iterable[str]:
        level = folder.count("/")
        if level == _LEVEL_OF_FLOWS:
            return names
        if level == _LEVEL_OF_FLOW:
            return PARTS if RUNNING in names else ()
        if level != _LEVEL_OF_PART or not folder.endswith(_END_OF_STEPS):
            return ()
        return [name for name in names if FOLLOWER_SIGN not in name]

    def of_creation(self, folder: str, name: str) -> Collection[str]:
        level = folder.count("/")
        if level == _LEVEL_OF_PART:
            return (name,) if folder.endswith(_END_OF_STEPS) and FOLLOWER_SIGN not in name else ()
        if level == _LEVEL_OF_FLOW:
            if name == RUNNING:
                return PARTS
            return (name,) if name in PARTS else ()
        return (name,) if level == _LEVEL_OF_FLOWS else ()

    def of_deletion(self, folder: str, name: str) -> Iterable[str]:
        return PARTS if name == RUNNING and folder.count("/") == _LEVEL_OF_FLOW else ()
