"""Replace functions of asyncio for one module; the loops of other threads go on with theirs."""

from __future__ import annotations

import asyncio
from types import ModuleType, SimpleNamespace

import pytest


def replace_asyncio(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **replaced: object) -> None:
    """Roles that fixtures of the session keep running in threads would be ended by a `sleep` which raises."""
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(**{**vars(asyncio), **replaced}))
