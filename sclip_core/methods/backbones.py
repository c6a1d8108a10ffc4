"""Which of open_clip's models run, and with which methods: the table of docs/backbones.md.

``python -m sclip_core.methods.backbones`` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sclip_core.config import UserError
from sclip_core.encoder import zoo
from sclip_core.encoder.loading import meta_tower
from sclip_core.encoder.towers import backbone_of, why_not
from sclip_core.methods.registry import BUILT_IN, method_class

HEAD = "| model | image tower | CLS | methods | tokenizer |\n|---|---|---|---|---|"
OWN_TOKENIZER = "CLIP's"


class Row(NamedTuple):
    """A model of open_clip's."""

    name: str
    tower: str  # class, patch and blocks; of one that is refused: why
    cls: str  # "yes", or why methods cannot use one
    methods: str
    tokenizer: str

    @property
    def runs(self) -> bool:
        """Whether it gives dense features."""
        return self.methods != "refused"

    def __str__(self) -> str:
        """A line of the table."""
        return f"| {' | '.join(self)} |"


def rows() -> Iterator[Row]:
    """A row for each model of the open_clip that is installed, in its order."""
    for name in zoo.list_models():
        yield row_of(name)


def row_of(name: str) -> Row:
    """The row of a model; its image tower is built, without memory."""
    config: dict[str, Any] = zoo.get_model_config(name) or {}
    tokenizer = config["text_cfg"].get("hf_tokenizer_name") or OWN_TOKENIZER
    try:
        visual = meta_tower(name, config)
    except UserError as error:
        return Row(name, str(error), "", "refused", tokenizer)
    reason = why_not(visual)
    if reason is not None:
        return Row(name, reason, "", "refused", tokenizer)
    tower = backbone_of(visual, name).facts
    kind = f"timm {type(visual.trunk).__name__}" if hasattr(visual, "trunk") else "open_clip ViT"
    described = f"{kind}, {tower.layers} blocks, patch {tower.patch}"
    needing = [n for n in BUILT_IN if (kind_ := method_class(n)) and kind_.needs_cls]
    methods = "all" if tower.has_cls else f"all but {', '.join(needing)}"
    return Row(name, described, tower.cls or "yes", methods, tokenizer)


def table() -> str:
    """The table in Markdown."""
    return "\n".join([HEAD, *map(str, rows())])


if __name__ == "__main__":
    print(table())
