"""Metrics, health and scaling over HTTP; needs `herdmaster[monitoring]`."""
