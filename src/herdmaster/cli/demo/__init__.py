"""`herd demo`: a real job on real processes, of which the most important are killed in the middle."""
