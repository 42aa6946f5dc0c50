"""Reads the Python files below a folder, one step each, and writes a report of their functions.

herd worker --app etl           (in this folder, as often as you like)
python -m etl FOLDER REPORT     (in this folder)
"""

import ast
import sys
from pathlib import Path

from herdmaster import Herd

herd = Herd()  # $HERD_ZOOKEEPER, else 127.0.0.1:2181


@herd.task
def find(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).rglob("*.py"))


@herd.task(pool="process", max_attempts=3, backoff=0.1, memory_limit="300MB")
def parse(path: str) -> dict[str, int]:
    nodes = ast.walk(ast.parse(Path(path).read_bytes()))
    return {f"{path}:{node.lineno} {node.name}": len(node.body) for node in nodes if isinstance(node, ast.FunctionDef)}


@herd.task
def report(found: list[dict[str, int]], target: str) -> int:
    longest = sorted(((size, name) for each in found for name, size in each.items()), reverse=True)
    Path(target).write_text("".join(f"{size:5} {name}\n" for size, name in longest))
    return len(longest)


if __name__ == "__main__":
    with herd.flow("etl", timeout=3600) as flow:
        parsed = flow.each(parse, find.step(sys.argv[1]))
        flow.returns(report.step(parsed, sys.argv[2]))
    run = flow.submit()
    print(run.name, f"{run.result():,} functions in {sys.argv[2]}", flush=True)
