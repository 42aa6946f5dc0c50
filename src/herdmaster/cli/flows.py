"""`herd flows`: list flows, show and draw one, wait for, cancel, retry and remove flows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

import click

from herdmaster.cli.failures import Failed
from herdmaster.cli.flow_removal import attempt, look_for_removal
from herdmaster.cli.flow_tree import brief, step_facts, styled, tree_lines
from herdmaster.cli.groups import ListingGroup
from herdmaster.cli.options import C, Choosing, Duration, json_option
from herdmaster.cli.printing import say, say_json, say_lines
from herdmaster.cli.session import Session, session_options
from herdmaster.cli.task_options import confirm

if TYPE_CHECKING:
    from herdmaster.inspection.flow_seen import StepInfo
    from herdmaster.inspection.flows import FlowDetails, FlowInfo
    from herdmaster.zookeeper.client import Client

T = TypeVar("T")

_STATES: Final = ("building", "running", "done", "failed", "cancelled", "expired")
_WATCH_SECONDS: Final = 2.0
_NOT_DONE: Final = 1


@click.group(cls=ListingGroup)
def flows() -> None:
    """List, show, draw, await, cancel, retry and remove flows. Without a command: list.

    FLOW is the name of a flow, or its beginning if no other flow has it, with or without `flow-`.
    """


# --- list, show and tree ---------------------------------------------------------------------------------------------


@flows.command("list")
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="Only this state; may be repeated.")
@click.option("--name", metavar="NAME", help="Only flows of this definition.")
@click.option(
    "--limit", type=click.IntRange(0), default=1000, show_default=True, metavar="N", help="At most N flows; 0: all."
)
@json_option
@session_options(positional=True)
def list_(*, states: tuple[str, ...], name: str | None, limit: int, as_json: bool, session: Session) -> None:
    """List flows, oldest first, with the states of their steps.

    The columns count steps. A step is PENDING while no worker has its task, and RUNNING while one has.
    """
    import msgspec

    from herdmaster.core.flows import FlowState
    from herdmaster.inspection.flows import FlowFilter, list_flows

    only = FlowFilter(frozenset(map(FlowState, states)), name)
    found = session.run(lambda client: list_flows(client, only, limit + 1 if limit else 0))
    now = _now_ms()
    there_are_more = 0 < limit < len(found)
    found = found[:limit] if limit else found
    if found and not as_json:
        heads = " ".join(f"{head:>7}" for head in ("DONE", "RUNNING", "PENDING", "WAITING", "FAILED", "BLOCKED"))
        say(click.style(f"{'STATE':<10} {'AGE':>5} {'ENDED':>5} {heads}  {'FLOW':<31}  NAME", bold=True))
    for info in found:
        say_json(msgspec.json.encode(info)) if as_json else say(_row(info, now))
    if not found and not as_json:
        click.echo("no flows", err=True)
    if there_are_more:
        click.echo(f"there are more than {limit} flows: --limit 0 lists all, --state and --name choose", err=True)


def _row(info: FlowInfo, now: int) -> str:
    from herdmaster.cli.tasks import age

    ended = "-" if info.ended is None else age(info.ended, now)
    numbers = (info.done, info.running, info.pending, info.waiting, info.failed, info.blocked)
    counts = " ".join(f"{number:>7}" for number in numbers)
    rest = "  ".join(filter(None, (
        info.name,
        "cancelling" if info.is_cancelling else "",
        f"{info.retries} retries" if info.retries > 1 else "1 retry" if info.retries else "",
        click.style(info.problem, fg="red") if info.problem else "",
    )))  # fmt: skip
    return f"{styled(info.state)} {age(info.created, now):>5} {ended:>5} {counts}  {info.id:<31}  {rest}".rstrip()


def _flow_argument(command: C) -> C:
    return click.argument("flow")(command)


@flows.command
@_flow_argument
@click.option("--watch", is_flag=True, help="Show it anew every two seconds, until the flow has ended or Ctrl-C.")
@json_option
@session_options()
def show(*, flow: str, watch: bool, as_json: bool, session: Session) -> None:
    """Show a flow and all its steps. The items of an `each` are one line with their numbers."""
    import msgspec

    def print_details(details: FlowDetails) -> None:
        if as_json:
            say_json(msgspec.json.encode(details))
            return
        now = _now_ms()
        for field, text in _head(details, now):
            say(f"{click.style(f'{field:<9}', bold=True)}  {text}")
        for step in details.steps:
            for line in _step_lines(step, now):
                say(line)

    _watch(flow, session, print_details, watch=watch, clears=not as_json)


@flows.command
@_flow_argument
@click.option("--watch", is_flag=True, help="Draw it anew every two seconds, until the flow has ended or Ctrl-C.")
@click.option("--dot", is_flag=True, help="Print it for Graphviz: `herd flows tree FLOW --dot | dot -Tpng`.")
@click.option("--svg", is_flag=True, help="Print it as an SVG picture.")
@session_options()
def tree(*, flow: str, watch: bool, dot: bool, svg: bool, session: Session) -> None:
    """Draw the graph of a flow, with the state of each step.

    Each step stands below the last of its parents, with what it waits for. Many steps that are alike are one line.
    """
    from herdmaster.inspection.flow_pictures import to_dot, to_svg

    if dot and svg:
        raise click.UsageError("give --dot or --svg, not both")
    picture = to_dot if dot else to_svg if svg else None

    def draw(details: FlowDetails) -> None:
        if picture is not None:
            say_lines(picture(details.steps, details.info.name).rstrip("\n"))
            return
        now = _now_ms()
        say(_title(details, now))
        for line in tree_lines(details.steps, now):
            say(line)

    _watch(flow, session, draw, watch=watch, clears=picture is None)


def _watch(
    flow: str, session: Session, print_details: Callable[[FlowDetails], None], *, watch: bool, clears: bool
) -> None:
    """Print the flow once, or until it has ended. Raises NoSuchFlow."""
    from herdmaster.inspection.flows import UNENDED, NoSuchFlow, find_flow, resolve_flow

    async def look(client: Client) -> FlowDetails:
        name = await resolve_flow(client, flow)
        found = await find_flow(client, name)
        if found is None:
            raise NoSuchFlow(flow)
        return found

    async def work(client: Client) -> None:
        import asyncio

        while True:
            details = await look(client)
            if watch and clears:
                click.clear()  # on a terminal only
            print_details(details)
            if not watch or details.info.state not in UNENDED:
                return
            await asyncio.sleep(_WATCH_SECONDS)

    with contextlib.suppress(KeyboardInterrupt) if watch else contextlib.nullcontext():
        session.run(work)


def _title(details: FlowDetails, now: int) -> str:
    from herdmaster.cli.tasks import age

    info = details.info
    ended = f", ended {age(info.ended, now)} ago" if info.ended is not None else ""
    return f"{info.name}  {styled(info.state, 0)}  {info.id}, {age(info.created, now)} old{ended}  ({_counts(info)})"


def _counts(info: FlowInfo) -> str:
    counts = (
        ("done", info.done), ("running", info.running), ("pending", info.pending), ("waiting", info.waiting),
        ("failed", info.failed), ("blocked", info.blocked),
    )  # fmt: skip
    return ", ".join(f"{count:,} {state}" for state, count in counts if count) or "no steps"


def _head(details: FlowDetails, now: int) -> Iterator[tuple[str, str]]:
    from herdmaster.cli.schedules import duration
    from herdmaster.cli.tasks import age

    info = details.info
    yield "flow", info.id
    yield "name", info.name
    yield (
        "state",
        styled(info.state, 0) + (", a request to cancel it is not carried out yet" if info.is_cancelling else ""),
    )
    yield "created", f"{age(info.created, now)} ago"
    if info.ended is not None:
        yield "ended", f"{age(info.ended, now)} ago"
    yield "steps", _counts(info)
    for field, text in (("key", info.key), ("parent", info.parent), ("problem", info.problem)):
        if text:
            yield field, text
    if details.timeout is not None:
        yield "timeout", duration(round(details.timeout * 1000))
    if details.on_failure != "finish":
        yield "policy", "stops at the first failure"
    if info.retries:
        yield "retries", str(info.retries)
    if info.error is not None:
        yield "error", brief(info.error)


def _step_lines(step: StepInfo, now: int) -> Iterator[str]:
    from herdmaster.cli.flow_tree import few
    from herdmaster.inspection.flow_seen import describe_counts

    facts: list[str] = []
    if step.when:
        facts.append("(on failure)" if step.when == "failure" else "(optional)")
    if step.items:
        facts.append(describe_counts(step.items, step.chunked))
    facts += step_facts(step, now)
    if step.waits_for:
        facts.append(f"waits for {few(step.waits_for)}")
    if step.task is not None:
        facts.append(step.task)
    yield f"  {step.id:<6} {styled(step.state)} {step.name:<24}  {'  '.join(facts)}".rstrip()
    errors = ({step.id: step.error} if step.error is not None else {}) | step.errors
    for ident, error in errors.items():
        prefix = f"{ident}: " if ident != step.id else ""
        yield f"         {click.style(f'{prefix}{brief(error)}', fg='red')}"


# --- wait, cancel, retry, remove -------------------------------------------------------------------------------------


def _timeout_option(help_text: str, default: float | None) -> Callable[[C], C]:
    shown = "" if default is None else f"{default:g}s"
    return click.option(
        "--timeout", type=Duration(), metavar="TIME", default=default, show_default=shown or False, help=help_text
    )


def _report(flow: str, text: str, *, as_json: bool, **fields: object) -> None:
    import msgspec

    if as_json:
        say_json(msgspec.json.encode({"flow": flow, **fields}))
    else:
        say(f"{flow}: {text}")


@flows.command
@click.argument("flow", nargs=-1, required=True)
@_timeout_option("Wait for the primary for at most this time.", 5.0)
@json_option
@session_options(log_level="error")
def cancel(*, flow: tuple[str, ...], timeout: float, as_json: bool, session: Session) -> None:
    """Cancel flows. Exits with 1 unless all ended as cancelled.

    No step starts any more, and running steps are cancelled. What is done stays. `herd flows retry` lets a cancelled
    flow go on.
    """
    from herdmaster.core.flows import FlowState
    from herdmaster.inspection.flows import resolve_flows
    from herdmaster.operations.flows import cancel_flow, wait_for_end

    async def work(client: Client) -> list[tuple[str, FlowState | None]]:
        names = await resolve_flows(client, flow)
        for name in names:
            await cancel_flow(client, name)
        return [(name, await wait_for_end(client, name, timeout)) for name in names]

    ends = session.run(work)
    for name, state in ends:
        text = "no primary has answered yet; the request stands" if state is None else f"{state.value}"
        _report(name, text, as_json=as_json, state=state)
    if any(state is not FlowState.CANCELLED for _, state in ends):
        click.get_current_context().exit(_NOT_DONE)


@flows.command
@click.argument("flow", nargs=-1, required=True)
@_timeout_option("Wait for at most this time, such as 5m.", None)
@json_option
@session_options(log_level="error")
def wait(*, flow: tuple[str, ...], timeout: float | None, as_json: bool, session: Session) -> None:
    """Wait until the flows have ended, and print how each one did. Exits with 1 unless all are done."""
    import asyncio

    from herdmaster.core.flows import FlowState
    from herdmaster.inspection.flows import resolve_flows
    from herdmaster.operations.flows import wait_for_end

    async def work(client: Client) -> list[FlowState | None]:
        names = await resolve_flows(client, flow)
        waits = [asyncio.ensure_future(wait_for_end(client, name, timeout)) for name in names]
        for name, waiting in zip(names, waits, strict=True):
            state = await waiting
            text = f"has not ended within {timeout:g} s and goes on" if state is None else state.value
            _report(name, text, as_json=as_json, state=state)
        return [each.result() for each in waits]

    if any(state is not FlowState.DONE for state in session.run(work)):
        click.get_current_context().exit(_NOT_DONE)


@flows.command
@_flow_argument
@click.option(
    "--from", "steps", type=Choosing(), multiple=True, metavar="STEP",
    help="Only this step, by id or name; may be repeated.",
)  # fmt: skip
@click.option("--wait", is_flag=True, help="Wait until the flow has ended. Exits with 1 unless it is done then.")
@_timeout_option("With --wait: wait for at most this time, such as 5m.", None)
@json_option
@session_options(log_level="error")
def retry(
    *, flow: str, steps: tuple[str, ...], wait: bool, timeout: float | None, as_json: bool, session: Session
) -> None:
    """Run the steps of FLOW that failed again, and then what follows. Results that are there are used.

    FLOW may run or have ended. A flow that was cancelled or has expired goes on where it stopped. Exits with 1 if
    nothing is to be retried.
    """
    from herdmaster.core.flows import FlowState
    from herdmaster.inspection.flows import resolve_flow
    from herdmaster.operations.flows import retry_flow, wait_for_end

    async def work(client: Client) -> tuple[str, int, FlowState | None]:
        name = await resolve_flow(client, flow)
        count = await retry_flow(client, name, steps)
        return name, count, await wait_for_end(client, name, timeout) if wait else None

    name, count, state = session.run(work)
    text = "1 step runs again" if count == 1 else f"{count:,} steps run again" if count else "goes on"
    ended = "" if not wait else f"; {state.value}" if state is not None else f"; has not ended within {timeout:g} s"
    _report(name, f"{text}{ended}", as_json=as_json, steps=count, **({"state": state} if wait else {}))
    if wait and state is not FlowState.DONE:
        click.get_current_context().exit(_NOT_DONE)


@flows.command
@click.argument("flow", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Cancel flows that have not ended, and remove them then.")
@_timeout_option("With --force: wait for the primary for at most this time.", 30.0)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@session_options(log_level="error")
def remove(*, flow: tuple[str, ...], force: bool, timeout: float, yes: bool, as_json: bool, session: Session) -> None:
    """Delete flows that have ended, with all their results. Asks on a terminal. Exits with 1 if one is not removed."""
    from herdmaster.core.printable import printable
    from herdmaster.errors import HerdError
    from herdmaster.operations.flows import remove_flow

    found = session.run(lambda client: look_for_removal(client, flow, is_forced=force))
    names = [name for name, end in found.items() if end is None]
    if names:
        shown = printable(names[0]) if len(names) == 1 else f"{len(names)} flows"
        confirm(f"Remove {shown} with all results?", is_confirmed=yes, otherwise=f"{shown} would be removed")

    async def work(client: Client) -> list[HerdError | None]:
        within = timeout if force else None
        return [await attempt(remove_flow(client, name, force_within=within)) for name in names]

    removed = {**found, **dict(zip(names, session.run(work) if names else [], strict=True))}
    for name, error in removed.items():
        _report(name, "removed" if error is None else str(error), as_json=as_json, removed=error is None)
    if any(error is not None for error in removed.values()):
        raise Failed("not all of these flows were removed: see above")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
