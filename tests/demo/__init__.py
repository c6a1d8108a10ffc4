"""The embedded model and its training."""
