"""What is broken, a function each. A scenario ends when everything works again; what came of it is not its business."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import msgspec

from chaos.disk import NoSmallDisk, small_disk
from chaos.links import LinkState
from chaos.schedules import declared
from chaos.stage import Skipped, Stage

Play = Callable[[Stage], None]


class Scenario(msgspec.Struct, frozen=True):
    name: str
    summary: str
    play: Play
    is_long: bool = False  # left out of the short form
    resumes_soon: bool = False  # tasks end again within half a session timeout and RESUME_SECONDS


SCENARIOS: Final[list[Scenario]] = []


def scenario(summary: str, *, is_long: bool = False, resumes_soon: bool = False) -> Callable[[Play], Play]:
    def register(play: Play) -> Play:
        SCENARIOS.append(Scenario(play.__name__.replace("_", "-"), summary, play, is_long, resumes_soon))
        return play

    return register


# --- servers ---------------------------------------------------------------------------------------------------------


@scenario("SIGKILL and restart of each server in turn")
def each_server_killed(stage: Stage) -> None:
    for server in stage.servers:
        stage.kill_servers(server)
        stage.wait(stage.pause)
        stage.start_servers(server)


@scenario("SIGKILL and restart of the leader")
def leader_killed(stage: Stage) -> None:
    leader = stage.leader()
    stage.kill_servers(leader)
    stage.outlast_sessions()
    stage.start_servers(leader)


@scenario("SIGKILL and restart of all servers at once")
def all_servers_killed(stage: Stage) -> None:
    stage.kill_servers(*stage.servers)
    stage.wait(stage.pause)
    stage.start_servers(*stage.servers)


@scenario("two of three servers down for longer than the session timeout", resumes_soon=True)
def quorum_lost(stage: Stage) -> None:
    down = (stage.leader(), stage.followers()[0])
    stage.kill_servers(*down)
    stage.outlast_sessions()
    stage.start_servers(*down)


@scenario("SIGSTOP of a follower for longer than the session timeout", is_long=True)
def follower_stopped(stage: Stage) -> None:
    stage.stop_server_past_sessions(stage.followers()[0])


@scenario("SIGSTOP of the leader for longer than the session timeout")
def leader_stopped(stage: Stage) -> None:
    stage.stop_server_past_sessions(stage.leader())


@scenario("no space left on one server's disk")
def disk_full(stage: Stage) -> None:
    server = stage.followers()[0]
    server.kill()
    try:
        with small_disk(server.data_dir) as disk:
            try:
                stage.start_servers(server)
                stage.wait(stage.pause)
                disk.fill()
                stage.say(f"the disk of {stage.server_name(server)} is full")
                stage.outlast_sessions()
            finally:
                server.kill()
    except NoSmallDisk as reason:
        stage.start_servers(server)
        raise Skipped(f"a tmpfs cannot be mounted here: {reason}") from None
    stage.say("there is room again")
    stage.start_servers(server)


# --- processes that stop and go on -----------------------------------------------------------------------------------


@scenario("SIGSTOP of the primary for longer than the session timeout")
def primary_stopped(stage: Stage) -> None:
    stage.stop_past_sessions(stage.cast.primary())


@scenario("SIGSTOP of both masters for longer than the session timeout", is_long=True)
def masters_stopped(stage: Stage) -> None:
    stage.stop_past_sessions(*stage.cast.masters)


@scenario("SIGSTOP of two workers for longer than the session timeout")
def workers_stopped(stage: Stage) -> None:
    stage.stop_past_sessions(*stage.cast.workers[:2])


@scenario("SIGSTOP of a client for longer than the session timeout", is_long=True)
def client_stopped(stage: Stage) -> None:
    stage.stop_past_sessions(stage.clients[0])


# --- partitions ------------------------------------------------------------------------------------------------------


@scenario("the primary is cut off from the ensemble, half-open")
def primary_cut_off(stage: Stage) -> None:
    stage.cut_off(LinkState.SILENT, stage.cast.primary())


@scenario("a worker is cut off from the ensemble, half-open")
def worker_cut_off(stage: Stage) -> None:
    stage.cut_off(LinkState.SILENT, stage.cast.workers[0])


@scenario("a client is cut off from the ensemble, half-open", is_long=True)
def client_cut_off(stage: Stage) -> None:
    stage.cut_off(LinkState.SILENT, stage.clients[0])


@scenario("the primary, a worker and a client: requests arrive, replies do not", is_long=True)
def roles_deaf(stage: Stage) -> None:
    stage.cut_off(LinkState.DEAF, stage.cast.primary(), stage.cast.workers[1], stage.clients[1])


@scenario("the primary, a worker and a client: every connection is reset", is_long=True)
def roles_reset(stage: Stage) -> None:
    stage.cut_off(LinkState.RESETTING, stage.cast.primary(), stage.cast.workers[2], stage.clients[2])


@scenario("the primary, a worker and a client: half-open to the one server that each is connected to")
def one_server_silent(stage: Stage) -> None:
    actors = (stage.cast.primary(), stage.cast.workers[3], stage.clients[0])
    stage.cut_off_from_one_server(LinkState.SILENT, *actors)


@scenario("the primary, a worker and a client: reset by the one server that each is connected to", is_long=True)
def one_server_resets(stage: Stage) -> None:
    actors = (stage.cast.primary(), stage.cast.workers[0], stage.clients[1])
    stage.cut_off_from_one_server(LinkState.RESETTING, *actors)


@scenario("a follower hears nothing of the leader, and the leader nothing of it", is_long=True)
def follower_cut_off(stage: Stage) -> None:
    stage.cut_off_server(stage.followers()[0])


@scenario("the leader hears nothing of its followers, while clients still reach it", is_long=True, resumes_soon=True)
def leader_cut_off(stage: Stage) -> None:
    stage.cut_off_server(stage.leader())


# --- kills -----------------------------------------------------------------------------------------------------------


@scenario("SIGKILL of the primary")
def primary_killed(stage: Stage) -> None:
    stage.kill_and_start_again(stage.cast.primary())


@scenario("SIGKILL of a worker")
def worker_killed(stage: Stage) -> None:
    stage.kill_and_start_again(stage.cast.workers[0])


@scenario("SIGKILL of a client; its successor attaches by name")
def client_killed(stage: Stage) -> None:
    stage.replace_client(stage.clients[0])


@scenario("SIGKILL of all masters and workers at once", is_long=True)
def roles_killed(stage: Stage) -> None:
    stage.kill_and_start_again(*stage.cast.roles)


# --- schedules -------------------------------------------------------------------------------------------------------


@scenario("a dozen schedules of a second, while the primary is killed, stopped and cut off, and the leader is killed")
def schedules(stage: Stage) -> None:
    with declared(stage.cast, stage.historian.last_zxid):
        stage.wait(stage.pause)
        stage.kill_and_start_again(stage.cast.primary())
        stage.stop_past_sessions(stage.cast.primary())
        stage.cut_off(LinkState.DEAF, stage.cast.primary())
        leader = stage.leader()
        stage.kill_servers(leader)
        stage.outlast_sessions()
        stage.start_servers(leader)
        stage.cast.wait_whole()
        stage.outlast_sessions()


# --- what an operator does -------------------------------------------------------------------------------------------


@scenario("SIGTERM and restart of each master, worker and server in turn", is_long=True)
def rolling_restart(stage: Stage) -> None:
    for actor in stage.cast.roles:
        stage.restart(actor)
    for server in (*stage.followers(), stage.leader()):
        stage.restart_server(server)


# --- many ------------------------------------------------------------------------------------------------------------


@scenario("a dozen faults after each other, drawn from the seed", is_long=True)
def storm(stage: Stage) -> None:
    rng = random.Random(stage.seed)
    for _ in range(12):
        _gust(stage, rng)
        stage.wait(rng.uniform(0.0, stage.pause))


def _gust(stage: Stage, rng: random.Random) -> None:
    actor = rng.choice([*stage.cast.roles, *stage.clients])
    server = rng.choice(stage.servers)
    match rng.choice(("link", "one link", "process", "server")):
        case "link":
            state = rng.choice((LinkState.SILENT, LinkState.DEAF, LinkState.RESETTING))
            stage.say(f"{actor.name}: its links are {state.value}")
            actor.route.cut(state)
            stage.wait(rng.uniform(0.0, 2 * stage.pause))
            actor.route.mend()
        case "one link":
            actor.route.cut_used(LinkState.SILENT)
            stage.say(f"{actor.name}: its link to one server is silent")
            stage.wait(rng.uniform(0.0, 2 * stage.pause))
            actor.route.mend()
        case "process":
            stage.say(f"SIGSTOP to {actor.name}")
            actor.stop()
            stage.wait(rng.uniform(0.0, 3 * stage.pause))
            actor.go_on()
        case _:
            stage.kill_servers(server)
            stage.wait(rng.uniform(0.0, stage.pause))
            stage.start_servers(server)
