"""The simulated world: a network, a server and processes on virtual time, and the faults that strike them."""
