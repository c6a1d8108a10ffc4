"""Weights and vectors that are not finite numbers are named with their file, tensor or word."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from sclip_core import SCLIP, UserError, Vocabulary
from sclip_core.encoder import TextBank
from sclip_core.tensors import is_finite

from .models import make, small_config


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("model"), small_config())


@pytest.fixture
def clip(made):
    """A model that a test may spoil."""
    return SCLIP.load(**made.arguments, device="cpu")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (torch.nan, torch.float32),
        (torch.inf, torch.float32),
        (-torch.inf, torch.bfloat16),
        (1e6, torch.float16),  # becomes infinite in the file
        (1e300, torch.float64),  # becomes infinite in the model
    ],
)
def test_weights(made, tmp_path, suffix, value, dtype):
    state = {name: tensor.to(dtype, copy=True) for name, tensor in made.clip.state_dict().items()}
    state["visual.transformer.resblocks.1.mlp.c_fc.weight"][3, 2] = value
    path = tmp_path / f"odd{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    with pytest.raises(UserError) as error:
        SCLIP.load(str(made.json), str(path), device="cpu")
    assert str(error.value) == (
        f"{path}: 1 of the 4096 numbers of 'visual.transformer.resblocks.1.mlp.c_fc.weight' are "
        "not finite: the file is damaged, or its training diverged. Fetch or copy it again"
    )


def test_what_is_no_weight_may_be_infinite(made, tmp_path):
    state = {**made.clip.state_dict(), "attn_mask": torch.full((77, 77), -torch.inf).triu_(1)}
    save_file(state, tmp_path / "archive.safetensors")
    SCLIP.load(str(made.json), str(tmp_path / "archive.safetensors"), device="cpu")


def test_a_word(clip):
    token = clip._tokenizer(["zebra"])[0, 1]
    clip._clip.token_embedding.weight[token] = torch.nan
    assert clip.text_bank(["cat"]).embeddings.isfinite().all()
    with pytest.raises(UserError, match="the text vector of the word 'zebra' holds NaN"):
        clip.text_bank(["cat", "zebra"])


def test_a_bank(clip):
    bank = clip.text_bank(["cat", "dog", "zebra"])
    vectors = bank.embeddings.clone()
    vectors[1, 3] = torch.inf
    with pytest.raises(UserError, match="the text vector of the word 'dog' holds NaN"):
        TextBank(vectors, bank.query_class, bank.class_names, bank.queries)


def test_features(clip):
    """Weights that are finite, and features that are not."""
    image = torch.zeros(224, 260, 3, dtype=torch.uint8).numpy()
    clip.encoder.visual.conv1.weight[0] = 3e38
    for ask in (clip.segment, clip.logits, clip.dense_similarity):
        with pytest.raises(UserError, match="the features hold NaN or infinite numbers"):
            ask(image, classes=Vocabulary.from_classes(["cat", "dog"]))


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]
)
def test_is_finite(dtype):
    largest = torch.finfo(dtype).max
    values = torch.full((1000, 7), largest, dtype=dtype)  # their sum is not
    assert is_finite(values)
    assert is_finite(values[::3, 1:4])
    assert is_finite(values[:0])
    for bad in (torch.nan, torch.inf, -torch.inf):
        values[500, 3] = bad
        assert not is_finite(values)
        assert is_finite(values[:500])
    values[501, 3] = torch.inf  # with -inf
    assert not is_finite(values)


def test_is_finite_of_other_kinds():
    assert is_finite(torch.tensor([1, 2]))
    assert is_finite(torch.tensor([True]))
    assert is_finite(torch.ones(3).to(torch.float8_e4m3fn))
    assert not is_finite(torch.tensor([torch.nan]).to(torch.float8_e5m2))
