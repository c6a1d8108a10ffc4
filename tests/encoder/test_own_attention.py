"""Attention of users: registering, tensors that it may spoil, what it returns, its key."""

from __future__ import annotations

import functools

import pytest
import torch

from sclip_core import UserError
from sclip_core.config import resolve
from sclip_core.encoder import POLICIES, Attention, DenseEncoder, policy
from sclip_core.pipeline.pipeline import Pipeline
from sclip_core.pipeline.run import Run

from ..conftest import TINY
from ..flows.conftest import write_own
from .models import build, small_config

BUILT_IN = {  # as version 0.1.0 made them: another key makes every user's features useless
    "csa": "d914bb3f1c8a2b8e",
    "csa:vanilla": "d914bb3f1c8a2b8e",
    "vanilla": "ee233c36fa161dea",
    "maskclip": "fa176b50d2258e42",
    "clearclip": "578d54057aa7b49e",
    "naclip": "74c82c1300acda4b",
    "kk": "5b2fbf4cb7d058f0",
    "csa:reduced": "5734716fcc57cb9e",
    "naclip:vanilla": "6b58245b32e0b980",
}


def mine(q, k, v, grid):
    return torch.nn.functional.scaled_dot_product_attention(v, v, v)


def another(q, k, v, grid):
    return v


def spoils(q, k, v, grid):
    """In place, and what it gives back is what it was given."""
    k *= 3
    out = torch.nn.functional.scaled_dot_product_attention(k, k, v)
    q.copy_(out)
    v.fill_(7)
    return q


@pytest.fixture(autouse=True)
def policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr("sclip_core.encoder.attention.POLICIES", dict(POLICIES))


@pytest.fixture(scope="module")
def visual() -> torch.nn.Module:
    return build(small_config(vision={"image_size": 64})).visual


@pytest.fixture(scope="module")
def key_of(tmp_path_factory):
    """The key of dense_features by attention."""
    root = tmp_path_factory.mktemp("keys")
    own = write_own(root / "own", 1)
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}

    def of(attention: str) -> str:
        given = {**paths, **TINY, "artifacts": root, "device": "cpu", "attention": attention}
        return Pipeline.of(Run(resolve(**given))).dense_features.key

    return of


@pytest.mark.parametrize("attention", BUILT_IN)
def test_keys_of_the_built_in_ones_stay(key_of, attention):
    assert key_of(attention) == BUILT_IN[attention]


def test_the_code_is_in_the_key(key_of):
    policy("mine")(mine)
    first = key_of("mine")
    assert first == key_of("mine")
    policy("mine")(mine)  # a notebook's cell run again
    assert first == key_of("mine")
    source = "def mine(q, k, v, grid):\n    return {}\n"
    keys = {first}
    for body in ("v", "v * 1.0", "q"):
        scope = {"__name__": __name__}
        exec(source.format(body), scope)
        policy("mine")(scope["mine"])
        keys.add(key_of("mine"))
    policy("mine", arch="reduced")(scope["mine"])
    keys.add(key_of("mine"))
    assert len(keys) == 5


def test_what_a_built_in_name_is_replaced_by_has_a_key_of_its_own(key_of, monkeypatch):
    """Not by ``policy``, which refuses: by hand."""
    import sclip_core.encoder.attention as module

    monkeypatch.setitem(module.POLICIES, "csa", (mine, "vanilla"))
    assert key_of("csa") != BUILT_IN["csa"]
    monkeypatch.setitem(module.POLICIES, "csa", (POLICIES["csa"][0], "reduced"))
    assert key_of("csa") not in BUILT_IN.values()


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_built_in_names_are_refused(name):
    with pytest.raises(UserError, match=f"attention '{name}' is built in"):
        policy(name)(mine)
    with pytest.raises(UserError, match="is built in"):
        policy(name)(POLICIES[name][0])


def test_taken_names_are_refused():
    policy("mine")(mine)
    with pytest.raises(UserError) as error:
        policy("mine")(another)
    assert str(error.value) == (
        f"attention 'mine' is taken by {__name__}.mine: register {__name__}.another under another "
        "name"
    )
    assert Attention.parse("mine")(*torch.ones(3, 1, 1, 2, 2), (1, 1)).shape == (1, 1, 2, 2)
    policy("scaled")(functools.partial(mine, scale=2))
    policy("scaled")(functools.partial(mine, scale=3))
    with pytest.raises(UserError, match="is taken by"):
        policy("scaled")(functools.partial(another))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mine", "reducd"), "unknown arch 'reducd'. Did you mean 'reduced'"),
        (("mine:vanilla",), "invalid attention name"),
        (("a,b",), "invalid attention name"),
        (("",), "invalid attention name"),
        ((mine,), '@policy("my_name")'),
    ],
)
def test_what_cannot_be_registered(arguments, says):
    with pytest.raises(UserError) as error:
        policy(*arguments)
    assert says in str(error.value)


def test_not_a_function():
    with pytest.raises(UserError, match="expected a function of q, k, v, grid; found int"):
        policy("mine")(3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", [("spoils", "csa"), ("csa", "spoils"), ("spoils", "spoils")])
def test_a_policy_may_spoil_what_it_gets(visual, order, dtype):
    policy("spoils")(spoils)
    attentions = [Attention.parse(name) for name in order]
    tower = visual.to(dtype)
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    alone = [DenseEncoder(tower, one).patch_features(pixels).clone() for one in attentions]
    together = DenseEncoder(tower, attentions[0]).features_of(pixels, attentions)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)
    visual.float()


def test_a_policy_that_spoils_is_its_formula(visual):
    """Against the same, written without a write."""
    policy("spoils")(spoils)

    @policy("clean")
    def clean(q, k, v, grid):
        return torch.nn.functional.scaled_dot_product_attention(3 * k, 3 * k, v)

    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    one, other = (
        DenseEncoder(visual, Attention.parse(name)).patch_features(pixels)
        for name in ("spoils", "clean")
    )
    assert torch.equal(one, other)


def test_it_gets_tensors_that_it_may_look_at_in_any_way():
    seen = []

    @policy("looks")
    def looks(q, k, v, grid):
        seen.extend([q, k, v])
        return v

    given = torch.randn(2, 5, 3, 4, 8).permute(2, 0, 3, 1, 4)
    mixed = Attention.parse("looks")(*given, (2, 2))
    assert all(heads.is_contiguous() for heads in seen)
    assert torch.equal(mixed, given[2])
    mixed.zero_()
    assert given[2].any()


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda v: v[:, :, 1:], "returned (2, 3, 4, 8), float32, cpu: expected (B, heads, 1+N, d"),
        (lambda v: v.double(), "returned (2, 3, 5, 8), float64, cpu"),
        (lambda v: None, "returned NoneType: expected (B, heads, 1+N, d_head) = (2, 3, 5, 8)"),
        (lambda v: v / 0, "returned numbers that are not finite"),
        (lambda v: v * torch.nan, "returned numbers that are not finite"),
    ],
)
def test_what_it_returns_is_looked_at(returned, says):
    @policy("odd")
    def odd(q, k, v, grid):
        return returned(v)

    with pytest.raises(UserError) as error:
        Attention.parse("odd")(*torch.randn(3, 2, 3, 5, 8), (2, 2))
    assert str(error.value).startswith("attention 'odd' ")
    assert says in str(error.value)


def test_numbers_that_were_not_finite_before_are_not_its_fault():
    """An image that overflows is left out by the stage, whatever the policy."""
    policy("another")(another)
    q, k, v = torch.full((3, 1, 1, 2, 2), torch.inf)
    assert Attention.parse("another")(q, k, v, (1, 1)).isinf().all()


def test_an_exception_inside_keeps_its_traceback():
    @policy("raises")
    def raises(q, k, v, grid):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as error:
        Attention.parse("raises")(*torch.ones(3, 1, 1, 2, 2), (1, 1))
    assert error.traceback[-1].name == "raises"
