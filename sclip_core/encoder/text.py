"""The text bank: one vector a query, the mean over OpenAI's 80 ImageNet templates.

docs/protocol.md, section 1. A query is one word or phrase whose embedding scores pixels. A class
has one or several: one with three synonyms has three vectors, and the decision takes the best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sclip_core.config import UserError
from sclip_core.config.deferred import deferred
from sclip_core.config.errors import few
from sclip_core.encoder.beginnings import Beginnings, is_causal
from sclip_core.encoder.zoo import imagenet_templates
from sclip_core.tensors import is_finite

open_clip = deferred("open_clip")
# By name: OpenAI's 80 for ImageNet; four plain ones, usual in methods that classify crops; one.
TEMPLATES: dict[str, tuple[Callable[[str], str], ...]] = {
    "openai": imagenet_templates(),
    "simple": (
        "a photo of a {}.".format,
        "a photo of the {}.".format,
        "a picture of a {}.".format,
        "an image of a {}.".format,
    ),
    "photo": ("a photo of a {}.".format,),
}


@dataclass(frozen=True)
class TextBank:
    """Embeddings of a vocabulary: Q queries of C classes."""

    embeddings: Tensor  # (Q, D) float32, unit length
    query_class: Tensor  # (Q,) int64, the class of each query
    class_names: tuple[str, ...]  # C names
    queries: tuple[str, ...]  # Q words or phrases
    model: str = ""  # which encoded them; empty: not known

    def __repr__(self) -> str:
        """One line: how many classes, the shape of the vectors, the first names."""
        shape = "×".join(map(str, self.embeddings.shape))
        names = few(self.class_names)
        return f"TextBank({self.num_classes} classes, vectors {shape}: {names})"

    def __post_init__(self) -> None:
        """Refuse vectors that are not finite numbers: every pixel would silently be class 0.

        Raises:
            UserError: some are not; names the first such query.
        """
        if not is_finite(self.embeddings):
            finite = self.embeddings.isfinite().all(dim=1).tolist()
            raise _not_finite(self.queries[finite.index(False)])

    @property
    def num_classes(self) -> int:
        """The number of classes, C."""
        return len(self.class_names)

    def of_model(self, label: str, width: int) -> TextBank:
        """This bank, if the features of a model can be compared with it.

        Args:
            label: the model's architecture and weights.
            width: of its features.

        Raises:
            UserError: they cannot.
        """
        own = self.embeddings.shape[-1]
        if own != width or self.model not in ("", label):
            raise UserError(
                f"the text bank is of {self.model or 'another model'} with vectors of {own}, and "
                f"this is {label} with {width}: make it with this model's text_bank"
            )
        return self

    def to(self, device: torch.device) -> TextBank:
        """The same bank on another device."""
        return replace(
            self, embeddings=self.embeddings.to(device), query_class=self.query_class.to(device)
        )


@torch.no_grad()
def encode_word(
    model: Any,
    tokenizer: Any,
    word: str,
    templates: str = "openai",
    beginnings: Beginnings | None = None,
) -> Tensor:
    """The vector of one query: the mean of its prompts' unit-length vectors, at unit length.

    Args:
        model: an open_clip model.
        tokenizer: its tokenizer.
        word: the query.
        templates: a name in ``TEMPLATES``.
        beginnings: of prompts to this model, kept from word to word; None: of none.

    Returns:
        (D,) float32, unit length, on the model's device.

    Raises:
        UserError: the vector is not finite.
    """
    device = next(model.parameters()).device

    def prompts_of(word: str) -> Tensor:
        tokens: Tensor = tokenizer([template(word) for template in TEMPLATES[templates]])
        return tokens.to(device)

    if is_causal(model):
        kept = beginnings or Beginnings()
        encoded = kept.features(model, prompts_of, word, templates)
    else:
        encoded = encode_prompts(model, prompts_of(word))
    features = normalize(encoded.float(), dim=-1)
    vector = normalize(features.mean(dim=0), dim=-1)
    if not is_finite(vector):
        raise _not_finite(word)
    return vector


def _not_finite(word: str) -> UserError:
    return UserError(
        f"the text vector of the word '{word}' holds NaN or infinite numbers: check the weights of "
        "the model's text tower"
    )


def encode_prompts(model: Any, prompts: Tensor) -> Tensor:
    """Text features (B, D), in the model's dtype, of token ids (B, 77).

    In a causal tower no token after the end token affects its feature, and the prompts of a query
    are short: without the padding the same vectors take a fifth of the time.
    """
    mask = getattr(model, "attn_mask", None)
    if not isinstance(model, open_clip.CLIP) or mask is None or model.text_pool_type != "argmax":
        features: Tensor = model.encode_text(prompts)
        return features
    length = int(prompts.argmax(dim=-1).max()) + 1
    prompts = prompts[:, :length]
    x = model.token_embedding(prompts) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=mask[:length, :length]))
    pooled: Tensor = x[torch.arange(len(x), device=x.device), prompts.argmax(dim=-1)]
    projection = model.text_projection
    if projection is None:
        return pooled
    projected: Tensor = projection(pooled) if callable(projection) else pooled @ projection
    return projected
