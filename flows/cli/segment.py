"""``sclip segment``: photographs segmented with words of one's own, as pictures."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flows.cli.options import (
    Config,
    Pamr,
    Preset,
    Slide,
    UseSam,
    note,
    only_one,
    settings_of,
)
from flows.cli.raster import in_parts, is_geotiff, save_geotiff, segment_raster
from flows.cli.targets import Job, one_job, save, several_jobs
from flows.parameters import flag, with_settings
from sclip_core.config import OF_MASKS, ImageError, Protocol, Settings, UserError, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sclip_core import SCLIP, Vocabulary

MODEL_SETTINGS = ("model", "pretrained", "device", "dtype", "attention")
NETWORK_SETTINGS = ("proxy_model", "proxy_weights", "sam_encoder")  # of methods that read more

SEGMENT_SETTINGS = (
    *MODEL_SETTINGS,
    *NETWORK_SETTINGS,
    "plugins",
    "exif",
    "pixel_range",
    *(name for name in Protocol.model_fields if name != "vocabulary"),
    *sorted(set(OF_MASKS) - {"keep_embeddings", "points_per_batch"}),
)
MasksOf = Callable[[Any, Path], Any]
MOST_HEAT = 15  # maps that fit in a picture

Output = Annotated[
    Path | None,
    Parameter(
        name=("--output", "-o"),
        help="Picture to write: PNG, JPEG or WebP; for several images, a folder. [IMAGE.sclip.png]",
    ),
]
LabelsOut = Annotated[
    Path | None,
    Parameter(
        help="Label map to write: PNG, or GeoTIFF (.tif) with the image's georeference; value k is "
        "class k; for several images, a folder."
    ),
]
Heat = Annotated[
    list[str] | None,
    Parameter(
        help="Show how similar each pixel is to a class or to one of its words: 'cat; kitten'.",
        negative=(),
    ),
]


@with_settings(flag, SEGMENT_SETTINGS)
def segment(
    *images: Path,
    classes: Annotated[
        str, Parameter(help="'cat, kitten; grass': classes by ';', synonyms by ', '; or a file.")
    ],
    output: Output = None,
    labels_out: LabelsOut = None,
    heat: Heat = None,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    use_sam: UseSam = False,
    **given: Any,
) -> int:
    """Segment photographs, or a folder of them, with your own words."""
    from sclip_core.datasets import Reading, Vocabulary, read_image
    from sclip_core.datasets.thresholds import threshold_notes

    if not images:
        raise UserError("no image given: sclip segment photo.jpg --classes 'cat, kitten; grass'")
    alone = len(images) == 1 and not os.path.isdir(images[0])
    vocabulary = Vocabulary.given(classes, single=True)
    wanted = asked_heat(heat or [], vocabulary)
    given = {"images": images[0].parent, **given}
    settings = only_one(settings_of(preset, config, pamr, slide, use_sam, given))
    parts = alone and in_parts(settings, labels_out, wanted)
    pixels = read_image(images[0], Reading.of(settings)) if alone and not parts else None
    for line in (vocabulary.summary, *vocabulary.notes, *threshold_notes([settings], vocabulary)):
        note(line)
    if alone:
        jobs = [one_job(images[0], output, labels_out)]
    else:
        jobs = several_jobs(images, output, labels_out)
    for line in _about_images(images, jobs, settings):
        note(line)
    with _without_garbage_collection():
        from sclip_core import SCLIP

    propose = _mask_source(settings)  # before CLIP is loaded: weights may be missing
    model = SCLIP.load(**_model_of(settings))
    _check_words(model, vocabulary, settings.template_set)
    for line in model.spec.notes:
        note(line)
    if parts:
        segment_raster(model, vocabulary, settings, jobs[0])
        return 0
    work = Work(model, vocabulary, settings, propose, wanted)
    if pixels is None:
        return _do_all(work, jobs, images)
    work.do(jobs[0], pixels)
    return 0


@dataclass(frozen=True)
class Work:
    """What is done with every image."""

    model: SCLIP
    vocabulary: Vocabulary
    settings: Settings
    propose: MasksOf | None
    heat: Sequence[str]

    def do(self, job: Job, pixels: NDArray[np.uint8]) -> None:
        """Segment a photograph (H, W, 3), write its files, print their names.

        Raises:
            ImageError: it cannot be segmented.
            DiskError: a file cannot be written.
        """
        from PIL.Image import fromarray

        from sclip_core.drawing import poster

        found = self.model.segment(
            pixels,
            self.settings,
            self.vocabulary,
            masks=self.propose(pixels, job.image) if self.propose else None,
            rule=self.settings.hybrid_rule,
            heat=self.heat,
        )
        save(poster(pixels, found.labels, found.class_names, found.heat), job.picture)
        print(printable(str(job.picture)), flush=True)
        if job.labels is not None and is_geotiff(job.labels):
            save_geotiff(found.labels, self.vocabulary, job.image, job.labels)
            print(printable(str(job.labels)), flush=True)
        elif job.labels is not None:
            save(fromarray(self.vocabulary.as_values(found.labels)), job.labels)
            print(printable(str(job.labels)), flush=True)


def _check_words(model: SCLIP, vocabulary: Vocabulary, templates: str) -> None:
    """Say what is to be known of the words for this model.

    Raises:
        UserError: it cannot read a word, or not tell two classes apart.
    """
    for line in model.word_notes(vocabulary.named_words, templates):
        note(line)


def _do_all(work: Work, jobs: Sequence[Job], given: Sequence[Path]) -> int:
    """Segment the images that can be used and name the others; returns 1 if there are any."""
    from flows.cli.console import report_left_out
    from sclip_core.datasets import Reading, decode_image, read_sample
    from sclip_core.datasets.samples import folders_called_images

    reading = Reading.of(work.settings)
    left_out = []
    for job in jobs:
        try:
            work.do(job, decode_image(read_sample(job.image), str(job.image), reading))
        except ImageError as error:
            left_out.append(str(error))
    for folder in filter(os.path.isdir, given):
        places = folders_called_images(folder)
        left_out += [f"{place} is a folder: expected an image file" for place in places]
    return report_left_out(left_out)


def _about_images(given: Sequence[Path], jobs: Sequence[Job], settings: Settings) -> list[str]:
    """What a user should know of the files before they are segmented, a line each."""
    from sclip_core.datasets import Reading
    from sclip_core.datasets.samples import skipped_below
    from sclip_core.datasets.survey import survey

    folders = filter(os.path.isdir, given)
    skipped = [f"{folder}: {line}" for folder in folders if (line := skipped_below(folder))]
    return [*skipped, *survey([job.image for job in jobs], Reading.of(settings), settings)]


def asked_heat(given: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """The classes and words that are asked for, each once: 'cat, kitten; grass', or 'cat,grass'.

    Raises:
        UserError: no class or word of that name, or more than fit in a picture.
    """
    names: dict[str, None] = {}
    for part in _parts(given, ";"):
        try:
            vocabulary.words_of(part)
            names[part] = None
        except UserError:
            for word in _parts([part], ","):
                vocabulary.words_of(word)
                names[word] = None
    if given and not names:
        raise UserError("--heat names no class and no word: --heat 'cat; kitten'")
    if len(names) > MOST_HEAT:
        raise UserError(f"{len(names)} heat maps: a picture has room for {MOST_HEAT}, name fewer")
    return list(names)


def _parts(texts: Iterable[str], mark: str) -> list[str]:
    """The parts between marks, without empty ones."""
    return [part.strip() for text in texts for part in text.split(mark) if part.strip()]


def _model_of(settings: Settings) -> dict[str, Any]:
    """The arguments of ``SCLIP.load``."""
    given = {name: getattr(settings, name) for name in MODEL_SETTINGS}
    if settings.method is None:
        return given
    weights = settings.sam_checkpoint
    return given | {
        "attention": None,
        "method": settings.method,
        "proxy": settings.proxy_model,
        "proxy_pretrained": settings.proxy_weights,
        "sam": settings.sam_encoder or settings.sam_model,
        "sam_pretrained": str(weights) if weights else None,
    }


def _mask_source(settings: Settings) -> MasksOf | None:
    """What gives the masks of an image (H, W, 3) and its file; None: the run has none.

    Raises:
        UserError: mode baseline, or the source cannot be opened.
    """
    from sclip_core.config.methods import reads_masks
    from sclip_core.masks import MaskFiles, mask_source

    if settings.mode == "baseline":
        raise UserError(
            "--mode baseline leaves pixels outside of masks unlabelled, so only `sclip run` "
            "takes it: pass --mode hybrid --hybrid-rule crop, which classifies masks the same way"
        )
    if settings.mode == "dense" and not reads_masks(settings.method):
        return None
    if settings.masks is not None:
        files = MaskFiles(settings, folder=settings.masks)
        files.check()
        return lambda pixels, file: files.of_image(file.stem, (pixels.shape[0], pixels.shape[1]))
    source = mask_source(
        settings.proposals,
        settings.sam_checkpoint,
        settings.device,
        settings.dtype,
        **settings.relevant(),
    )
    return lambda pixels, file: source(pixels)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Around PyTorch's import, whose millions of objects stay until the process ends.

    Scanning them again and again takes a fifth of the time until one photograph is done.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
        atexit.register(gc.unfreeze)  # else Triton's bindings print what they have not freed
