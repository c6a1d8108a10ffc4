"""Training-free methods of open-vocabulary segmentation, on one pass through CLIP.

What users write methods and other parts of the pipeline with is here: docs/own-method.md.
"""

from sclip_core.encoder.attention import policy
from sclip_core.encoder.taps import Tap
from sclip_core.methods.method import Method, Scene
from sclip_core.methods.own import method
from sclip_core.methods.own_parts import decision, proposer, refiner, rule, step

__all__ = [
    "Method",
    "Scene",
    "Tap",
    "decision",
    "method",
    "policy",
    "proposer",
    "refiner",
    "rule",
    "step",
]
