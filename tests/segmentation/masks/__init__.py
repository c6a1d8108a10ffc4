"""Tests of sclip_core.segmentation.masks."""
