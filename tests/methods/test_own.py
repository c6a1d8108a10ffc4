"""Methods of users: registering, tensors that they may spoil, what they return, their keys."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from sclip_core import SCLIP, UserError
from sclip_core.config import resolve, resolve_several
from sclip_core.methods import Method, Tap, method
from sclip_core.methods.own import taps_of
from sclip_core.methods.registry import OWN, choose, identity_of
from sclip_core.pipeline.pipeline import Pipeline, run_pipelines
from sclip_core.pipeline.run import Run

from ..conftest import TINY
from ..flows.conftest import write_own
from ..own_files import MINE, forgotten, written


@pytest.fixture(autouse=True)
def no_traces():
    with forgotten():
        yield


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write_own(tmp_path_factory.mktemp("own"), 2)


@pytest.fixture
def given(own, tmp_path):
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}
    return {**paths, **TINY, "artifacts": tmp_path / "artifacts", "device": "cpu"}


def last_block(scene):
    """What CLIP's last block's values are, projected."""
    tower = scene.tower
    values = tower.out(-1, tower.values(-1, scene.h(-1)))
    return tower.features(values[:, 1:]).unflatten(1, scene.geometry.tokens)


def spoils(scene):
    """In place, whatever it is given."""
    found = last_block(scene)
    for tap in scene.taps.values():
        tap.fill_(torch.nan)
    scene.pixels().fill_(torch.nan)
    if scene.words is not None:
        scene.words.zero_()
    return found


def features(run: Run) -> dict[str, np.ndarray]:
    stage = Pipeline.of(run).dense_features
    return {digest: stage.table.read(row) for digest, row in stage.rows().items()}


@pytest.mark.parametrize("keep", [False, True])
def test_a_method_in_place_changes_no_other(given, tmp_path, keep):
    method("first", reads_words=True)(spoils)
    method("second")(last_block)
    alone = Run(resolve(**given, method="second"))
    run_pipelines([alone])
    given |= {"artifacts": tmp_path / "together", "keep_trunk": keep}
    runs = Run.several(resolve_several(**given, method="first,second,sc-clip"))
    run_pipelines(runs)
    expected = features(alone)
    assert len(expected) == 2
    for run in runs[:2]:
        found = features(run)
        assert found.keys() == expected.keys()
        for digest, values in expected.items():
            np.testing.assert_array_equal(found[digest], values)
    method("third", taps=(-1,))(last_block)
    third = Run(resolve(**given, method="third"))
    run_pipelines([third])
    for digest, values in expected.items():
        np.testing.assert_array_equal(features(third)[digest], values)


def test_it_is_what_maskclip_reduced_is(tiny):
    """Values through out_proj, ln_post and the projection: independent of Scene and taps."""
    method("mine")(last_block)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    words = ["sky", "grass"]
    ours = tiny.logits(image, classes=words, method="mine")
    theirs = tiny.logits(image, classes=words, method="maskclip:reduced")
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_parameters_are_fields_and_keyed(given):
    @method("mine", parameters={"beta": 3}, benchmarks={"voc21": {"prob_thd": 0.3}})
    def mine(scene, *, beta: float = 1.2, steps=2, kind: str = "a"):
        return last_block(scene) * 1.0

    chosen = choose(resolve(**given, method="mine")).method
    assert (chosen.beta, chosen.steps, chosen.kind) == (3.0, 2, "a")
    assert identity_of(chosen)["parameters"] == {"beta": 3.0}
    other = choose(resolve(**given, method="mine", parameters="beta=1.2 steps=5")).method
    assert identity_of(other)["parameters"] == {"steps": 5}
    several = resolve_several(**given, method="mine", parameters="beta=1,2 steps=3")
    assert [one.parameters for one in several] == ["beta=1 steps=3", "beta=2 steps=3"]
    for text, says in (
        ("gamma=1", "unknown parameter of method mine: 'gamma'"),
        ("steps=1.5", "steps=1.5: Input should be a valid integer"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            choose(resolve(**given, method="mine", parameters=text))


@pytest.mark.slow
def test_a_class_is_a_method_too(given):
    @method("mine", title="Mine", protocol={"short_side": 96, "slide_crop": 0})
    class Mine(Method):
        beta: float = 2.0

        def taps(self, layers):
            return (Tap.of(layers - 1), Tap(0, layers - 2))

        def features(self, scene):
            return last_block(scene)

    settings = resolve(**given, method="mine")
    assert (settings.short_side, settings.slide_crop) == (96, 0)
    assert choose(settings).method == Mine()
    assert OWN["mine"] is Mine
    run_pipelines([Run(settings)])


def test_the_code_is_in_the_key(given, tmp_path):
    keys = set()
    for beta in ("8.0", "9.0", "9.0 "):
        path = written(tmp_path / "mine.py", MINE.replace("8.0", beta))
        run = Run(resolve(**given, method="mine", plugins=[path]))
        keys.add(Pipeline.of(run).dense_features.key)
    assert len(keys) == 3  # the whole file counts
    again = Run(resolve(**given, method="mine", plugins=str(path)))
    assert Pipeline.of(again).dense_features.key in keys
    (tmp_path / "elsewhere").mkdir()
    moved = written(tmp_path / "elsewhere" / "mine.py", path.read_text())
    elsewhere = Run(resolve(**given, method="mine", plugins=moved))
    assert Pipeline.of(elsewhere).dense_features.key in keys  # where it lies does not


@pytest.mark.slow
def test_a_default_of_a_class_counts(monkeypatch):
    """Also in a notebook, where only the source of the methods is at hand."""
    codes = set()
    for beta in (1.0, 2.0):
        scope = {"Method": Method, "__name__": "__main__"}
        body = (
            f"class Mine(Method):\n    beta: float = {beta}\n    def features(self, scene): ...\n"
        )
        exec(body, scope)
        codes.add(scope["Mine"].code())
    assert len(codes) == 2


def mine(scene):
    return last_block(scene)


def another(scene):
    return last_block(scene)


def test_names():
    method("mine")(mine)
    method("mine")(mine)  # a notebook's cell run again
    with pytest.raises(UserError) as error:
        method("mine")(another)
    assert str(error.value) == (
        f"method 'mine' is taken by {__name__}.mine: register {__name__}.another under another name"
    )
    assert OWN["mine"].function is mine
    for name in ("csa", "naclip", "sc-clip", "trident"):
        with pytest.raises(UserError, match=f"method '{name}' is built in"):
            method(name)(mine)
    with pytest.raises(UserError, match="invalid method name"):
        method("a,b")(mine)
    with pytest.raises(UserError, match=r'a method needs a name: write @method\("my_name"\)'):
        method(mine)


def without_usual(scene, *, beta):
    return scene


def positional(scene, beta=1.0):
    return scene


def two(scene, other):
    return scene


def taken(scene, *, taps=3):
    return scene


@pytest.mark.parametrize(
    ("arguments", "function", "says"),
    [
        ({}, without_usual, "its parameter beta has no usual value"),
        ({}, two, "expected a function of scene, and behind a * of parameters"),
        ({}, taken, "its parameter cannot be called taps"),
        ({}, 3, "expected a function of scene; found int"),
        ({}, int, "or a subclass of Method; found the class int"),
        ({"taps": (3.5,)}, mine, "reads 3.5: expected a block's number"),
        ({"taps": 3}, mine, "expected several: taps=(3,)"),
        ({"views": ("upside",)}, mine, "unknown view 'upside'"),
        ({"second_taps": ("keys",)}, mine, "unknown second tap 'keys'"),
        ({"templates": "own"}, mine, "unknown templates 'own'"),
        ({"protocol": {"short_sid": 3}}, mine, "unknown key in settings: 'short_sid'"),
        ({"benchmarks": {"voc_21": {}}}, mine, "unknown dataset 'voc_21'"),
        ({"benchmarks": {"voc21": {"prob_thd": 3}}}, mine, "prob_thd=3"),
    ],
)
def test_what_cannot_be_registered(arguments, function, says):
    with pytest.raises(UserError) as error:
        method("mine", **arguments)(function)
    assert says in str(error.value)
    assert "mine" not in OWN


def test_taps_by_numbers():
    assert taps_of((-1, 3, (2, -2), 0), 12, "x") == (Tap(11, 11), Tap(3, 3), Tap(2, 10), Tap(0, 0))
    for wrong in (12, -13, (5, 3)):
        with pytest.raises(UserError, match=r"method 'x' reads block .* of a tower of 12"):
            taps_of((wrong,), 12, "x")


def divides(scene):
    return last_block(scene) / (1 // 0)


def undeclared(scene):
    return scene.h(0)


def flat(scene):
    return last_block(scene).flatten(1, 2)


def whole_numbers(scene):
    return last_block(scene).int()


def not_numbers(scene):
    return last_block(scene) * torch.nan


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (divides, r"method 'x' failed: ZeroDivisionError: .* \(test_own.py, line \d+\)$"),
        (undeclared, r"block 0 is read, but not declared: taps has h\d+$"),
        (flat, r"method 'x' returned \(\d+, \d+, \d+\): expected \(windows, rows, columns, D\)"),
        (whole_numbers, "method 'x' returned torch.int32: expected numbers"),
        (not_numbers, "method 'x' returned numbers that are not finite, for taps that are"),
        (lambda scene: None, "method 'x' returned NoneType"),
    ],
)
def test_what_it_must_not_return(tiny: SCLIP, given, function, says):
    method("x")(function)
    image = np.zeros((40, 60, 3), np.uint8)
    with pytest.raises(UserError, match=says) as error:
        tiny.logits(image, classes=["sky"], method="x")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=says):
        run_pipelines([Run(resolve(**given, method="x"))])


@pytest.mark.slow
def test_pixels_are_of_the_windows_whatever_the_views(given):
    """A method that asks for flipped windows too is given the windows as they are."""
    seen: dict[str, list[torch.Tensor]] = {"plain": [], "flipped": []}

    class Plain(Method):
        def taps(self, layers):
            return (Tap.of(layers - 1),)

        def features(self, scene):
            pixels = scene.pixels()
            seen[self.name].append(pixels)
            x = scene.h(-1)[: len(pixels)]
            tower = scene.tower
            values = tower.out(-1, tower.values(-1, x))
            return tower.features(values[:, 1:]).unflatten(1, scene.geometry.tokens)

    method("plain")(type("Plain", (Plain,), {"__doc__": "One view."}))
    flipped = {"views": ("original", "left_right"), "__annotations__": {}}
    method("flipped")(type("Flipped", (Plain,), flipped))
    run_pipelines(Run.several(resolve_several(**given, method="plain,flipped")))
    assert len(seen["plain"]) == len(seen["flipped"]) == 2
    for one, other in zip(seen["plain"], seen["flipped"], strict=True):
        assert torch.equal(one, other)
