"""Mean and std of a model's training images, by which the pixels that it gets are normalised.

The weights in a file do not tell them, and with other ones every score is wrong without an error.
What tells: open_clip's entry of the same weights, a config beside them, and the entries of all
weights that were published for the architecture, where these agree.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from sclip_core.config import UserError
from sclip_core.config.errors import few
from sclip_core.config.json_file import read_json
from sclip_core.encoder import zoo
from sclip_core.encoder.pixels import MEAN, STD

OPENAI_MEAN, OPENAI_STD = zoo.openai_constants()
PREPROCESSOR = "preprocessor_config.json"  # beside the config.json of transformers


class Normalization(NamedTuple):
    """How pixels are normalised, on the 0–1 scale."""

    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD

    @classmethod
    def of(cls, found: dict[str, Any], place: object, prefix: str = "") -> Normalization | None:
        """Those of an entry of open_clip or of a config; None: it has none.

        Raises:
            UserError: they are not three numbers, or a std is not positive.
        """
        parts = []
        for key, default in (("mean", OPENAI_MEAN), ("std", OPENAI_STD)):
            value = found.get(prefix + key)
            value = default if value is None else value
            listed = value if isinstance(value, list | tuple) else [value] * 3
            are_numbers = all(isinstance(v, int | float) for v in listed) and len(listed) == 3
            if not are_numbers or (key == "std" and min(listed) <= 0):
                raise UserError(f"{place}: {prefix}{key} is {value!r}, expected three numbers")
            parts.append(tuple(map(float, listed)))
        given = any(found.get(prefix + key) is not None for key in ("mean", "std"))
        return cls(*parts) if given else None

    @property
    def of_bytes(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std on the 0–255 scale; OpenAI's, as the reference rounds them."""
        mean, std = (tuple(255 * value for value in values) for values in self)
        if max(abs(a - b) for a, b in zip(mean + std, MEAN + STD, strict=True)) < 0.01:
            return MEAN, STD
        return mean, std

    def __str__(self) -> str:
        """``mean 0.5, std 0.5``: a number for each channel where they differ."""
        mean, std = (f"{v[0]:g}" if len({*v}) == 1 else " ".join(map(str, v)) for v in self)
        return f"mean {mean}, std {std}"


def in_config(path: Path) -> Normalization | None:
    """What the config of a model, or the one of its preprocessing beside it, says; None: nothing.

    Args:
        path: an ``open_clip_config.json`` or a JSON like it, or transformers' ``config.json``.

    Raises:
        UserError: the file cannot be read, or has no three numbers there.
    """
    if path.name == "config.json":
        beside = path.with_name(PREPROCESSOR)
        found = read_json(beside) if beside.is_file() else None
        return Normalization.of(found, beside, "image_") if isinstance(found, dict) else None
    found = read_json(path, "model config ")
    given = found.get("preprocess_cfg") if isinstance(found, dict) else None
    return Normalization.of(given, path) if isinstance(given, dict) else None


def as_published(name: str, path: Path) -> tuple[Normalization, list[str]]:
    """What the published weights of an architecture say of a file that nothing else is known of.

    Args:
        name: open_clip's, of the architecture.
        path: of the weights.

    Returns:
        Mean and std, and a note where they are not OpenAI's or the published weights do not agree.
    """
    tags: dict[str, Normalization] = {}
    for tag in zoo.list_pretrained_tags_by_model(name):
        entry = zoo.get_pretrained_cfg(name, tag)
        tags[tag] = Normalization.of(entry, tag) or Normalization()
    kinds = Counter(found.of_bytes for found in tags.values())
    if len(kinds) == 1:
        found = next(iter(tags.values()))
        is_usual = found.of_bytes == (MEAN, STD)
        note = f"{name} with {found}: as all its published weights"
        return found, [] if is_usual else [note]
    others = [tag for tag, found in tags.items() if found.of_bytes != (MEAN, STD)]
    if not others:  # none published
        return Normalization(), []
    return Normalization(), [
        f"{path.name} does not say its mean and std: OpenAI's are taken, which are not those of "
        f"{name}'s tag {few(others)}; for such weights pass the tag, or a JSON with preprocess_cfg"
    ]


def normalization_of(
    name: str,
    path: Path,
    by_weights: tuple[Normalization | None, str],
    config_file: Path | None,
    is_listed: bool,
) -> tuple[Normalization, list[str]]:
    """Decide mean and std for weights in a file.

    Args:
        name: of the model.
        path: of the weights.
        by_weights: what is known of this file, and by what.
        config_file: of the model, where it has one of its own.
        is_listed: the architecture is open_clip's of that name.

    Returns:
        Mean and std, and a note where they are not OpenAI's, or might have to be others.

    Raises:
        UserError: a config has no three numbers there.
    """
    found, why = by_weights
    if found is None and config_file is not None:
        found, why = in_config(config_file), f"{config_file.name} says so"
    if found is not None:
        is_usual = found.of_bytes == (MEAN, STD)
        return found, [] if is_usual else [f"{name} with {found}: {why}"]
    return as_published(name, path) if is_listed else (Normalization(), [])
