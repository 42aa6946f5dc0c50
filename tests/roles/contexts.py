"""Functions and hooks that look at a context variable and change it, in whatever pool they run."""

from __future__ import annotations

from contextvars import ContextVar

from herdmaster.core.options import PoolKind, RunOptions
from herdmaster.running.hooks import Hooks
from herdmaster.running.registration import Function, Registration

APP = "tests.roles.contexts:application"

user: ContextVar[str] = ContextVar("user", default="nothing")
"""Set at the start of the worker, and by the import in a process."""

seen: list[str] = []
"""By the hooks of this process."""


def look(name: str) -> str:
    before = user.get()
    user.set(name)
    return f"{before}, then {user.get()}"


async def look_async(name: str) -> str:
    return look(name)


def before_task(_task: object) -> None:
    user.set(f"{user.get()} hooked")


def after_task(_task: object, _result: object) -> None:
    seen.append(user.get())


hooks = Hooks(before_task=before_task, after_task=after_task)


def functions(pool: PoolKind) -> dict[str, Function | Registration]:
    if pool is PoolKind.ASYNCIO:
        return {"m:look": look_async}
    return {"m:look": Registration(look, RunOptions(pool=pool))}


class Application:
    hooks = hooks

    @property
    def functions(self) -> dict[str, Function | Registration]:
        user.set("start")
        return functions(PoolKind.PROCESS)


application = Application()
