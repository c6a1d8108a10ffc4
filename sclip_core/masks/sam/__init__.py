"""Segment Anything's mask proposals, with the weights and modules of ``segment_anything``."""
