"""The HTTP side of monitoring: `/metrics`, `/livez`, `/readyz` and `/scale`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from herdmaster.errors import HerdError
from herdmaster.monitoring.metrics import Metrics
from herdmaster.zookeeper import errors


class Monitored(Protocol):
    """What monitoring asks of a process. `not_ready` is a sentence that says what is missing, None if nothing is.
    `slots_wanted` counts the slots that the tasks of a queue, or of all, could use now."""

    def not_ready(self) -> str | None: ...

    async def slots_wanted(self, queue: str | None, /) -> int: ...


class _Endpoints:
    def __init__(self, monitored: Monitored, metrics: Metrics) -> None:
        self._monitored = monitored
        self._metrics = metrics

    async def metrics(self, request: Request) -> Response:
        text, content_type = self._metrics.render(request.headers.get("accept"))
        return Response(text, headers={"content-type": content_type})

    async def live(self, _request: Request) -> Response:
        """The answer shows that the event loop turns. It never depends on ZooKeeper: a restart would mend nothing."""
        return PlainTextResponse("ok\n")

    async def ready(self, _request: Request) -> Response:
        missing = self._monitored.not_ready()
        return PlainTextResponse("ok\n") if missing is None else PlainTextResponse(f"{missing}\n", 503)

    async def scale(self, request: Request) -> Response:
        queue = request.query_params.get("queue")
        try:
            wanted = await self._monitored.slots_wanted(queue)
        except (HerdError, errors.ZooKeeperError, TimeoutError) as error:
            return JSONResponse({"queue": queue, "error": str(error)}, 503)
        return JSONResponse({"queue": queue, "slots_wanted": wanted})


def make_app(monitored: Monitored, metrics: Metrics) -> Starlette:
    """Return the ASGI application."""
    endpoints = _Endpoints(monitored, metrics)
    routes: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/metrics": endpoints.metrics,
        "/livez": endpoints.live,
        "/readyz": endpoints.ready,
        "/scale": endpoints.scale,
    }
    return Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])
