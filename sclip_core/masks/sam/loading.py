"""SAM's weights: Meta's files by path, or downloaded by name; pickled code is never executed."""

from __future__ import annotations

import os
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sclip_core.config import UserError
from sclip_core.config.network import url_fault_within
from sclip_core.masks.proposals import coco
from sclip_core.tensors import check_weights, first_mismatch, read_state
from sclip_core.tensors.half import cast

SERVER = os.environ.get("SCLIP_SAM_URL", "https://dl.fbaipublicfiles.com/segment_anything")


class Known(NamedTuple):
    """A file that Meta publishes."""

    name: str
    sha256: str
    megabytes: int
    width: int  # of its image encoder, which tells the sizes apart


CHECKPOINTS = {
    "vit_b": Known(
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        358,
        768,
    ),
    "vit_l": Known(
        "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1192,
        1024,
    ),
    "vit_h": Known(
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2446,
        1280,
    ),
}
WIDTH_OF = "image_encoder.patch_embed.proj.bias"


def find_checkpoint(size: str, given: Path | None, download: bool = True) -> Path:
    """Find the weights file of a SAM.

    Args:
        size: ``vit_b``, ``vit_l`` or ``vit_h``.
        given: the file that the user named; None: Meta's, in torch's cache or downloaded to it.
        download: download a file that is not there; False: never touch the network.

    Raises:
        UserError: the given file does not exist; Meta's is not cached and cannot be downloaded.
    """
    if given is not None:
        if not os.path.isfile(given):
            found = "is not a file" if os.path.exists(given) else "does not exist"
            raise UserError(f"SAM's checkpoint {given} {found}: pass one of Meta's .pth files")
        return given
    known = CHECKPOINTS[size]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / known.name
    if os.path.isfile(cached):
        return cached
    url = f"{SERVER}/{known.name}"
    advice = f"fetch {url} ({known.megabytes} MB) yourself and pass it: --sam-checkpoint FILE"
    if not download:
        raise UserError(f"SAM's weights {known.name} are not in {cached.parent}: {advice}")
    fault = url_fault_within(url)
    if fault:
        raise UserError(f"{known.name} could not be fetched ({fault}): {advice}")
    return _fetched(url, cached, known, advice)


def _fetched(url: str, target: Path, known: Known, advice: str) -> Path:
    """Download a file; it gets its name only when it is complete and its digest is right."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target), hash_prefix=known.sha256)
    except (OSError, HTTPException, ValueError, RuntimeError) as error:  # URLError is an OSError
        reason = str(error).strip().splitlines() or [type(error).__name__]
        line = f"{known.name} could not be fetched ({reason[0][:200]}): {advice}"
        raise UserError(line) from None
    return target


def load_sam(size: str, path: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Load a SAM, in eval mode.

    Args:
        size: ``vit_b``, ``vit_l`` or ``vit_h``.
        path: of the weights.
        device: where to load it.
        dtype: of encoder and decoder; the encoder's neck and the prompt encoder stay in fp32.

    Returns:
        ``segment_anything.modeling.Sam``.

    Raises:
        UserError: segment_anything is not installed; the file is torn, of another size, or holds
            numbers that are not finite.
    """
    state = read_state(path)
    sam = _filled(size, state, path)
    check_weights(state, path)
    mean, std = sam.pixel_mean, sam.pixel_std
    sam.pixel_mean = torch.tensor([123.675, 116.28, 103.53]).view(mean.shape)
    sam.pixel_std = torch.tensor([58.395, 57.12, 57.375]).view(std.shape)
    sam.eval().requires_grad_(False).to(device)
    cast(sam.image_encoder, sam.image_encoder.blocks, dtype)
    for part, kind in (
        (sam.image_encoder.neck, torch.float32),
        (sam.mask_decoder, dtype),
        (sam.prompt_encoder, torch.float32),
    ):
        part.to(kind)
    return sam


def check_checkpoint(size: str, path: Path) -> None:
    """Check that a weights file is complete and of this SAM; its numbers are not read.

    Raises:
        UserError: it is torn, or of another size.
    """
    _filled(size, read_state(path, mapped=True), path)


def _filled(size: str, state: dict[str, Tensor], path: Path) -> Any:
    """A SAM with these weights, on the CPU."""
    width = state[WIDTH_OF].numel() if WIDTH_OF in state else None
    if width != CHECKPOINTS[size].width:
        raise _another(path, size, width)
    with torch.device("meta"):  # no memory, no random numbers: every weight is in the file
        sam = library()[size]()
    try:
        sam.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit SAM's {size}: {first_mismatch(error)}") from None
    return sam


def library() -> dict[str, Any]:
    """segment_anything's builders by size.

    Raises:
        UserError: segment_anything or pycocotools is not installed.
    """
    coco()
    try:
        from segment_anything import sam_model_registry
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("segment_anything", "torchvision"):
            raise
        raise UserError(
            "segment_anything is not installed: pip install 'sclip-benchmark[sam]', or take masks "
            "that need no weights: --proposals felzenszwalb"
        ) from None
    found: dict[str, Any] = sam_model_registry
    return found


def _another(path: Path, size: str, width: int | None) -> UserError:
    """The error for the weights of another size, or of another network."""
    right = [name for name, known in CHECKPOINTS.items() if known.width == width]
    if right:
        return UserError(f"{path} is SAM's {right[0]}, not {size}: pass --sam-model {right[0]}")
    return UserError(
        f"{path} holds no weights of SAM: expected Meta's {CHECKPOINTS[size].name} for {size}"
    )
