"""Models built without drawing weights: filled from a file, they are as those that were drawn."""

from __future__ import annotations

import threading

import pytest
import torch

from sclip_core.encoder import find_model, load_model
from sclip_core.encoder.loading import _build
from sclip_core.tensors.undrawn import Undrawn

from .models import make, small_config
from .timm_towers import TRUNKS

CPU = torch.device("cpu")


def assert_same(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """Parameters and buffers, also those that no file holds."""
    for kind in ("named_parameters", "named_buffers"):
        found, expected = dict(getattr(ours, kind)()), dict(getattr(theirs, kind)())
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value), name


@pytest.mark.parametrize("top", [{}, {"custom_text": True}])
def test_a_loaded_clip_draws_nothing(tmp_path, top):
    made = make(tmp_path, small_config(**top))
    spec = find_model(**made.arguments)
    before = torch.random.get_rng_state()
    loaded = load_model(spec, CPU)
    assert_same(loaded, made.clip)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", TRUNKS)
def test_towers_of_other_libraries(kind):
    drawn = TRUNKS[kind]()
    with Undrawn():
        ours = TRUNKS[kind]()
    ours.load_state_dict(drawn.state_dict())
    assert_same(ours, drawn)


def test_random_weights_are_drawn_as_before():
    config = small_config()
    torch.manual_seed(0)
    expected = _build("small", config)
    torch.manual_seed(0)
    assert_same(_build("small", config), expected)
    assert expected.visual.class_embedding.detach().std() > 0


def test_only_the_thread_that_builds_draws_nothing():
    found = []
    with Undrawn():
        thread = threading.Thread(target=lambda: found.append(torch.zeros(9).normal_()))
        thread.start()
        thread.join()
        assert not torch.zeros(9).normal_().any()
        assert not torch.nn.init.kaiming_uniform_(torch.zeros(3, 3)).any()
        assert torch.randn(2, 3).shape == (2, 3)
    assert found[0].any()
    assert torch.zeros(9).normal_().any()
