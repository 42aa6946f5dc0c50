"""What a scenario acts on, and the few things that it can do."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from chaos.actor import Actor
from chaos.cast import Cast
from chaos.history import Historian
from chaos.links import LinkState
from chaos.records import Accepted, Told, read_notes
from herdmaster.testing.apache import ApacheZooKeeper

Say = Callable[[str], None]

_TICK: Final = 0.1


class Skipped(Exception):
    """The machine does not allow this scenario; the message says why."""


class Stage:
    """One scenario's: `clients` submit while it is played. `historian` has been told all that was before; what it is
    told next is the judge's business. `pause` (seconds) is how long a short fault lasts.
    """

    def __init__(self, cast: Cast, clients: list[Actor], historian: Historian, say: Say, seed: int) -> None:
        self.cast = cast
        self.clients = clients
        self.successors: set[str] = set()
        self.say = say
        self.seed = seed
        self.historian = historian
        self.pause = cast.session_timeout / 2

    @property
    def servers(self) -> tuple[ApacheZooKeeper, ...]:
        return self.cast.servers

    def server_name(self, server: ApacheZooKeeper) -> str:
        return f"server {self.servers.index(server) + 1}"

    def leader(self) -> ApacheZooKeeper:
        return self.cast.ensemble.wait_for_leader()

    def followers(self) -> list[ApacheZooKeeper]:
        leader = self.leader()
        return [server for server in self.servers if server is not leader]

    def wait(self, seconds: float) -> None:
        """Lets the load go on. Raises Stuck if a role ended that was not told to."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            self.cast.check()
            time.sleep(_TICK)

    def outlast_sessions(self) -> None:
        """Waits for longer than the session timeout."""
        self.wait(self.cast.session_timeout * 1.3 + 0.5)

    # --- faults ------------------------------------------------------------------------------------------------------

    def kill_servers(self, *servers: ApacheZooKeeper) -> None:
        for server in servers:
            self.say(f"SIGKILL to {self.server_name(server)}")
            server.kill()

    def start_servers(self, *servers: ApacheZooKeeper) -> None:
        """Returns when they serve, which takes a quorum."""
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_until_serving()
            self.say(f"{self.server_name(server)} serves again")

    def stop_server_past_sessions(self, server: ApacheZooKeeper) -> None:
        self.say(f"SIGSTOP to {self.server_name(server)}")
        server.pause()
        try:
            self.outlast_sessions()
        finally:
            server.resume()
        self.say(f"SIGCONT to {self.server_name(server)}")

    def stop_past_sessions(self, *actors: Actor) -> None:
        for actor in actors:
            self.say(f"SIGSTOP to {actor.name}")
            actor.stop()
        try:
            self.outlast_sessions()
        finally:
            for actor in actors:
                actor.go_on()
        self.say("SIGCONT")

    def kill_and_start_again(self, *actors: Actor) -> None:
        for actor in actors:
            self.say(f"SIGKILL to {actor.name}")
            actor.kill()
        self.outlast_sessions()
        for actor in actors:
            actor.start()
            self.say(f"{actor.name} starts again")

    def restart(self, actor: Actor) -> None:
        """SIGTERM, then start it again. Returns when the cast is whole."""
        self.say(f"SIGTERM to {actor.name}")
        actor.send(signal.SIGTERM)
        self.cast.wait_for(lambda: not actor.is_running, f"{actor.name} does not end")
        actor.start()
        self.cast.wait_whole()
        self.say(f"{actor.name} is back")

    def restart_server(self, server: ApacheZooKeeper) -> None:
        """SIGTERM, then start it again. Returns when the cast is whole, so that no two servers are ever away."""
        self.say(f"SIGTERM to {self.server_name(server)}")
        server.stop()
        self.start_servers(server)
        self.cast.wait_whole()

    def cut_off(self, state: LinkState, *actors: Actor) -> None:
        """From all servers, for longer than the session timeout."""
        for actor in actors:
            self.say(f"{actor.name}: its links are {state.value}")
            actor.route.cut(state)
        self.outlast_sessions()
        self.mend(*actors)

    def cut_off_from_one_server(self, state: LinkState, *actors: Actor) -> None:
        """From the one that it is connected to."""
        for actor in actors:
            self.cast.wait_for(partial(actor.route.cut_used, state), f"{actor.name} has no connection")
            self.say(f"{actor.name}: its link to one server is {state.value}")
        self.outlast_sessions()
        self.mend(*actors)

    def cut_off_server(self, server: ApacheZooKeeper) -> None:
        """From the other servers, silently; clients still reach it, and it can take part in elections. Returns when all
        servers serve again, for which they may have to elect a leader."""
        routes = self.cast.routes_of(server)
        for route in routes:
            route.cut(LinkState.SILENT)
        self.say(f"{self.server_name(server)}: its links to the other servers are silent")
        self.outlast_sessions()
        for route in routes:
            route.mend()
        self.say("mended")
        for each in self.servers:
            each.wait_until_serving()
        self.say("all servers serve")

    def mend(self, *actors: Actor) -> None:
        for actor in actors:
            actor.route.mend()
        self.say("mended")

    # --- a client that is killed -------------------------------------------------------------------------------------

    def replace_client(self, client: Actor) -> None:
        """SIGKILL; then another process waits, by name, for what it had submitted and not been told."""
        self.say(f"SIGKILL to {client.name}")
        client.kill()
        self.cast.clients_killed += 1
        self.outlast_sessions()  # from then on nothing that it sent can be accepted any more
        names = self._unfinished(client)
        listed = self.cast.folder / "names"
        listed.write_text("\n".join(names))
        successor = self.cast.client(f"{client.name} again", f"--attach={listed}")
        self.say(f"{successor.name}: waits for {len(names)} tasks by name")
        successor.start()
        self.clients.append(successor)
        self.successors.add(successor.name)

    def _unfinished(self, client: Actor) -> list[str]:
        notes = list(read_notes(self.cast.record(client.name)))
        told = {note.task for note in notes if isinstance(note, Told)}
        historian = self.historian.fork()
        submitters = historian.tell(self.cast.logs.read(historian.last_zxid)).submitters
        journals = {submitters.get(note.task) for note in notes if isinstance(note, Accepted)}
        return [task for task, journal in submitters.items() if journal in journals and task not in told]
