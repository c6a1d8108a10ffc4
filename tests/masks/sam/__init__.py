"""SAM against segment_anything's own modules."""
