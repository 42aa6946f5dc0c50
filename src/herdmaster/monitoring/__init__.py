"""Metrics, health and scaling over HTTP; needs `herdmaster[monitoring]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from herdmaster.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from herdmaster.api import Herd

__all__ = ["app"]

_NOT_INSTALLED: Final = "monitoring.app needs packages that are not installed: pip install 'herdmaster[monitoring]'"


def app(herd: Herd) -> Starlette:
    """Return an ASGI application that monitors a Herd, for the server of the program that uses it.

    It answers `/metrics`, `/livez`, `/readyz` and `/scale`, and starts no server. `/readyz` opens the Herd's session if
    there is none. Make it before the Herd is used: requests of a session that is open already are not measured. A
    second application of one Herd has the same metrics.

    Raises ConfigurationError if the packages that it needs are not installed.
    """
    try:
        from herdmaster.monitoring.herd_app import make_app_of  # noqa: PLC0415 - it needs packages of an extra
    except ImportError:
        raise ConfigurationError(_NOT_INSTALLED) from None
    return make_app_of(herd)
