"""What the stages that run CLIP's image tower have in common: full passes, one row an image."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Geometry, ImageError
from sclip_core.encoder.clip import CLIP, default_batch_size
from sclip_core.encoder.lazy import LazyWindows
from sclip_core.encoder.taps import Tap, union
from sclip_core.encoder.views import VIEWS
from sclip_core.pipeline.sharing import SharingStage
from sclip_core.pipeline.stage import Stage
from sclip_core.store.arrays import ArrayTable, NewRow

MANY = 100  # images for which it pays to tell of a faster way
Taps = dict[Tap, Tensor]  # outputs of the tower's blocks, each (windows, 1+N, width)


class Windows(NamedTuple):
    """The windows of an image, on their way through the tower or through what follows it."""

    digest: str
    geometry: Geometry
    pixels: Tensor | LazyWindows | None  # (windows, 3, h, w) for each view; None: taps were kept
    taps: Taps | None = None

    @property
    def number(self) -> int:
        """The number of windows, of all views."""
        value = self.pixels if self.taps is None else next(iter(self.taps.values()))
        return 0 if value is None else len(value)


class EncodingStage(SharingStage):
    """One row an image: a vector for each token of its windows, window by window."""

    shardable = True
    sees_images = True
    table: ArrayTable

    def settings(self) -> dict[str, Any]:
        """Image tower, resize, windows, dtype."""
        settings, spec = self.run.settings, self.run.models.spec
        whole = settings.slide_crop == 0
        return {
            "vision_cfg": spec.config["vision_cfg"],
            "quick_gelu": bool(spec.config.get("quick_gelu")),
            "mean": list(spec.mean),
            "std": list(spec.std),
            "dtype": self.run.models.dtype,
            "short_side": None if settings.tile else settings.short_side,
            "slide_crop": settings.slide_crop,
            "slide_stride": None if whole else settings.slide_stride,
            **self._unusual(),
        }

    def _unusual(self) -> dict[str, Any]:
        """What few methods ask for; left out where it is as usual, as older keys have it."""
        settings = self.run.settings
        found: dict[str, Any] = {}
        if settings.window_multiple:
            found["window_multiple"] = settings.window_multiple
        if settings.image_multiple:
            found["image_multiple"] = settings.image_multiple
        if settings.tile:
            found["tile"] = True
        if self.views != ("original",):
            found["views"] = list(self.views)
        if self.positions != "reference":
            found["positions"] = self.positions
        return found

    @property
    def views(self) -> tuple[str, ...]:
        """The versions of each window that the tower sees."""
        method = self.run.chosen.method
        return method.views if method else ("original",)

    @property
    def positions(self) -> str:
        """How the position table is resized; of no account for windows that take it as it is.

        So a method with a rule of its own shares the pass of others on such windows. On images
        that are lower than a window its rule is then theirs.
        """
        method, settings = self.run.chosen.method, self.run.settings
        native = int(self.run.models.spec.config["vision_cfg"].get("image_size", 224))
        usual = method is None or settings.slide_crop == native
        return "reference" if usual or method is None else method.positions

    def pass_settings(self) -> dict[str, Any]:
        """The model, and all that decides what the tower gets; what follows it may differ."""
        return {**EncodingStage.settings(self), "weights": self.weights_sha256()}

    def weights_sha256(self) -> str:
        """The digest of CLIP's weights."""
        return self.run.models.weights_sha256

    @property
    @abstractmethod
    def needed(self) -> tuple[Tap, ...]:
        """What the stage reads of the tower."""

    def of_pass(
        self, clip: CLIP, taps: Taps, grid: tuple[int, int], stages: Sequence[Stage]
    ) -> dict[Stage, Tensor]:
        """What stages keep of one pass, of those for which that is decided window by window.

        Args:
            clip: the model.
            taps: of the windows of a pass, of any images.
            grid: patch rows and columns.
            stages: this one, or those together with it.

        Returns:
            By stage (windows, ..., width).
        """
        return {}

    def of_image(self, clip: CLIP, windows: Windows, taps: Taps) -> tuple[Tensor, Geometry] | None:
        """What the stage keeps of an image, where ``of_pass`` does not say it.

        Args:
            clip: the model.
            windows: of the image.
            taps: of its windows.

        Returns:
            (..., width), and the image's geometry; None: it was left out.
        """
        raise NotImplementedError(f"{self.name} keeps nothing of an image as a whole")

    def loader(self, clip: CLIP, together: Sequence[Stage]) -> Callable[[str], Windows]:
        """Reads the windows of an image, each view in turn.

        Args:
            clip: the model.
            together: the stages that the pass is for.
        """
        image, settings = self.run.inputs.image, self.run.settings

        def cut(digest: str) -> Windows:
            geometry, windows = clip.windows_of(image(digest), settings)
            if self.views != ("original",):
                windows = torch.cat([VIEWS[view](windows[:]) for view in self.views])
            return Windows(digest, geometry, windows)

        return cut

    def compute_shared(
        self, ids: Iterable[str], others: Mapping[Stage, Set[str]], shard: int
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Encode images, as many at a time as fill a forward pass with windows."""
        clip, ids = self.run.models.clip(shard), list(ids)
        if len(ids) >= MANY:
            self.run.models.advise(clip.device)
        together = [self, *(stage for stage, lacking in others.items() if lacking)]
        group: list[Windows] = []
        for _, windows in self.loaded(self.loader(clip, together), ids):
            group.append(windows)
            if sum(one.number for one in group) >= self._full(clip, group[0].geometry):
                yield from self._encode_group(clip, group, others)
                group = []
        if group:
            yield from self._encode_group(clip, group, others)

    def _full(self, clip: CLIP, geometry: Geometry) -> int:
        """Windows that fill a forward pass."""
        given = self.run.settings.batch_size
        return given or default_batch_size(clip.device, geometry.frame, clip.spec.patch)

    def _encode_group(
        self, clip: CLIP, group: Sequence[Windows], others: Mapping[Stage, Set[str]]
    ) -> Iterator[tuple[Stage, list[NewRow]]]:
        """Rows of a group of images; windows of one size share forward passes."""
        by_size: dict[Any, list[Windows]] = defaultdict(list)
        for windows in group:
            alone = windows.digest if isinstance(windows.pixels, LazyWindows) else None
            by_size[windows.geometry.frame, windows.taps is None, alone].append(windows)
        for same in by_size.values():
            digests = {windows.digest for windows in same}
            wanting = {self: digests, **{stage: ids & digests for stage, ids in others.items()}}
            stages: list[Any] = [stage for stage, ids in wanting.items() if ids]
            taps, kept = self._encode_windows(clip, same, stages)
            for stage in stages:
                rows = []
                for number, windows in enumerate(same):
                    if windows.digest not in wanting[stage]:
                        continue
                    if stage in kept:
                        row = self._row(stage, windows, kept[stage][number], windows.geometry)
                    else:
                        found = stage.of_image(clip, windows, taps[number])
                        row = self._row(stage, windows, found[0].cpu(), found[1]) if found else None
                    rows += [row] if row else []
                yield stage, rows

    def _encode_windows(
        self, clip: CLIP, same: Sequence[Windows], stages: Sequence[Any]
    ) -> tuple[list[Taps], dict[Stage, list[Tensor]]]:
        """Run the tower over windows of one size.

        Returns:
            The taps of each image, where a stage reads them as a whole; and for each stage that
            does not what it keeps of each image, on the CPU.
        """
        geometry = same[0].geometry
        counts = [windows.number for windows in same]
        wanted = union(stage.needed for stage in stages)
        together: dict[Any, Any]
        if same[0].taps:
            together = {t: torch.cat([one.taps[t] for one in same if one.taps]) for t in wanted}
        elif isinstance(same[0].pixels, LazyWindows):
            together = {None: same[0].pixels}
        else:
            cut = [one.pixels for one in same if isinstance(one.pixels, Tensor)]
            together = {None: torch.cat(cut)}
        by_pass: list[Taps] = []
        kept: dict[Stage, list[Tensor]] = defaultdict(list)
        size = self._full(clip, geometry)
        for start in range(0, sum(counts), size):
            self.run.between_passes()
            part = {name: value[start : start + size] for name, value in together.items()}
            taps = part if same[0].taps else clip.encoder.taps(part[None], wanted, self.positions)
            found = self.of_pass(clip, taps, geometry.tokens, stages)
            for stage, values in found.items():
                kept[stage].append(values.to("cpu"))
            if len(found) < len(stages):
                by_pass.append(taps)
        whole = {tap: torch.cat([taps[tap] for taps in by_pass]) for tap in wanted if by_pass}
        split = {tap: value.split(counts) for tap, value in whole.items()}
        of_images = [
            {tap: parts[number] for tap, parts in split.items()} for number in range(len(same))
        ]
        return of_images, {s: list(torch.cat(v).split(counts)) for s, v in kept.items()}

    def _row(
        self, stage: Stage, windows: Windows, values: Tensor, geometry: Geometry
    ) -> NewRow | None:
        """A row of a stage, unless its numbers are none."""
        flat: NDArray[Any] = values.flatten(0, -2).numpy()
        if not np.isfinite(flat).all():
            error = ImageError(
                f"its features in {self.run.models.dtype} are not finite numbers: "
                "try --dtype fp32, and check the weights"
            )
            if stage is self:  # the others find out by themselves
                self.leave_out(windows.digest, error)
            return None
        return NewRow(windows.digest, flat, {"size": list(geometry.original)})

    def geometry(self, size: Sequence[int]) -> Geometry:
        """The windows of an image of this height and width."""
        return Geometry.of(size[0], size[1], self.run.settings, self.run.models.spec.patch)
