"""The errors of Herdmaster.

HerdError                            everything below
└── zookeeper.errors.ZooKeeperError  the coordination layer (drawn there)
"""

from __future__ import annotations


class HerdError(Exception):
    """Base of every error that Herdmaster raises by itself."""
