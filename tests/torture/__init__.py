"""Tests of the torture."""
