"""CLIP: loading it, its text bank, its dense features."""

from sclip_core.encoder.attention import POLICIES, Attention, policy
from sclip_core.encoder.dense import DenseEncoder
from sclip_core.encoder.loading import ModelSpec, find_device, find_dtype, find_model, load_model
from sclip_core.encoder.text import TextBank, encode_word, encode_words

__all__ = [
    "POLICIES",
    "Attention",
    "DenseEncoder",
    "ModelSpec",
    "TextBank",
    "encode_word",
    "encode_words",
    "find_device",
    "find_dtype",
    "find_model",
    "load_model",
    "policy",
]
