"""Checking a store and freeing space in it: artifacts and results together."""
