"""Chaos: the whole of Herdmaster on a real ensemble, with servers and roles killed, stopped and cut off.

    python -m chaos [--short] [--scenario NAME ...] [--json] [--list]
    python -m chaos --failover 20

The cast (`cast.py`) are three servers of Apache's, two masters, four workers and three clients, each a process, each
connected to each server through a separate link (`links.py`). A scenario (`scenarios.py`) breaks something while the
clients submit. What happened is read afterwards, outside of the roles, from three sources: what the clients noted down
(`records.py`), what the tasks' code noted down, and ZooKeeper's own transaction logs (`transactions.py`), which hold
every change that was ever committed. `judgement.py` compares them, without any I/O.
"""
