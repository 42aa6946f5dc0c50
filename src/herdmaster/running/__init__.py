"""The code around a task's function: finds it, calls it, and describes its result."""
