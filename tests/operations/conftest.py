"""The stage of the roles' tests, for what people do to their tasks."""

from tests.roles.conftest import stage, zk

__all__ = ["stage", "zk"]
