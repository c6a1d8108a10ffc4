"""Tests of checking and clearing a store."""
