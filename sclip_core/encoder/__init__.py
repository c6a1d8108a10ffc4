"""CLIP: finding and loading models, text banks, dense features."""

from sclip_core.encoder.attention import POLICIES, Attention, policy
from sclip_core.encoder.dense import DenseEncoder
from sclip_core.encoder.loading import ModelSpec, find_model, load_model
from sclip_core.encoder.pixels import check_protocol
from sclip_core.encoder.text import TextBank, encode_word
from sclip_core.tensors.device import find_device, find_dtype

__all__ = [
    "POLICIES",
    "Attention",
    "DenseEncoder",
    "ModelSpec",
    "TextBank",
    "check_protocol",
    "encode_word",
    "find_device",
    "find_dtype",
    "find_model",
    "load_model",
    "policy",
]
