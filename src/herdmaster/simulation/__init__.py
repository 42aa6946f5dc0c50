"""Deterministic simulation: the real roles, client and server on virtual time and an in-memory network, a seed per
run."""
