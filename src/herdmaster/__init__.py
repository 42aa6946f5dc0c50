"""Herdmaster runs tasks on many machines, with Apache ZooKeeper as its only infrastructure."""

__version__ = "0.1.0"
