"""Replace functions of asyncio for one module in one thread; roles in other threads go on with theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


def replace_asyncio(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **replaced: Callable[..., Any]) -> None:
    """Roles that fixtures of the session keep running in threads would be ended by a `sleep` which raises."""
    ours = threading.current_thread()

    def choose(name: str) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            function = replaced[name] if threading.current_thread() is ours else getattr(asyncio, name)
            return function(*args, **options)

        return called

    monkeypatch.setattr(
        module, "asyncio", SimpleNamespace(**{**vars(asyncio), **{name: choose(name) for name in replaced}})
    )
