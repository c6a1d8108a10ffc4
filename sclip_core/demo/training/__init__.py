"""Training the CLIP of the demo on drawn pictures and their captions."""
