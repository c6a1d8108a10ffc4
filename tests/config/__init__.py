"""Tests of settings: their roles, and the stages' rows."""
