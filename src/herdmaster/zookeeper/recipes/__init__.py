"""Recipes that several roles use: the children of a folder as a stream, election, membership."""
