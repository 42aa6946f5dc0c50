"""What must hold, checked after every transaction and at the end of a run."""
