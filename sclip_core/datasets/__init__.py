"""Datasets: benchmarks and the user's own images, vocabularies, images and label maps."""

from sclip_core.datasets.dataset import Dataset, open_dataset
from sclip_core.datasets.images import (
    Reading,
    decode_image,
    image_size,
    read_bytes,
    read_image,
    read_sample,
)
from sclip_core.datasets.labels import (
    IGNORED,
    StrayValueError,
    check_sizes,
    decode_label,
    label_classes,
    read_label,
)
from sclip_core.datasets.sample import Sample
from sclip_core.datasets.vocabulary import Vocabulary

__all__ = [
    "IGNORED",
    "Dataset",
    "Reading",
    "Sample",
    "StrayValueError",
    "Vocabulary",
    "check_sizes",
    "decode_image",
    "decode_label",
    "image_size",
    "label_classes",
    "open_dataset",
    "read_bytes",
    "read_image",
    "read_label",
    "read_sample",
]
