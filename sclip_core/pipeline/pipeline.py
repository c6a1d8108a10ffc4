"""The order of the stages, written down once.

images, ground truth, vocabulary
    │
    ▼
text_bank ──────────┐
    │               ▼
dense_features ──► refine ─────────┬──► metrics ──► results ◄── boundary, object_sizes, which
    ▲                              ▼       ▲                    read what metrics does, if asked for
  trunk, where it is kept       hybrid ────┘   where there are masks
                                   ▲
proposals ─────────────────────────┤
    ▲    └──► crop_features ───────┘           for its rule crop
  sam_embeddings, where they are kept

Without ground truth the label maps are the end: no metrics, no results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sclip_core.config import Settings
from sclip_core.datasets.drawn import folders_of
from sclip_core.datasets.thresholds import threshold_notes
from sclip_core.encoder.taps import Tap, union
from sclip_core.methods.method import Method
from sclip_core.pipeline.executing import AnyStage
from sclip_core.pipeline.executing import execute as execute_stage
from sclip_core.pipeline.pictures import save_panels
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.saving import picture_path
from sclip_core.pipeline.sharing import share_fresh, share_passes
from sclip_core.pipeline.stage import Stage
from sclip_core.pipeline.stages.crop_features import CropFeaturesStage
from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage
from sclip_core.pipeline.stages.details import BoundaryStage, ObjectSizesStage
from sclip_core.pipeline.stages.hybrid import HybridStage
from sclip_core.pipeline.stages.label_maps import LabelMapStage
from sclip_core.pipeline.stages.metrics import MetricsStage
from sclip_core.pipeline.stages.proposals import ProposalsStage
from sclip_core.pipeline.stages.proxy_features import SAM, ProxyFeaturesStage
from sclip_core.pipeline.stages.refine import RefineStage
from sclip_core.pipeline.stages.results import ResultsStage, nothing_usable, refuse_gaps
from sclip_core.pipeline.stages.sam_embeddings import SamEmbeddingsStage
from sclip_core.pipeline.stages.text_bank import TextBankStage, word_notes
from sclip_core.pipeline.stages.trunk import TrunkStage, layers_of
from sclip_core.pipeline.work import at_hand
from sclip_core.progress import Outcome
from sclip_core.results.build import run_name


@dataclass(frozen=True)
class Pipeline:
    """The stages of a run, in the order in which they are executed.

    Those that the run does not have are there, but never asked for anything.
    """

    text_bank: TextBankStage
    trunk: TrunkStage
    taps: tuple[TrunkStage, ...]
    """What the method reads of the tower, ``trunk`` among it."""
    proxy_features: tuple[ProxyFeaturesStage, ...]
    """What the method reads of second networks."""
    dense_features: DenseFeaturesStage
    refine: RefineStage
    sam_embeddings: SamEmbeddingsStage
    proposals: ProposalsStage
    crop_features: CropFeaturesStage
    hybrid: HybridStage
    metrics: MetricsStage
    boundary: BoundaryStage
    object_sizes: ObjectSizesStage
    results: ResultsStage

    @classmethod
    def of(cls, run: Run) -> Pipeline:
        """Connect the stages of a run."""
        bank = TextBankStage(run)
        trunk = TrunkStage(run)
        embeddings = SamEmbeddingsStage(run)
        has_encoder = run.models.source.has_encoder
        proposals = ProposalsStage(run, kept=[embeddings] if has_encoder else ())
        method = run.chosen.method if run.settings.mode != "baseline" else None
        taps, second = _taps(run, trunk, method), _second(run, method)
        features = DenseFeaturesStage(run, taps, bank, proposals, second)
        dense = RefineStage(run, features, bank, proposals)
        crops = CropFeaturesStage(run, proposals)
        hybrid = HybridStage(run, proposals, bank, features, dense, crops)
        labels = dense if run.settings.mode == "dense" else hybrid
        areas = MetricsStage(run, labels)
        boundary, sizes = BoundaryStage(run, labels), ObjectSizesStage(run, labels)
        results = ResultsStage(run, areas, [boundary, sizes])
        return cls(
            text_bank=bank,
            trunk=trunk,
            taps=taps,
            proxy_features=second,
            dense_features=features,
            refine=dense,
            sam_embeddings=embeddings,
            proposals=proposals,
            crop_features=crops,
            hybrid=hybrid,
            metrics=areas,
            boundary=boundary,
            object_sizes=sizes,
            results=results,
        )

    @classmethod
    def of_several(cls, runs: Sequence[Run]) -> list[Pipeline]:
        """Connect runs that differ in what may have several values: they share their passes."""
        words = runs[0].inputs.dataset.vocabulary  # its faults are told before those of a model
        notes = threshold_notes([run.settings for run in runs], words)
        pipelines = [cls.of(run) for run in runs]
        for line in (*notes, *word_notes([pipeline.text_bank for pipeline in pipelines])):
            runs[0].reporter.note(line)
        dense = [p for p in pipelines if "dense_features" in p.run.settings.stages]
        if len(pipelines) > 1:
            stages = (stage for pipeline in pipelines for stage in pipeline)
            share_fresh(stage for stage in stages if isinstance(stage, Stage))
            share_passes(pipeline.text_bank for pipeline in pipelines)
            share_passes(pipeline.dense_features for pipeline in dense)
            share_passes(pipeline.refine for pipeline in dense)
            share_passes(pipeline.metrics for pipeline in pipelines if pipeline.run.settings.scored)
        share_passes(stage for pipeline in dense for stage in pipeline.taps)
        share_passes(stage for pipeline in dense for stage in pipeline.proxy_features)
        return pipelines

    @property
    def run(self) -> Run:
        """The run of which these are the stages."""
        return self.results.run

    @property
    def labels(self) -> LabelMapStage:
        """The stage whose label maps are scored, or saved where there is no ground truth."""
        return self.refine if self.run.settings.mode == "dense" else self.hybrid

    @property
    def name(self) -> str:
        """The run's id; of a run that is not scored, a name by its label maps."""
        if self.run.settings.scored:
            return self.results.run_id
        return run_name(self.run.inputs.dataset.name, self.labels.key)

    def __iter__(self) -> Iterator[AnyStage]:
        """The stages that the run has, in the order in which they are executed."""
        for name in self.run.settings.stages:
            several = {"trunk": self.taps, "proxy_features": self.proxy_features}
            yield from several.get(name) or [getattr(self, name)]

    @property
    def read_by_features(self) -> tuple[AnyStage, ...]:
        """The stages that the method's features depend on beside CLIP, and what these read."""
        read = set(self.dense_features.upstream if self.dense_features in tuple(self) else ())
        read |= {kept for stage in read for kept in stage.reads}
        return tuple(stage for stage in self if stage in read)

    def stage(self, label: str) -> AnyStage:
        """A stage by its label: ``refine``, ``trunk:h4``."""
        return next(s for s in self if s.label == label)


def _taps(run: Run, trunk: TrunkStage, method: Method | None) -> tuple[TrunkStage, ...]:
    """A stage for each tap of the method, first that of what the last block gets."""
    if method is None:
        return (trunk,)
    last = Tap.of(layers_of(run) - 1)
    others = [tap for tap in union([method.taps(layers_of(run))]) if tap != last]
    return (trunk, *(TrunkStage(run, tap) for tap in others))


def _second(run: Run, method: Method | None) -> tuple[ProxyFeaturesStage, ...]:
    """A stage for each tap of the method's second networks."""
    if method is None:
        return ()
    names = [*method.second_taps, *([SAM] if method.reads_sam else [])]
    return tuple(ProxyFeaturesStage(run, name) for name in names)


@dataclass(frozen=True)
class Finished:
    """What remains of a run: small enough to be handed around.

    A run without ground truth is in no table: no id, no path, and nothing in ``row`` and
    ``classes``.
    """

    outcomes: dict[str, Outcome]  # what each stage did
    failures: dict[str, str]  # image id: why it was left out
    faults: tuple[str, ...]  # what was left out of the ground truth of others, a line each
    settings: Settings
    num_images: int  # that were scored; without ground truth, whose label maps were saved
    pictures: Path | None  # folder of what was saved
    picture: Path | None = None  # the first of it
    run_id: str | None = None
    path: str | None = None  # of its row in the table ``runs``
    row: dict[str, Any] = field(default_factory=dict)  # that row
    classes: list[dict[str, Any]] = field(default_factory=list)  # its rows of ``class_iou``

    @property
    def left_out(self) -> list[str]:
        """What could not be used, a line each: images, and parts of the ground truth."""
        return [*self.failures.values(), *self.faults]


def mark_in_use(pipelines: Sequence[Pipeline]) -> None:
    """Keep ``sclip gc`` from what the runs of a command use, which share a lease."""
    stages = (stage for pipeline in pipelines for stage in pipeline)
    paths = [stage.artifact.path for stage in stages if isinstance(stage, Stage)]
    run = pipelines[0].run
    run.lease.use([*paths, *folders_of(run.inputs.dataset, run.settings.local_artifacts)])


def run_pipeline(run: Run, execute: Callable[[AnyStage], object] | None = None) -> Finished:
    """Execute every stage of one run, as ``run_pipelines`` does for several."""
    return run_pipelines([run], execute)[0]


def run_pipelines(
    runs: Sequence[Run], execute: Callable[[AnyStage], object] | None = None
) -> list[Finished]:
    """Execute every stage of one run after the other; save the pictures that were asked for.

    Args:
        runs: ``Run.several``.
        execute: executes one stage; None: in this process, directly.

    Raises:
        UserError: what only shows on the way, such as weights that do not fit, or that no image
            could be used.
    """
    for run in runs:
        run.check()
    _tell_of_devices(runs[0])
    alone = len(runs) == 1
    lease = runs[0].lease  # which all of them share
    try:
        pipelines = Pipeline.of_several(runs)
        mark_in_use(pipelines)
        with at_hand(pipelines):
            run_stage = execute or execute_stage
            done = first_stages(pipelines)
            for stage in done:  # before the first pass, which is for all runs
                run_stage(stage)
            return [_run_one(each, run_stage, alone, done) for each in pipelines]
    finally:
        lease.close()
        if runs[0].runner:
            runs[0].runner.close()


def first_stages(pipelines: Sequence[Pipeline]) -> list[AnyStage]:
    """What a pass for several runs depends on, of each artifact the first run's stage."""
    if len(pipelines) == 1:
        return []
    first: dict[str, AnyStage] = {}
    for pipeline in pipelines:
        for stage in pipeline:
            if isinstance(stage, Stage):  # the key of results depends on what will be there
                first.setdefault(stage.key, stage)
    wanted = {stage.key for pipeline in pipelines for stage in pipeline.read_by_features}
    banks = {pipeline.text_bank.key for pipeline in pipelines}
    if len(banks) > 1:  # one pass labels an image by the words of all
        wanted |= banks
    return [stage for key, stage in first.items() if key in wanted]


def _run_one(
    pipeline: Pipeline,
    execute: Callable[[AnyStage], object],
    alone: bool,
    done: Sequence[AnyStage],
) -> Finished:
    """Execute the stages of a run, but for those that were executed already."""
    for stage in pipeline:
        if stage not in done:
            execute(stage)
    run, results = pipeline.run, pipeline.results
    folder, saved = _save(pipeline, alone)
    finished = Finished(
        outcomes=dict(run.journal.outcomes),
        failures=dict(run.journal.failures),
        faults=tuple(run.journal.faults),
        settings=run.settings,
        num_images=saved,
        pictures=folder,
        picture=_first_picture(run, folder) if saved else None,
    )
    if not run.settings.scored:
        rows, inputs = pipeline.labels.rows(), run.inputs
        pairs = zip(inputs.samples, inputs.image_digests, strict=True)
        refuse_gaps(run, {s.image_id for s, digest in pairs if digest in rows}, "a label map")
        if not saved:
            raise nothing_usable(run)
        return finished
    row = results.read("runs")[0]
    return replace(
        finished,
        num_images=row["num_images"],
        run_id=results.run_id,
        path=results.path,
        row=row,
        classes=results.read("class_iou"),
    )


def _save(pipeline: Pipeline, alone: bool) -> tuple[Path | None, int]:
    """Save the pictures that were asked for; gives their folder and how many they are."""
    folder = pipeline.run.settings.save_vis
    if folder is None:
        return None, 0
    folder = folder if alone else folder / pipeline.name
    return folder, save_panels(pipeline.labels, folder)


def _first_picture(run: Run, folder: Path | None) -> Path | None:
    """The picture of the first image that was not left out."""
    usable = (s.image_id for s in run.inputs.samples if s.image_id not in run.journal.failures)
    return next((picture_path(folder, image_id) for image_id in usable if folder), None)


def _tell_of_devices(run: Run) -> None:
    """Say that several GPUs compute, where nobody asked for a number of parts."""
    count = run.models.device_count
    if count > 1 and "shards" not in run.settings.model_fields_set:
        run.reporter.note(
            f"{count} GPUs: each computes its part of the images (--shards 1 or --device cuda:0 "
            "for one of them)"
        )
