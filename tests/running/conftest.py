"""The stage of the roles' tests, for the code that runs inside a worker."""

from tests.roles.conftest import stage, zk

__all__ = ["stage", "zk"]
