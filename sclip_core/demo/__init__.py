"""The embedded default: a tiny CLIP, the drawn scenes that it knows, and its training."""
