"""Contrastive training (Radford et al. 2021, section 2.3) with patch dropout.

The model sees only a quarter of a picture's patches (FLIP, Li et al. 2023) and must recognise it
by them: each patch learns to represent what it shows, and a step costs a third.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from open_clip.loss import ClipLoss
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sclip_core.demo.training.pictures import Batch
from sclip_core.demo.training.tokens import Tokens
from sclip_core.encoder.pixels import MEAN, STD
from sclip_core.encoder.text import encode_prompts

LARGEST_SCALE = math.log(100)  # of the logits, as in the paper


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, apart from the rounding of a machine."""

    steps: int = 26_000
    batch: int = 128
    shows: int = 3  # times that a picture is shown, each time with another caption
    rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 300  # steps
    patch_dropout: float = 0.75
    ema: float = 0.999
    seed: int = 0


class MaskedClipLoss(ClipLoss):  # type: ignore[misc]
    """CLIP's loss in which captions that are true of several pictures are no negatives.

    With fifteen classes most captions fit several pictures of a batch: as negatives they would
    teach that grass is not grass.
    """

    def __init__(self) -> None:
        """Set ``true`` before each batch."""
        super().__init__()
        self.true: Tensor = torch.empty(0)  # (B, B) bool of the next batch, see ``Batch.true``

    def get_logits(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Logits (B, B) of pictures to captions and back, -inf for true pairs off the diagonal."""
        per_image, per_text = super().get_logits(*args, **kwargs)
        also_true = self.true.clone().fill_diagonal_(False)
        return (
            per_image.masked_fill(also_true, -torch.inf),
            per_text.masked_fill(also_true.T, -torch.inf),
        )


class Trainer:
    """The model, the average of its weights, the optimiser, and the current step."""

    def __init__(self, recipe: Recipe, config: dict[str, Any], device: torch.device) -> None:
        """Create a model with random weights.

        Args:
            recipe: its seed decides the weights.
            config: open_clip's model config.
            device: where to train, in bf16 on a GPU and in fp32 on a CPU.
        """
        torch.manual_seed(recipe.seed)
        config = copy.deepcopy(config)
        config["vision_cfg"]["patch_dropout"] = recipe.patch_dropout
        self.tokens = Tokens(config["text_cfg"]["vocab_size"])
        config["text_cfg"]["vocab_size"] = len(self.tokens.used)
        self.recipe, self.device, self.step = recipe, device, 0
        self.model = open_clip.CLIP(**config).to(device)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=recipe.rate,
            betas=(0.9, 0.98),
        )
        self.loss = MaskedClipLoss()

    def take(self, batch: Batch) -> float:
        """Do one step and return its loss."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            images, texts = self._embed(self.model, batch)
        self.loss.true = batch.true.to(self.device)
        loss = self.loss(images.float(), texts.float(), self.model.logit_scale.exp())
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, LARGEST_SCALE)
        self.average.update_parameters(self.model)
        self.step += 1
        return float(loss.detach())

    def rate(self) -> float:
        """The learning rate of the next step: a linear warm-up, then half a cosine down to 0."""
        warm = min(1.0, (self.step + 1) / max(1, self.recipe.warmup))
        left = 0.5 + 0.5 * math.cos(math.pi * self.step / self.recipe.steps)
        return self.recipe.rate * warm * left

    @torch.no_grad()
    def accuracy(self, batch: Batch) -> float:
        """The share of pictures whose best caption is true, by the averaged weights."""
        images, texts = self._embed(self.average.module.eval(), batch)
        best = (images @ texts.T).argmax(-1).cpu()
        return float(batch.true[torch.arange(len(best)), best].float().mean())

    def state(self) -> dict[str, Any]:
        """Everything that ``restore`` needs."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "random": torch.get_rng_state(),  # which decides the patches that are dropped
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"].cpu())
        self.step = state["step"]

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights in fp16, with the whole table of token embeddings."""
        state = {k: v.detach().cpu().half() for k, v in self.average.module.state_dict().items()}
        state["token_embedding.weight"] = self.tokens.whole(state["token_embedding.weight"])
        return {name: value.contiguous() for name, value in state.items()}

    def _embed(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Unit vectors (B, D) of the pictures, and of the captions."""
        mean, std = (torch.tensor(values, device=self.device) for values in (MEAN, STD))
        pixels = ((batch.images.to(self.device).float() - mean) / std).permute(0, 3, 1, 2)
        prompts = self.tokens.small(batch.prompts).to(self.device)
        return (
            normalize(model.encode_image(pixels), dim=-1),
            normalize(encode_prompts(model, prompts), dim=-1),
        )
