"""SCLIP on single images: load a CLIP, give it words and a picture, get labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Protocol, UserError, unknown
from sclip_core.config.methods import method_protocol, template_set
from sclip_core.datasets import Vocabulary
from sclip_core.encoder import TextBank, check_protocol, find_model
from sclip_core.encoder.attention import register_own
from sclip_core.encoder.clip import CLIP
from sclip_core.encoder.text import TEMPLATES
from sclip_core.given import (
    Classes,
    How,
    Picture,
    Pictures,
    check_pictures,
    masks_of_each,
    propose_masks,
    regions_of,
    rgb_of,
    shown_progress,
    told_apart,
    vocabulary_of,
    warn_caller,
)
from sclip_core.masks import RULES, Proposals
from sclip_core.masks.fill import filled
from sclip_core.masks.id_maps import as_id_map, proposals_of
from sclip_core.methods.attended import attended
from sclip_core.methods.features import features_of
from sclip_core.methods.networks import Networks
from sclip_core.methods.registry import Chosen, check_cls, choose
from sclip_core.segmentation import Refiner, Stitcher
from sclip_core.segmentation.decision import class_scores
from sclip_core.segmentation.result import Segmentation
from sclip_core.tensors.device import DTYPES, find_device, find_dtype

__all__ = ["SCLIP", "Segmentation", "propose_masks"]


class Asked(NamedTuple):
    """What is wanted of each image of a call."""

    protocol: Protocol
    words: Vocabulary | TextBank
    heat: Sequence[str]
    rule: str


class SCLIP(CLIP):
    """A frozen CLIP that labels every pixel of an image with one of the given words.

    Attributes:
        method: what ``logits`` and ``segment`` do; None: the attention that it was loaded with.
        networks: those that methods read beside CLIP.
    """

    method: str | None = None
    networks: Networks

    def __repr__(self) -> str:
        """One line: model, weights, method, device and precision."""
        method = f"method {self.method}" if self.method else f"attention {self.encoder.attention}"
        dtype = str(self.encoder.dtype).removeprefix("torch.")
        return f"SCLIP({self._label}, {method}, {self.device}, {dtype})"

    @property
    def _label(self) -> str:
        """Architecture and weights, as a text bank remembers them."""
        return f"{self.spec.name} {self.spec.pretrained}"

    @classmethod
    def load(
        cls,
        model: str = "ViT-B-16",
        pretrained: str = "openai",
        device: str = "auto",
        dtype: str = "auto",
        attention: str | Callable[..., Tensor] | None = None,
        method: str | None = None,
        proxy: str | None = None,
        proxy_pretrained: str | None = None,
        sam: str | None = None,
        sam_pretrained: str | None = None,
    ) -> SCLIP:
        """Load a CLIP, and what else a method needs.

        Args:
            model: an open_clip name (docs/backbones.md), OpenAI's spelling of it (``ViT-B/16``,
                ``ViT-L/14@336px``), or the path of a model JSON or of its folder.
            pretrained: an open_clip tag, or the path of a checkpoint (.safetensors, .pt, .bin) of
                open_clip, OpenAI or transformers, or of its folder. What is known of its activation
                is taken (``spec.notes``); for a bare file with OpenAI's weights take a model like
                ``ViT-B-16-quickgelu``.
            device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``.
            dtype: of the image tower: ``auto`` (fp32 on a CPU, fp16 on a GPU), ``fp32``,
                ``bf16``, ``fp16``.
            attention: of the last block: ``csa``, ``vanilla``, ``maskclip``, ``clearclip``,
                ``naclip``, ``kk``; with ``:vanilla`` or ``:reduced`` behind it to keep or leave
                the block's residual and MLP; or a function of your own (docs/own-method.md).
            method: ``sc-clip``, ``pearl``, ``proxyclip``, ... (docs/methods.md); attentions are
                methods too. It is what ``logits`` and ``segment`` do unless their protocol names
                another. None: the attention.
            proxy: the second network of a method that has one: ``dino_vitb8``, ``dinov2_vitb14``, a
                plain ViT of timm's, or the path of a JSON. None: the method's own.
            proxy_pretrained: its weights, a tag of timm's name or a file. None: by its name.
            sam: SAM's encoder for a method that reads it: ``vit_b``, ``vit_l``, ``vit_h``, or the
                path of a JSON. None: ``vit_b``.
            sam_pretrained: its weights, a file. None: Meta's, by name.

        Raises:
            UserError: an unknown name, weights that cannot be had; a method and an attention.
        """
        if attention is not None and method not in (None, attention):
            raise UserError("method and attention are both given: take one of them")
        if callable(attention):
            attention = register_own(attention)
        chosen = choose(Protocol(method=method), attention or "csa")
        where = find_device(device)
        precision = find_dtype(dtype, where)
        spec = find_model(model, pretrained)
        check_cls(chosen.method, spec.name, spec.tower)
        found = cls(spec, chosen.attention, where, precision)
        found.method = method if chosen.method else None
        found.networks = Networks(
            proxy, proxy_pretrained, sam, sam_pretrained, where, DTYPES[precision]
        )
        if chosen.method:
            found.networks.load_for(chosen.method)
        return found

    def text_bank(self, classes: Classes, templates: str = "openai") -> TextBank:
        """Encode a vocabulary, every word in each template (docs/protocol.md, section 1).

        Args:
            classes: names, with ``", "`` between synonyms; or lists of words; or a Vocabulary; or
                such a bank of this model, which is checked and given back.
            templates: ``openai``, 80 of them; ``simple``, four; or ``photo``, one.

        Returns:
            ``embeddings`` (Q, D) float32 of unit length, ``query_class`` (Q,), ``class_names``.

        Raises:
            UserError: unknown templates, no list of words, a bank of another model, or words that
                the model cannot read or tell apart; what else is to know of words is a warning.
        """
        if templates not in TEMPLATES:
            raise unknown("templates", templates, TEMPLATES)
        vocabulary = vocabulary_of(classes)
        if isinstance(classes, TextBank):
            return classes.of_model(self._label, self.spec.width).to(self.device)
        for line in self.word_notes(vocabulary.named_words, templates):
            warn_caller(line)
        vectors = [self.encode_word(word, templates) for word in vocabulary.queries]
        return TextBank(
            embeddings=torch.stack(vectors),
            query_class=torch.tensor(vocabulary.query_class, device=self.device),
            class_names=tuple(vocabulary.class_names),
            queries=tuple(vocabulary.queries),
            model=self._label,
        )

    def dense_similarity(self, image: Picture, classes: Classes, **settings: Any) -> Tensor:
        """How alike every patch of the whole image is to every class.

        Args:
            image: as for ``segment``.
            classes: as for ``text_bank``.
            **settings: fields of ``Protocol``, e.g. ``short_side=448``.

        Returns:
            (C, h, w) float32: cosine of the best word of each class, on the patch grid.
        """
        protocol = Protocol.checked({**settings, "slide_crop": 0, "method": self.method})
        refiner = self.refiner(rgb_of(image), bank := self.text_bank(classes), protocol)
        stitcher = Stitcher(refiner.geometry, self.device)
        cosines = stitcher.side_by_side(refiner.features, bank.embeddings)
        return class_scores(cosines, bank.query_class, bank.num_classes)

    def logits(
        self,
        image: Picture,
        *given: Any,
        classes: Classes | None = None,
        protocol: How = None,
        masks: Proposals | NDArray[np.integer[Any]] | None = None,
        **settings: Any,
    ) -> Tensor:
        """Logits of every word at every pixel of one image; arguments as for ``segment``.

        Returns:
            (Q, H, W) float32, before ``logit_scale``, refined where the protocol has PAMR steps.
        """
        masks = given[2] if len(given) > 2 else masks
        resolved, words = self._resolve(given[:2], classes, protocol, settings)
        pixels = rgb_of(image)
        bank = self.bank_of(words, resolved)
        return self.refiner(pixels, bank, resolved, regions_of(masks, pixels)).logits()

    @overload
    def segment(self, image: Picture, *given: Any, **named: Any) -> Segmentation: ...
    @overload
    def segment(self, image: Pictures, *given: Any, **named: Any) -> list[Segmentation]: ...
    def segment(
        self,
        image: Picture | Pictures,
        *given: Any,
        classes: Classes | None = None,
        protocol: How = None,
        masks: Any = None,
        rule: str = "vote",
        heat: Sequence[str] = (),
        progress: bool = True,
        **settings: Any,
    ) -> Segmentation | list[Segmentation]:
        """Label every pixel of an image, or of each image of a list.

        Args:
            image: the path of a file; a PIL image; an RGB array (H, W, 3) or tensor, (3, H, W) or
                (H, W, 3), uint8 or floats from 0 to 1; or a list of these, all of which are looked
                at before the first is encoded.
            *given: classes, a protocol or both, without their names, in either order:
                ``segment(image, ["cat", "dog"])``, ``segment(image, "voc21")``; then the masks,
                the rule and the heat.
            classes: as for ``text_bank``; None: the protocol's vocabulary.
            protocol: a benchmark's name or a ``Protocol``; None: the defaults.
            masks: of this image: proposals, or an id map (H, W) of integers whose lowest id is no
                mask; of a list of images, a list. A method that reads masks gets them; else they
                are filled, and pixels outside keep their dense label.
            rule: what labels a mask: ``vote`` of its pixels' labels, ``pool``: the mean of their
                logits, or ``crop``: CLIP on the mask's crop.
            heat: names of classes, whose best word counts at every pixel, or of single words, to
                be mapped too; masks do not change those maps. The encoder runs once all the same.
            progress: show a bar for a list, where there is a terminal or a notebook.
            **settings: fields of ``Protocol`` to change, e.g. ``pamr_steps=10``.

        Returns:
            ``labels`` (H, W), unsigned integers, and the ``class_names`` they index; ``heat``, for
            each name (H, W) float32: the logits, before ``logit_scale``, refined as the labels.
            Of a list, a list.

        Raises:
            UserError: an unknown name or setting, an image or masks that do not fit.
        """
        rest: list[Any] = [masks, rule, heat]
        rest[: len(given[2:])] = given[2:]
        masks, rule, heat = rest
        if rule not in RULES:
            raise unknown("rule", rule, RULES)
        resolved, words = self._resolve(given[:2], classes, protocol, settings)
        asked = Asked(resolved, words, heat, rule)
        if not isinstance(image, list | tuple):
            return self._segment(rgb_of(image), asked, masks)
        masks_of = masks_of_each(masks, len(image))
        check_pictures(image)
        shown = zip(shown_progress(image, progress), masks_of, strict=True)
        return [self._segment(rgb_of(one), asked, its_masks) for one, its_masks in shown]

    def _segment(self, image: NDArray[np.uint8], asked: Asked, masks: Any) -> Segmentation:
        """Label every pixel of an RGB image (H, W, 3)."""
        groups = {name: vocabulary_of(asked.words).words_of(name) for name in asked.heat}
        bank = self.bank_of(asked.words, asked.protocol)
        chosen, regions = self._chosen(asked.protocol), regions_of(masks, image)
        refiner = self.refiner(image, bank, asked.protocol, regions)
        labels = refiner.labels(bank.query_class, bank.num_classes)
        for step in chosen.after:
            labels = step(labels, regions, bank.num_classes)
        if masks is not None and not chosen.reads_masks:
            if not isinstance(masks, Proposals):
                masks = proposals_of(as_id_map(masks, image.shape[:2]))
            crops = partial(self.mask_features, image, masks)
            labels = filled(masks, labels, refiner, bank, asked.rule, crops)
        maps = refiner.best_of(list(groups.values())).numpy() if groups else ()
        return Segmentation(labels, bank.class_names, dict(zip(groups, maps, strict=True)))

    def attention_of(
        self,
        image: Picture,
        point: tuple[int, int],
        protocol: How = None,
        heads: bool = False,
        **settings: Any,
    ) -> NDArray[np.float32]:
        """What the patch at a point attends to in the last block, by the model's attention.

        Args:
            image: as for ``segment``.
            point: row and column of a pixel.
            protocol: a benchmark's name or a ``Protocol``; None: the defaults.
            heads: a map for each head, instead of their mean.
            **settings: fields of ``Protocol`` to change, e.g. ``slide_crop=0``, or ``method``.

        Returns:
            (H, W) float32, or (heads, H, W): at each pixel the weight of its patch, bilinear
            between patches. The weights of all tokens sum to 1 (CSA's two attentions are halved);
            what CLS gets is in no pixel. Of several windows that contain the point it is the mean,
            with 0 where one does not reach.

        Raises:
            UserError: a point outside of the image, or a method without such an attention.
        """
        resolved, pixels = self._protocol_of(protocol, settings), rgb_of(image)
        geometry, windows = self.windows_of(pixels, resolved)
        maps = attended(self.encoder, self._chosen(resolved), geometry, windows, point)
        return np.asarray((maps if heads else maps.mean(dim=0)).numpy())

    def refiner(
        self,
        image: NDArray[np.uint8],
        bank: TextBank,
        protocol: Protocol,
        regions: NDArray[np.integer[Any]] | None = None,
    ) -> Refiner:
        """Encode an image and make ready to refine and decide.

        Args:
            image: (H, W, 3) uint8 RGB.
            bank: of the words.
            protocol: how; its ``method`` is the model's where it names none.
            regions: id map (H, W), for a method that reads masks.

        Raises:
            UserError: the method reads masks and there are none.
        """
        chosen = self._chosen(protocol)
        if chosen.reads_masks and regions is None:
            raise UserError(
                f"method '{chosen.name}' needs masks: pass masks=, of sclip_core.propose_masks or "
                "an id map (H, W) of integers"
            )
        geometry, windows = self.windows_of(image, protocol)
        method = chosen.method
        if method is None:
            own = chosen.attention == self.encoder.attention
            other: dict[str, Any] = {} if own else {"attention": chosen.attention}
            features = self.window_features(windows, **other)
        else:
            windows = windows[:]  # which methods read as a whole
            extra = self.networks.extra(method, image, geometry, windows, bank.embeddings, regions)
            wanted = method.taps(self.encoder.tower.layers)
            taps = self.window_taps(windows, wanted, method.views, method.positions)
            features = features_of(method, self.encoder, geometry, taps, lambda: windows, extra)
        return Refiner(
            geometry=method.layout(geometry, extra.patch) if method else geometry,
            features=features,
            embeddings=bank.embeddings,
            protocol=protocol,
            pixels=lambda: self.pixels(image, geometry),
            refining=chosen.refiner,
            deciding=chosen.decision,
        )

    def bank_of(self, words: Vocabulary | TextBank, protocol: Protocol) -> TextBank:
        """The words of a vocabulary in the templates that the method asks for; a bank as it is."""
        return self.text_bank(words, template_set(protocol.method or self.method) or "openai")

    def _chosen(self, protocol: Protocol) -> Chosen:
        """What a protocol asks for; the model's own method and attention where it names none."""
        if protocol.method is None and self.method is not None:
            protocol = protocol.replace(method=self.method)
        chosen = choose(protocol, str(self.encoder.attention))
        check_cls(chosen.method, self.spec.name, self.spec.tower)
        return chosen

    def _resolve(
        self, given: Sequence[Any], classes: Any, protocol: Any, settings: dict[str, Any]
    ) -> tuple[Protocol, Vocabulary | TextBank]:
        """Protocol and words of a call."""
        classes, protocol = told_apart(given, classes, protocol)
        resolved = self._protocol_of(protocol, settings)
        if isinstance(classes, TextBank):
            return resolved, classes
        if classes is not None:
            return resolved, Vocabulary.from_classes(classes)
        if resolved.vocabulary is None:
            raise UserError(
                'no words to look for: pass classes=["cat", "grass, lawn"], or protocol="voc21"'
            )
        return resolved, Vocabulary.named(resolved.vocabulary)

    def _protocol_of(self, protocol: How, settings: dict[str, Any]) -> Protocol:
        """The protocol of a call, with its settings."""
        if isinstance(protocol, str):
            protocol = Protocol.named(protocol, self.method)
        usual = protocol or Protocol.checked(method_protocol(self.method, None))
        resolved = usual.replace(**settings)
        check_protocol(resolved, self.spec.patch)
        return resolved
