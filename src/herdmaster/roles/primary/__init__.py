"""A master: elected, it decides where tasks go, and sweeps."""
