"""The mind of Herdmaster: names, paths, payloads, transitions and decisions. Pure: no input or output, no clock."""
