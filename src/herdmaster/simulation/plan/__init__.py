"""What a run is made of, drawn from its seed before anything runs."""
