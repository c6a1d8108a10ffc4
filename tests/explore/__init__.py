"""Tests of sclip_core.explore."""
