"""`HerdClosed`, the error of every call after the end of a Herd."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from herdmaster.zookeeper.errors import ClientClosed


class HerdClosed(ClientClosed, BrokenExecutor):
    """The Herd was closed. (BrokenExecutor, also a RuntimeError, is what the standard library's executors raise.)"""
