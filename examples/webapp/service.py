"""A web service that submits tasks and streams how far they are.

herd worker --app jobs       (in this folder, as often as you like)
uvicorn service:app          (in this folder)

curl -X POST 'localhost:8000/checksums?folder=/usr/share/doc/python3'   {"task": "task-..."}
curl -N localhost:8000/tasks/task-...                                   a line of JSON for each step, the result last
curl -X DELETE localhost:8000/tasks/task-...                            {"cancelled": true}

The service keeps nothing: a task's name is all that it takes, so it may be restarted, and run many times over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from jobs import checksum, herd
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from herdmaster import HerdError, InvalidName

LOOK_SECONDS = 1.0


async def submit(request: Request) -> JSONResponse:
    folder = Path(request.query_params.get("folder", ""))
    if not folder.is_absolute():
        return JSONResponse({"error": "?folder= takes an absolute path"}, 400)
    # The same folder again is the same task, as long as it or its outcome is there.
    future = await checksum.options(key=f"checksum {folder}", outcome_ttl=3600).submit_async(folder)
    return JSONResponse({"task": future.name}, 202)


async def follow(request: Request) -> StreamingResponse | JSONResponse:
    try:
        herd.future(request.path_params["name"])
    except InvalidName as error:
        return JSONResponse({"error": str(error)}, 400)
    return StreamingResponse(steps(request.path_params["name"]), media_type="application/x-ndjson")


async def steps(name: str) -> AsyncIterator[str]:
    future = herd.future(name)
    while not future.done():
        seen = await herd.find_async(name)
        if seen is not None and seen.progress is not None:
            yield line(done=seen.progress.done, total=seen.progress.total, note=seen.progress.note)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await asyncio.shield(asyncio.wrap_future(future))
    error = future.exception()
    yield line(result=future.result()) if error is None else line(error=str(error))


def line(**content: object) -> str:
    return json.dumps(content) + "\n"


async def cancel(request: Request) -> JSONResponse:
    try:
        future = herd.future(request.path_params["name"])
        return JSONResponse({"cancelled": await future.cancel_async()})
    except HerdError as error:
        return JSONResponse({"error": str(error)}, 400)


app = Starlette(
    routes=[
        Route("/checksums", submit, methods=["POST"]),
        Route("/tasks/{name}", follow),
        Route("/tasks/{name}", cancel, methods=["DELETE"]),
    ]
)
