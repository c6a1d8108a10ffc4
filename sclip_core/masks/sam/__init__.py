"""Segment Anything's mask proposals, by segment_anything's weights and modules."""
