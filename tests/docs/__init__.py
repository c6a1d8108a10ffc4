"""Tests of the documentation and of the examples."""
