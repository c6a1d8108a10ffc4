"""A local page on runs and on images: type words, see where they are."""
