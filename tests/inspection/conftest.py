"""The stage of the roles' tests, for looks at what they leave."""

from tests.roles.conftest import stage, zk

__all__ = ["stage", "zk"]
