"""SCLIP on single images: load a CLIP, give it words and a picture, get labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol, UserError, unknown
from sclip_core.datasets import Vocabulary
from sclip_core.encoder import Attention, TextBank, check_protocol, find_model
from sclip_core.encoder.clip import CLIP
from sclip_core.encoder.pixels import as_rgb
from sclip_core.encoder.text import TEMPLATES
from sclip_core.masks import RULES, Evidence, Proposals, mask_source, pooled_logits
from sclip_core.segmentation import Refiner, Stitcher
from sclip_core.segmentation.decision import class_scores
from sclip_core.tensors.device import find_device, find_dtype

Classes = list[str] | list[list[str]] | Vocabulary


@dataclass(frozen=True)
class Segmentation:
    """The labels of an image, and the heat maps that were asked for."""

    labels: NDArray[np.unsignedinteger]  # (H, W), indices into class_names
    class_names: tuple[str, ...]
    heat: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """By the name that was asked for: (H, W), cosine similarities."""


class SCLIP(CLIP):
    """A frozen CLIP that labels every pixel of an image with one of the given words."""

    @classmethod
    def load(
        cls,
        model: str = "ViT-B-16",
        pretrained: str = "openai",
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "csa",
    ) -> SCLIP:
        """Load a CLIP.

        Args:
            model: an open_clip architecture with a ViT image tower, OpenAI's spelling of it
                (``ViT-B/16``, ``ViT-L/14@336px``), or the path of an open_clip model JSON.
            pretrained: an open_clip tag, or the path of a checkpoint (.safetensors, .pt, .bin).
                A tag brings QuickGELU with it where it was trained so, and so does one of OpenAI's
                own .pt files; other files do not say: for OpenAI's weights as the hub has them,
                take a model like ``ViT-B-16-quickgelu``.
            device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``.
            dtype: of the image tower: ``auto`` (fp32 on a CPU, fp16 on a GPU), ``fp32``,
                ``bf16``, ``fp16``.
            attention: of the last block: ``csa``, ``vanilla``, ``maskclip``, ``clearclip``,
                ``naclip``, ``kk``; with ``:vanilla`` or ``:reduced`` behind it to keep or leave
                the block's residual and MLP.

        Raises:
            UserError: an unknown name, weights that cannot be had or do not fit.
        """
        policy = Attention.parse(attention)
        where = find_device(device)
        return cls(find_model(model, pretrained), policy, where, find_dtype(dtype, where))

    def text_bank(self, classes: Classes, templates: str = "openai") -> TextBank:
        """Encode a vocabulary, every word in each template (docs/protocol.md, section 1).

        Args:
            classes: names, with ``", "`` between synonyms; or lists of words; or a Vocabulary.
            templates: ``openai``, 80 of them; ``simple``, four; or ``photo``, one.

        Returns:
            ``embeddings`` (Q, D) float32 of unit length, ``query_class`` (Q,), ``class_names``.
        """
        if templates not in TEMPLATES:
            raise unknown("templates", templates, TEMPLATES)
        vocabulary = Vocabulary.from_classes(classes)
        vectors = [self.encode_word(word, templates) for word in vocabulary.queries]
        return TextBank(
            embeddings=torch.stack(vectors),
            query_class=torch.tensor(vocabulary.query_class, device=self.device),
            class_names=tuple(vocabulary.class_names),
            queries=tuple(vocabulary.queries),
        )

    def dense_similarity(self, image: Any, classes: Classes, **settings: Any) -> Tensor:
        """How alike every patch of the whole image is to every class.

        Args:
            image: (H, W, 3) uint8 RGB, or a PIL image.
            classes: names, with ``", "`` between synonyms; or lists of words; or a Vocabulary.
            **settings: fields of ``Protocol``, e.g. ``short_side=448``.

        Returns:
            (C, h, w) float32: cosine of the best word of each class, on the patch grid.
        """
        protocol = Protocol.checked({**settings, "slide_crop": 0})
        image, bank = as_rgb(image), self.text_bank(classes)
        geometry, windows = self.windows(image, protocol)
        features = self.window_features(windows)
        cosines = Stitcher(geometry, self.device).side_by_side(features, bank.embeddings)
        return class_scores(cosines, bank.query_class, bank.num_classes)

    def logits(
        self,
        image: Any,
        protocol: Protocol | str | None = None,
        classes: Classes | None = None,
        **settings: Any,
    ) -> Tensor:
        """Logits of every word at every pixel.

        Args:
            image: (H, W, 3) uint8 RGB, or a PIL image.
            protocol: a benchmark's name or a ``Protocol``; None: the defaults.
            classes: as for ``text_bank``; None: the protocol's vocabulary.
            **settings: fields of ``Protocol`` to change, e.g. ``pamr_steps=10``.

        Returns:
            (Q, H, W) float32, before ``logit_scale``, refined where the protocol has PAMR steps.
        """
        resolved, vocabulary = self._resolve(protocol, classes, settings)
        return self.refiner(as_rgb(image), self.text_bank(vocabulary), resolved).logits()

    def segment(
        self,
        image: Any,
        protocol: Protocol | str | None = None,
        classes: Classes | None = None,
        masks: Proposals | None = None,
        rule: str = "vote",
        heat: Sequence[str] = (),
        **settings: Any,
    ) -> Segmentation:
        """Label every pixel of an image.

        Args:
            image: (H, W, 3) uint8 RGB, or a PIL image.
            protocol: a benchmark's name or a ``Protocol``; None: the defaults.
            classes: as for ``text_bank``; None: the protocol's vocabulary.
            masks: proposals for this image, to be filled; pixels outside keep their dense label.
            rule: what labels a mask: ``vote`` of its pixels' labels, ``pool``: the mean of their
                logits, or ``crop``: CLIP on the mask's crop.
            heat: names of classes, whose best word counts at every pixel, or of single words, to
                be mapped too; masks do not change those maps. The encoder runs once all the same.
            **settings: fields of ``Protocol`` to change, e.g. ``pamr_steps=10``.

        Returns:
            ``labels`` (H, W), unsigned integers, and the ``class_names`` they index; ``heat``, for
            each name (H, W) float32: the logits, before ``logit_scale``, refined as the labels.

        Raises:
            UserError: an unknown name or setting, an image or masks that do not fit.
        """
        if rule not in RULES:
            raise unknown("rule", rule, RULES)
        resolved, vocabulary = self._resolve(protocol, classes, settings)
        groups = {name: vocabulary.words_of(name) for name in heat}
        image, bank = as_rgb(image), self.text_bank(vocabulary)
        refiner = self.refiner(image, bank, resolved)
        labels = refiner.labels(bank.query_class, bank.num_classes)
        if masks is not None:
            labels = self._filled(image, labels, refiner, bank, masks, rule)
        maps = refiner.best_of(list(groups.values())).numpy() if groups else ()
        return Segmentation(labels, bank.class_names, dict(zip(groups, maps, strict=True)))

    def _filled(
        self,
        image: NDArray[np.uint8],
        labels: NDArray[np.unsignedinteger],
        refiner: Refiner,
        bank: TextBank,
        masks: Proposals,
        rule: str,
    ) -> NDArray[np.unsignedinteger]:
        """Masks filled with labels."""
        if masks.size != image.shape[:2]:
            raise UserError(f"masks of an image of {masks.size} for one of {image.shape[:2]}")

        def scores() -> Tensor:
            """A logit for each mask and word."""
            if rule == "crop":
                return (self.mask_features(image, masks) @ bank.embeddings.T).cpu()
            stitcher = Stitcher(refiner.geometry)
            return pooled_logits(masks, stitcher, refiner.features.cpu(), bank.embeddings.cpu())

        words = bank.query_class.cpu()
        evidence = Evidence(masks, labels, words, bank.num_classes, refiner.protocol, scores)
        return RULES[rule](evidence)

    def refiner(self, image: NDArray[np.uint8], bank: TextBank, protocol: Protocol) -> Refiner:
        """Encode an image and make ready to refine and decide."""
        geometry, windows = self.windows(image, protocol)
        return Refiner(
            geometry=geometry,
            features=self.window_features(windows),
            embeddings=bank.embeddings,
            protocol=protocol,
            pixels=lambda: self.pixels(image, geometry),
        )

    def _resolve(
        self,
        protocol: Protocol | str | None,
        classes: Classes | None,
        settings: dict[str, Any],
    ) -> tuple[Protocol, Vocabulary]:
        """Protocol and vocabulary of a call."""
        if isinstance(protocol, str):
            protocol = Protocol.named(protocol)
        resolved = (protocol or Protocol()).replace(**settings)
        check_protocol(resolved, self.spec.patch)
        if classes is not None:
            return resolved, Vocabulary.from_classes(classes)
        if resolved.vocabulary is None:
            raise UserError(
                'no words to look for: pass classes=["cat", "grass, lawn"], or protocol="voc21"'
            )
        return resolved, Vocabulary.named(resolved.vocabulary)


def propose_masks(
    image: Any,
    source: str = "sam",
    checkpoint: Path | str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    **settings: Any,
) -> Proposals:
    """Masks of one image; for those of many, open the source once: ``mask_source``.

    Args:
        image: (H, W, 3) uint8 RGB, or a PIL image.
        source: ``sam``; or ``felzenszwalb``, ``slic``, which need no weights.
        checkpoint: SAM's weights, a .pth file of Meta's; None: fetched by name.
        device: where SAM runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        dtype: of SAM: ``auto`` (fp32 on a CPU, fp16 on a GPU), ``fp32``, ``bf16``, ``fp16``.
        **settings: of ``MaskSettings``, e.g. ``sam_model="vit_h"``, ``points_per_side=8``.

    Returns:
        The masks of the image, M of them, with boxes in pixels.

    Raises:
        UserError: an unknown name, a library or weights that are not there.
    """
    return mask_source(source, checkpoint, device, dtype, **settings)(as_rgb(image))
