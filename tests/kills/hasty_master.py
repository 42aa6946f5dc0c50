"""A master that clears away every second: `python -m tests.kills.hasty_master HOSTS SESSION_TIMEOUT`."""

from __future__ import annotations

import sys

from herdmaster.cli.logs import configure_logs
from herdmaster.cli.running import run_role
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.primary.sweeper import Ages

if __name__ == "__main__":
    configure_logs("info", "text")
    settings = MasterSettings(session_timeout=float(sys.argv[2]), ages=Ages(outcome=3600, dead=3600, journal=10))
    run_role(Master(sys.argv[1], settings))
