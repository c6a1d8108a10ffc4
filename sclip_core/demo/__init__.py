"""The embedded default: a tiny CLIP of its own, and how it was trained."""
