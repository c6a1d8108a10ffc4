"""The order of the stages, written down once.

images, ground truth, vocabulary
    │
    ▼
text_bank ──────────┐
    │               ▼
dense_features ──► refine ──► metrics ──► results
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sclip_core.stages.dense_features import DenseFeaturesStage
from sclip_core.stages.metrics import MetricsStage
from sclip_core.stages.panels import save_panels
from sclip_core.stages.refine import RefineStage
from sclip_core.stages.report import Outcome
from sclip_core.stages.results import ResultsStage
from sclip_core.stages.run import Run
from sclip_core.stages.stage import Stage
from sclip_core.stages.text_bank import TextBankStage

AnyStage = Stage | ResultsStage


@dataclass(frozen=True)
class Pipeline:
    """The stages of a run, in the order in which they are executed."""

    text_bank: TextBankStage
    dense_features: DenseFeaturesStage
    refine: RefineStage
    metrics: MetricsStage
    results: ResultsStage

    @classmethod
    def of(cls, run: Run) -> Pipeline:
        """Connect the stages of a run."""
        bank = TextBankStage(run)
        features = DenseFeaturesStage(run)
        labels = RefineStage(run, features, bank)
        areas = MetricsStage(run, labels)
        return cls(bank, features, labels, areas, ResultsStage(run, areas))

    def __iter__(self) -> Iterator[AnyStage]:
        """Stage after stage."""
        yield from (self.text_bank, self.dense_features, self.refine, self.metrics, self.results)


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
    """Execute every stage in order; draw the pictures that were asked for.

    Args:
        run: what the stages share.
        execute: executes one stage; None: in this process, without more ado.

    Raises:
        UserError: what only shows on the way, such as weights that do not fit.
    """
    run.check()
    stages = Pipeline.of(run)
    for stage in stages:
        (execute or _execute)(stage)
    if run.settings.save_vis:
        save_panels(stages.refine, run.settings.save_vis)
    return Finished(
        run_id=stages.results.run_id,
        path=stages.results.path,
        row=stages.results.read("runs")[0],
        classes=stages.results.read("class_iou"),
        outcomes=dict(run.outcomes),
        failures=dict(run.failures),
    )


def _execute(stage: AnyStage) -> Outcome:
    return stage.execute()
