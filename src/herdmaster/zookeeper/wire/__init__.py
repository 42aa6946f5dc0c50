"""Bytes to records and back, for both ends of a connection; no I/O and no state of a session."""
