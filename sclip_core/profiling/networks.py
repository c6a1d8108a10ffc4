"""The networks of a run, with their weights or random ones, and what one pass of each costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch

from sclip_core.config import Settings, UserError
from sclip_core.config.deferred import deferred
from sclip_core.config.methods import usual_second
from sclip_core.encoder import Attention, find_model
from sclip_core.encoder.loading import UNTRAINED, find_untrained
from sclip_core.encoder.second import SecondNetwork
from sclip_core.encoder.second_loading import SHORT
from sclip_core.methods.method import Method
from sclip_core.methods.networks import Networks
from sclip_core.model import SCLIP
from sclip_core.tensors.device import DTYPES, find_device, find_dtype

if TYPE_CHECKING:  # segment_anything is an extra
    from sclip_core.masks.sam.last_block import SamTrunk

timm = deferred("timm")
CONTEXT = 77  # tokens of a prompt, padded
SAM_SIDE = 1024


class RandomNetworks(Networks):
    """The networks that methods read beside CLIP, with random weights."""

    def second(self, method: Method) -> SecondNetwork:
        """The second network of a method."""
        name = self._proxy[0] or usual_second(method.name)
        architecture = SHORT.get(name, name)

        def made() -> SecondNetwork:
            if not timm.is_model(architecture.partition(".")[0]):
                raise UserError(f"{name} has no random weights: pass a network of timm's")
            vit = timm.create_model(architecture, pretrained=False, num_classes=0)
            return SecondNetwork(vit.to(*self._where))

        return self._once((name, UNTRAINED), made)  # type: ignore[no-any-return]

    def sam(self) -> SamTrunk:
        """SAM's encoder."""
        from sclip_core.masks.sam.loading import library

        library()
        from segment_anything import sam_model_registry

        from sclip_core.masks.sam.last_block import SamTrunk

        def made() -> SamTrunk:
            size = str(self._sam[0])
            if size not in sam_model_registry:
                raise UserError(f"{size} has no random weights: pass vit_b, vit_l or vit_h")
            return SamTrunk(sam_model_registry[size]().image_encoder.to(*self._where))

        return self._once(("sam", self._sam[0], UNTRAINED), made)  # type: ignore[no-any-return]


def load(settings: Settings) -> SCLIP:
    """The CLIP of a run; with ``pretrained`` ``none`` it and all others have random weights.

    Raises:
        UserError: an unknown name, or weights that cannot be had.
    """
    device = find_device(settings.device)
    dtype = find_dtype(settings.dtype, device)
    random = settings.pretrained == UNTRAINED
    spec = (
        find_untrained(settings.model)
        if random
        else find_model(settings.model, settings.pretrained)
    )
    model = SCLIP(spec, Attention.parse("csa"), device, dtype)
    model.networks = (RandomNetworks if random else Networks)(
        settings.proxy_model,
        settings.proxy_weights,
        settings.sam_encoder or settings.sam_model,
        str(settings.sam_checkpoint) if settings.sam_checkpoint else None,
        device,
        DTYPES[dtype],
    )
    return model


def flops_of(call: Callable[[], object]) -> int:
    """Floating-point operations of a call; a multiplication and an addition are two.

    Those of matrix products, convolutions and PyTorch's attention are counted; not those of
    element-wise operations, norms and softmax, nor anything of Numba's or of a kernel of one's own.
    """
    from torch.utils.flop_counter import FlopCounterMode

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation, which nobody counts
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


def passes(
    model: SCLIP, window: tuple[int, int], methods: list[Method]
) -> Iterator[tuple[str, str, int, Callable[[], object]]]:
    """One pass of each network: its name, its input, its parameters, and the pass itself.

    Args:
        model: of the run.
        window: height and width of a window in pixels.
        methods: whose second networks are among them.
    """
    device, clip = model.device, model.network
    visual = sum(p.numel() for p in clip.visual.parameters())
    whole = sum(p.numel() for p in clip.parameters())
    shown = f"{window[0]}×{window[1]}"
    pixels = torch.zeros(1, 3, *window, device=device)
    yield "image tower", shown, visual, partial(model.encoder.tokens, pixels)
    context = int(model.spec.config["text_cfg"].get("context_length", CONTEXT))
    prompt = torch.zeros(1, context, dtype=torch.long, device=device)
    text = whole - visual - clip.logit_scale.numel()
    yield "text tower", f"{context} tokens", text, partial(clip.encode_text, prompt)
    seen: set[int] = set()
    for method in methods:
        if method.second_taps:
            second = model.networks.second(method)
            count = sum(p.numel() for p in second.vit.parameters())
            if id(second) not in seen:
                yield (
                    f"second, {method.name}",
                    shown,
                    count,
                    partial(second.taps, pixels, method.second_taps),
                )
            seen.add(id(second))
        if method.reads_sam:
            trunk = model.networks.sam()
            count = sum(p.numel() for p in trunk.network.parameters())
            if id(trunk) not in seen:
                image = torch.zeros(*window, 3, dtype=torch.uint8).numpy()
                yield "SAM's encoder", f"{SAM_SIDE}×{SAM_SIDE}", count, partial(trunk.input, image)
            seen.add(id(trunk))
