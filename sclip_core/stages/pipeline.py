"""The order of the stages, written down once.

images, ground truth, vocabulary
    │
    ▼
text_bank ──────────┐
    │               ▼
dense_features ──► refine ─────────┬──► metrics ──► results
    ▲                              ▼       ▲
  trunk, where it is kept       hybrid ────┘   where there are masks
                                   ▲
proposals ─────────────────────────┤
    ▲    └──► crop_features ───────┘           for its rule crop
  sam_embeddings, where they are kept
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sclip_core.stages.dense_features import DenseFeaturesStage
from sclip_core.stages.hybrid import CropFeaturesStage, HybridStage
from sclip_core.stages.masks import ProposalsStage, SamEmbeddingsStage
from sclip_core.stages.metrics import MetricsStage
from sclip_core.stages.panels import save_panels
from sclip_core.stages.refine import RefineStage
from sclip_core.stages.report import Outcome
from sclip_core.stages.results import ResultsStage
from sclip_core.stages.run import Run
from sclip_core.stages.stage import Stage
from sclip_core.stages.text_bank import TextBankStage
from sclip_core.stages.trunk import TrunkStage
from sclip_core.store.keys import canonical_json

AnyStage = Stage | ResultsStage


@dataclass(frozen=True)
class Pipeline:
    """The stages of a run, in the order in which they are executed."""

    text_bank: TextBankStage
    trunk: TrunkStage
    dense_features: DenseFeaturesStage
    refine: RefineStage
    sam_embeddings: SamEmbeddingsStage
    proposals: ProposalsStage
    crop_features: CropFeaturesStage
    hybrid: HybridStage
    metrics: MetricsStage
    results: ResultsStage

    @classmethod
    def of(cls, run: Run) -> Pipeline:
        """Connect the stages of a run; those that it does not have are never asked for anything."""
        bank = TextBankStage(run)
        trunk = TrunkStage(run)
        features = DenseFeaturesStage(run, trunk)
        dense = RefineStage(run, features, bank)
        embeddings = SamEmbeddingsStage(run)
        proposals = ProposalsStage(run, embeddings)
        crops = CropFeaturesStage(run, proposals)
        hybrid = HybridStage(run, proposals, bank, features, dense, crops)
        areas = MetricsStage(run, dense if run.settings.mode == "dense" else hybrid)
        results = ResultsStage(run, areas)
        return cls(
            bank, trunk, features, dense, embeddings, proposals, crops, hybrid, areas, results
        )

    @classmethod
    def of_several(cls, runs: Sequence[Run]) -> list[Pipeline]:
        """Connect runs that differ in what may have several values: they share their passes."""
        pipelines = [cls.of(run) for run in runs]
        if len(pipelines) > 1:
            fresh: dict[str, set[str]] = defaultdict(set)
            for stage in (stage for pipeline in pipelines for stage in pipeline):
                if isinstance(stage, Stage):
                    stage.fresh = fresh[stage.key]
            dense = [p for p in pipelines if "dense_features" in p.results.run.settings.stages]
            share([pipeline.dense_features for pipeline in dense])
            for alike in _grouped([pipeline.refine for pipeline in dense]):
                share(alike)
        return pipelines

    @property
    def labels(self) -> RefineStage | HybridStage:
        """The stage whose label maps are scored."""
        return self.refine if self.results.run.settings.mode == "dense" else self.hybrid

    def __iter__(self) -> Iterator[AnyStage]:
        """Stage after stage."""
        for name in self.results.run.settings.stages:
            yield getattr(self, name)


def _grouped(stages: Sequence[RefineStage]) -> list[list[RefineStage]]:
    """Those that one pass can fill, side by side."""
    groups: dict[str, list[RefineStage]] = defaultdict(list)
    for stage in stages:
        groups[canonical_json(stage.pass_settings())].append(stage)
    return list(groups.values())


def share(stages: Sequence[Stage]) -> None:
    """Let the first of these stages that lacks a row compute it for all.

    Several may have one artifact, as runs do that differ in PAMR steps alone: the first is told.
    """
    first_of: dict[str, Stage] = {}
    for stage in stages:
        first_of.setdefault(stage.key, stage)
    for stage in stages:
        stage.together = tuple(other for key, other in first_of.items() if key != stage.key)


@dataclass(frozen=True)
class Finished:
    """What remains of a run: small enough to be handed around."""

    run_id: str
    path: str  # of its row in the table ``runs``
    row: dict[str, Any]  # that row
    classes: list[dict[str, Any]]  # its rows of ``class_iou``
    outcomes: dict[str, Outcome]  # what each stage did
    failures: dict[str, str]  # image id: why it was left out


def run_pipeline(run: Run, execute: Callable[[AnyStage], object] | None = None) -> Finished:
    """Execute every stage of one run; see ``run_pipelines``."""
    return run_pipelines([run], execute)[0]


def run_pipelines(
    runs: Sequence[Run], execute: Callable[[AnyStage], object] | None = None
) -> list[Finished]:
    """Execute every stage of one run after the other; draw the pictures that were asked for.

    Args:
        runs: ``Run.several``.
        execute: executes one stage; None: in this process, without more ado.

    Raises:
        UserError: what only shows on the way, such as weights that do not fit.
    """
    for run in runs:
        run.check()
    alone = len(runs) == 1
    return [_run_one(each, execute or _execute, alone) for each in Pipeline.of_several(runs)]


def _run_one(pipeline: Pipeline, execute: Callable[[AnyStage], object], alone: bool) -> Finished:
    """Execute the stages of a run."""
    for stage in pipeline:
        execute(stage)
    run, results = pipeline.results.run, pipeline.results
    if run.settings.save_vis:
        folder = run.settings.save_vis
        save_panels(pipeline.labels, folder if alone else folder / results.run_id)
    return Finished(
        run_id=results.run_id,
        path=results.path,
        row=results.read("runs")[0],
        classes=results.read("class_iou"),
        outcomes=dict(run.outcomes),
        failures=dict(run.failures),
    )


def _execute(stage: AnyStage) -> Outcome:
    return stage.execute()
