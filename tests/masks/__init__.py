"""Tests of sclip_core.masks."""
