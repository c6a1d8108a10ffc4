"""Training-free methods of open-vocabulary segmentation, on one pass through CLIP."""
