from __future__ import annotations

import pytest

from chaos.links import LinkState, Network, Route
from herdmaster.testing.apache import ApacheEnsemble, ZooKeeperNotInstalled
from tests.cli.processes import wait_until


@pytest.mark.slow
@pytest.mark.apache
@pytest.mark.timeout(200)
def test_a_follower_whose_links_are_silent_is_out_until_they_are_mended() -> None:
    routes: dict[tuple[int, int], Route] = {}
    with Network() as network:

        def reroute(own: int, other: int, port: int) -> int:
            routes[own, other] = network.open_links([port])
            return routes[own, other].port

        try:
            ensemble = ApacheEnsemble(3, reroute=reroute)
        except ZooKeeperNotInstalled as reason:
            pytest.skip(str(reason))
        with ensemble:
            leader = ensemble.wait_for_leader()
            number, follower = next(each for each in enumerate(ensemble.members) if each[1] is not leader)
            for ends, route in routes.items():
                if number in ends:
                    route.cut(LinkState.SILENT)
            wait_until(lambda: follower.mode() is None, "it still serves", 60.0)
            wait_until(lambda: leader.mode() == "leader", "the others stopped, too", 60.0)
            for route in routes.values():
                route.mend()
            wait_until(lambda: follower.mode() == "follower", "it does not come back", 60.0)
