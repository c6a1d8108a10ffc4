"""Tests of sclip_core.encoder."""
