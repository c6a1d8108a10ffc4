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

from flows.cli.attention import attention_files, point_of, show_attention
from flows.cli.heat import check_heat, save_heat
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
Classes = Annotated[
    str | None,
    Parameter(help="'cat, kitten; grass': classes by ';', synonyms by ', '; or a file."),
]
Heat = Annotated[
    list[str] | None,
    Parameter(
        help="Show how similar each pixel is to a class or to one of its words: 'cat; kitten'.",
        negative=(),
    ),
]
HeatOut = Annotated[
    Path | None,
    Parameter(
        help="Heat maps to write: arrays by word (.npz), a figure (.pdf, .svg, .png), or a folder "
        "for WORD.npy and WORD.png; for several images, a folder."
    ),
]
AttentionOf = Annotated[
    str | None,
    Parameter(
        help="Show instead what the pixel of row Y and column X attends to in the last block: Y,X. "
        "Needs no --classes; -o is a .png, .pdf or .svg. [IMAGE.attention.sclip.png]"
    ),
]
AttentionOut = Annotated[Path | None, Parameter(help="Its weights to write, (H, W) float32: .npy.")]
AttentionHeads = Annotated[
    bool, Parameter(help="Each head beside their mean; the array is (heads, H, W).", negative=())
]


@with_settings(flag, SEGMENT_SETTINGS)
def segment(
    *images: Path,
    classes: Classes = None,
    output: Output = None,
    labels_out: LabelsOut = None,
    heat: Heat = None,
    heat_out: HeatOut = None,
    attention_of: AttentionOf = None,
    attention_out: AttentionOut = None,
    attention_heads: AttentionHeads = False,
    preset: Preset = None,
    config: Config = None,
    pamr: Pamr = None,
    slide: Slide = None,
    use_sam: UseSam = False,
    **given: Any,
) -> int:
    """Segment photographs, or a folder of them, with your own words."""
    from sclip_core.datasets import Vocabulary

    if not images:
        raise UserError("no image given: sclip segment photo.jpg --classes 'cat, kitten; grass'")
    given = {"images": images[0].parent, **given}
    if attention_of is not None:
        words = {"--classes": classes, "--labels-out": labels_out, "--heat": heat}
        needless = [flag for flag, value in {**words, "--heat-out": heat_out}.items() if value]
        picture = attention_files(images, output, attention_out, needless)
        point = point_of(attention_of)
        settings = only_one(settings_of(preset, config, pamr, slide, use_sam, given))
        return _attend(images[0], point, settings, attention_heads, picture, attention_out)
    if attention_out or attention_heads:
        raise UserError("--attention-out and --attention-heads need --attention-of Y,X")
    if classes is None:
        raise UserError("no words to look for: pass --classes 'cat, kitten; grass', or a file")
    vocabulary = Vocabulary.given(classes, single=True)
    wanted = asked_heat(heat or [], vocabulary)
    settings = only_one(settings_of(preset, config, pamr, slide, use_sam, given))
    return _segment(images, vocabulary, settings, wanted, (output, labels_out, heat_out))


def _attend(
    image: Path,
    point: tuple[int, int],
    settings: Settings,
    heads: bool,
    picture: Path,
    array: Path | None,
) -> int:
    """Show what a pixel attends to."""
    from sclip_core.datasets import Reading, read_image

    with _without_garbage_collection():
        from sclip_core.methods.attended import check_attends, check_point
    pixels = read_image(image, Reading.of(settings))
    check_point(point, (pixels.shape[0], pixels.shape[1]))  # before CLIP is loaded
    check_attends(settings.method)
    model = _loaded(settings)
    show_attention(model, pixels, point, settings, heads, picture, array)
    return 0


def _segment(
    images: Sequence[Path],
    vocabulary: Vocabulary,
    settings: Settings,
    heat: Sequence[str],
    targets: tuple[Path | None, Path | None, Path | None],
) -> int:
    """Segment images; the targets are pictures, label maps, heat maps."""
    from sclip_core.datasets import Reading, read_image
    from sclip_core.datasets.thresholds import threshold_notes

    alone = len(images) == 1 and not os.path.isdir(images[0])
    parts = alone and in_parts(settings, targets[1], heat)
    pixels = read_image(images[0], Reading.of(settings)) if alone and not parts else None
    for line in (vocabulary.summary, *vocabulary.notes, *threshold_notes([settings], vocabulary)):
        note(line)
    if alone:
        jobs = [one_job(images[0], targets[0], targets[1])._replace(heat=targets[2])]
    else:
        jobs = several_jobs(images, *targets)
    if targets[2] is not None:
        taken = [file for job in jobs for file in job[:3] if file is not None]
        check_heat(targets[2], heat, taken, alone)
    for line in _about_images(images, jobs, settings):
        note(line)
    propose = _mask_source(settings)  # before CLIP is loaded: weights may be missing
    model = _loaded(settings)
    _check_words(model, vocabulary, settings.template_set)
    for line in model.spec.notes:
        note(line)
    if parts:
        segment_raster(model, vocabulary, settings, jobs[0])
        return 0
    work = Work(model, vocabulary, settings, propose, heat)
    if pixels is None:
        return _do_all(work, jobs, images)
    work.do(jobs[0], pixels)
    return 0


def _loaded(settings: Settings) -> SCLIP:
    """The model."""
    with _without_garbage_collection():
        from sclip_core import SCLIP

    return SCLIP.load(**_model_of(settings))


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
        if job.labels is not None:
            if is_geotiff(job.labels):
                save_geotiff(found.labels, self.vocabulary, job.image, job.labels)
            else:
                save(fromarray(self.vocabulary.as_values(found.labels)), job.labels)
            print(printable(str(job.labels)), flush=True)
        if job.heat is not None:
            save_heat(pixels, found.heat, job.heat)
            print(printable(str(job.heat)), flush=True)


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
