"""One run: its settings and what its stages share, each opened when it is first needed.

A run whose artifacts are all there opens no weights; one that only refines loads no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Lock
from typing import Any

from sclip_core.config import STAGE_SPECS, STAGES, Settings, UserError
from sclip_core.config.plugins import load_plugins
from sclip_core.datasets.vocabulary import Vocabulary
from sclip_core.masks.sources import MaskFiles
from sclip_core.methods.registry import check_cls, choose
from sclip_core.pipeline.frozen import compare_before
from sclip_core.pipeline.inputs import Inputs
from sclip_core.pipeline.journal import Journal
from sclip_core.pipeline.models import Models
from sclip_core.pipeline.runners import runner_of
from sclip_core.pipeline.saving import check_place
from sclip_core.progress import Reporter, Silent
from sclip_core.provenance import device_name, git_commit, versions
from sclip_core.store.leases import lease_of


class Run:
    """What the stages of one run share.

    Attributes:
        settings: of the run.
        chosen: what labels the pixels: the method with its parameters, refiner and steps after.
        attention: of CLIP's last block, where no method has one of its own.
        inputs: the dataset, its images and ground truth.
        models: CLIP and the source of masks.
        lease: the rows that this process computes.
        journal: what became of the run.
        runner: of pieces of work in other processes; None: threads of this one.
        stop: when it is set, the stages end after the batch that they are at.
        between_passes: called between two passes of the encoder; what it raises gives up the image.
        lock: of what stages do once, whichever shard begins.
        stages: names of the stages of all runs of the command.
    """

    def __init__(
        self,
        settings: Settings,
        reporter: Reporter | None = None,
        download: bool = True,
        beside: Run | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """Check what can be checked at once; open, draw and write nothing.

        Args:
            settings: of the run.
            reporter: who is told about progress; None: nobody.
            download: whether weights named by a tag may be fetched; False: nothing is written
                either, to look at what a run would do.
            beside: another run of the same command, which shares what it has.
            vocabulary: other words for the same classes, of a run beside another one; None: its.

        Raises:
            UserError: an attention or a device that there is not.
        """
        load_plugins(settings.plugins)
        self.settings, self._compared = settings, False
        self.between_passes: Callable[[], object] = _go_on
        self.root = settings.artifacts
        self.chosen = choose(settings, settings.attention)
        self.attention = self.chosen.attention
        if beside is None:
            self.reporter: Reporter = reporter or Silent()
            self.inputs = Inputs(settings, self.reporter, keep=download)
            self.models = Models(settings, self.inputs.digests, download, self.reporter.note)
            self.lease = lease_of(settings.artifacts)
            self.runner = runner_of(settings, self.models.device, self.models.device_count)
            self.stop, self.lock = Event(), Lock()
            self.stages = set(settings.stages)
        else:
            self.reporter, self.inputs, self.models = beside.reporter, beside.inputs, beside.models
            if vocabulary is not None:
                self.inputs = beside.inputs.with_words(vocabulary)
            self.lease, self.stop, self.lock = beside.lease, beside.stop, beside.lock
            self.runner = beside.runner
            self.stages = beside.stages
            self.stages.update(settings.stages)
        self.journal = Journal(self.reporter, settings.strict, self.inputs.journal)

    @classmethod
    def several(
        cls, settings: Sequence[Settings], reporter: Reporter | None = None, download: bool = True
    ) -> list[Run]:
        """Runs that differ in what may have several values: one dataset, one model.

        Args:
            settings: of the runs, as ``resolve_several`` gives them.
            reporter: who is told about progress; None: nobody.
            download: as for one run.

        Raises:
            UserError: an attention or a device that there is not.
        """
        first = cls(settings[0], reporter, download)
        return [first, *(cls(other, beside=first) for other in settings[1:])]

    @property
    def shards(self) -> int:
        """Parts of the long stages: as many as were asked for, else one for each GPU."""
        asked = "shards" in self.settings.model_fields_set
        return self.settings.shards if asked else self.models.device_count

    def check(self) -> None:
        """Find what would stop the run only after hours of work.

        Raises:
            UserError: a dataset or a model that is not there or cannot be used, a folder for
                pictures that cannot be written to or is needed and not given, a stage forced
                that the run does not have, or what is not as in the frozen file.
        """
        self.compare_with_frozen()
        if self.settings.address and self.settings.runner not in ("dask", "ray"):
            raise UserError(
                f"--address {self.settings.address} is of Dask's scheduler or Ray's cluster: add "
                "--runner dask or --runner ray"
            )
        if self.runner:
            self.runner.check()
        check_place(self.settings, self.inputs.dataset.samples)
        check_cls(self.chosen.method, self.models.spec.name, self.models.spec.tower)
        if "dense_features" in self.settings.stages:
            self.models.check_networks(self.settings, self.chosen.method)
        for stage in self.settings.force:
            if stage not in self.stages:
                there = ", ".join(name for name in STAGES if name in self.stages)
                raise UserError(
                    f"--force {stage} {STAGE_SPECS[stage].lacking}: the run has no such stage; "
                    f"it has {there}"
                )
        if "proposals" in self.settings.stages:
            source = self.models.source
            source.check()
            if isinstance(source, MaskFiles):
                source.check_names(sample.image_id for sample in self.inputs.dataset.samples)

    def compare_with_frozen(self) -> None:
        """See, once, that settings, words, weights and images are those of the frozen file.

        Raises:
            UserError: they are not.
        """
        if not self._compared:
            for line in compare_before(self):
                self.reporter.note(line)
        self._compared = True

    def provenance(self) -> dict[str, Any]:
        """What an artifact was made with; recorded in manifests, never hashed."""
        return {
            "versions": versions(),
            "git_commit": git_commit(),
            "device": device_name(self.models.device),
            "model": self.settings.model,
            "pretrained": self.settings.pretrained,
        }


def _go_on() -> None:
    """What is begun is finished."""
