"""Looks at a namespace and changes nothing."""
