"""A worker: takes assignments, runs them and commits what came of them."""
