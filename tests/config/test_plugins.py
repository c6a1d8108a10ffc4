"""Plugins: loaded by path, from the command line, in Python, in a process with only a Work."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from flows import cli
from sclip_core import SCLIP, UserError, propose_masks
from sclip_core.config import plugins, resolve, resolve_several, tables
from sclip_core.methods.registry import OWN, choose
from sclip_core.pipeline.pipeline import Pipeline, run_pipelines
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.work import at_hand

from ..conftest import TINY
from ..flows.conftest import flags, write_own
from ..own_files import MINE, forgotten, written

ROOT = Path(__file__).parents[2]


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


def command(capsys, *words: str) -> tuple[int, str, str]:
    """What ``sclip`` returns and prints."""
    code = cli.main(list(words))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def label_maps(run: Run) -> list[np.ndarray]:
    stage = Pipeline.of(run).labels
    return [stage.read(row) for _, row in sorted(stage.rows().items())]


# Loading


def test_a_file_is_loaded_once_and_again_when_it_changes(tmp_path, given):
    log = tmp_path / "log"
    text = f"open({str(log)!r}, 'a').write('x')\n"
    path = written(tmp_path / "mine.py", MINE)
    path.write_text(text + path.read_text())
    for _ in range(2):
        resolve(**given, plugins=path, method="mine")
    resolve(**given, plugins=os.path.relpath(path), method="mine")
    assert log.read_text() == "x"
    first = OWN["mine"]
    path.write_text(path.read_text().replace("8.0", "7.0"))  # of the same size and second
    resolve(**given, plugins=path, method="mine")
    assert log.read_text() == "xx"
    assert OWN["mine"] is not first
    assert choose(resolve(**given, plugins=path, method="mine")).method.beta == 7.0
    assert not list(tmp_path.rglob("*.pyc"))


def test_what_a_changed_file_no_longer_registers_is_gone(tmp_path, given):
    path = written(tmp_path / "mine.py", MINE)
    resolve(**given, plugins=path, method="mine")
    path.write_text(path.read_text().replace('"mine"', '"other"'))
    resolve(**given, plugins=path, method="other")
    with pytest.raises(UserError, match=r"unknown method 'mine'.*other"):
        resolve(**given, plugins=path, method="mine")


def test_a_later_command_may_have_another_file_of_that_name(tmp_path, given):
    for folder, beta in (("a", 1.0), ("b", 2.0), ("a", 1.0)):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = written(tmp_path / folder / "mine.py", MINE.replace("8.0", str(beta)))
        settings = resolve(**given, plugins=path, method="mine")
        assert choose(settings).method.beta == beta
    first = Run(settings)
    resolve(**given, plugins=tmp_path / "b" / "mine.py", method="mine")
    assert Run(first.settings).chosen.method.beta == 1.0


BAD = {
    "absent.py": (None, "absent.py does not exist"),
    "readme.txt": ("", "expected a Python file (.py) or a benchmark's YAML"),
    "nothing.py": ("x = 1", "registers nothing"),
    "divides.py": ("x = 1\n\n1 / 0", "divides.py, line 3: ZeroDivisionError: division by zero"),
    "broken.py": ("x = 1\nif", "broken.py, line 2: SyntaxError"),
    "library.py": ("import nowhere_at_all", "line 1: ModuleNotFoundError: No module named"),
    "exits.py": ("raise SystemExit(3)", "exits.py, line 1: SystemExit: 3"),
    "builtin.py": (
        "from sclip_core.encoder import policy\n@policy('csa')\ndef f(q, k, v, grid): ...",
        "builtin.py, line 2: attention 'csa' is built in",
    ),
    "folder.py": (..., "folder.py is a folder"),
    "a.yaml": ("- 1", "expected a benchmark"),
    "b.yaml": ("protocol: {}\nfiles: {images: 'i/{id}.png', labels: 'l/{id}.png'}", "'vocabulary'"),
    "c.yaml": ("vocabulary: none.txt\nlayout: voc2012", "there is no vocabulary"),
    "d.yaml": ("vocabulary: d.yaml\nlayouts: voc2012", "unknown key in plugin"),
    "e.yaml": ("vocabulary: e.yaml\nlayout: voc2012\nprotocol: {prob_thd: 3}", "prob_thd=3"),
    "voc21.yaml": ("vocabulary: voc21.yaml\nlayout: voc2012", "benchmark 'voc21' is built in"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, given, name, capsys, own):
    text, says = BAD[name]
    path = tmp_path / name
    if text is ...:
        path.mkdir()
    elif text is not None:
        path.write_text(text)
    for _ in range(2):  # also the second time
        with pytest.raises(UserError) as error:
            resolve(**given, plugins=path)
        assert says in str(error.value)
    code, out, err = command(capsys, "plan", *flags(own, tmp_path / "x", plugin=path))
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_two_of_one_name(tmp_path, given):
    one, two = (written(tmp_path / f"{name}.py", MINE) for name in ("one", "two"))
    with pytest.raises(UserError, match=r"method 'mine' is taken by mine \(.*one.py\): register"):
        resolve(**given, plugins=[one, two], method="mine")
    (tmp_path / "sub").mkdir()
    same = written(tmp_path / "sub" / "one.py", MINE)
    with pytest.raises(UserError, match="have one name: rename one of them"):
        resolve(**given, plugins=[one, same], method="mine")
    twice = written(tmp_path / "twice.py", MINE + MINE.replace("def mine", "def other"))
    with pytest.raises(UserError, match="method 'mine' is taken by mine"):
        resolve(**given, plugins=twice)
    resolve(**given, plugins=two, method="mine")  # nothing of what failed is in the way


def test_paths_of_a_file_of_settings_are_relative_to_it(tmp_path, given, monkeypatch, capsys, own):
    (tmp_path / "project").mkdir()
    written(tmp_path / "project" / "mine.py", MINE)
    config = tmp_path / "project" / "pipeline.yaml"
    config.write_text("sclip:\n  plugins: [mine.py]\n  method: mine\n")
    settings = resolve(config, **given)
    assert settings.method == "mine"
    assert settings.plugins == (tmp_path / "project" / "mine.py",)
    monkeypatch.chdir(tmp_path)
    other = written(tmp_path / "other.py", MINE.replace('"mine"', '"other"'))
    settings = resolve(config, **given, method="other", plugins="other.py")  # one more
    assert settings.plugins == (tmp_path / "project" / "mine.py", other)
    words = flags(own, tmp_path / "x", config=config)
    code, out, _ = command(capsys, "plan", *words, "--method=mine,other", "--plugin=other.py")
    assert code == 0
    assert "method other" in out


def test_built_in_names_are_those_of_the_registries():
    from sclip_core.config.masks import MaskSettings
    from sclip_core.encoder.attention import BUILT_IN as ATTENTIONS
    from sclip_core.masks import RULES, SOURCES
    from sclip_core.methods import registry, steps
    from sclip_core.segmentation.refiners import REFINERS

    known = {name: set(names) for name, names in plugins.BUILT_IN.items()}
    assert known["method"] == set(registry.BUILT_IN) | set(ATTENTIONS)
    assert known["attention"] == set(ATTENTIONS)
    assert known["refiner"] == {"pamr", *REFINERS}
    assert known["after"] == {"none", *steps.BUILT_IN}
    assert known["decision"] == {registry.ARGMAX}
    assert known["hybrid_rule"] == set(RULES)
    assert known["proposals"] == {"files", *SOURCES}
    assert MaskSettings(proposals="sam")


def entry_point(monkeypatch, name: str, load) -> list[str]:
    loaded: list[str] = []
    point = SimpleNamespace(name=name, dist=SimpleNamespace(name="package"))
    point.load = lambda: loaded.append(name) or load()
    monkeypatch.setattr(plugins.metadata, "entry_points", lambda group: [point])
    monkeypatch.setattr(plugins, "_entry_points", [])
    return loaded


def test_entry_points_are_imported_where_they_are_named(tmp_path, given, monkeypatch, tiny):
    def load():
        scope = {"__name__": "package"}
        exec(compile(__import__("textwrap").dedent(MINE), "package.py", "exec"), scope)

    loaded = entry_point(monkeypatch, "mine", load)
    resolve(**given, method="csa")
    assert not loaded
    assert resolve(**given, method="mine").method == "mine"
    resolve(**given, method="mine")
    assert loaded == ["mine"]
    image = np.zeros((40, 60, 3), np.uint8)
    assert tiny.logits(image, classes=["sky"], method="mine").shape == (1, 40, 60)


def test_an_entry_point_that_does_not_import(given, monkeypatch):
    entry_point(monkeypatch, "mine", lambda: 1 / 0)
    resolve(**given, method="csa")
    with pytest.raises(UserError, match="entry point 'mine' of package does not import: ZeroDiv"):
        resolve(**given, method="mine")


def test_help_imports_neither_torch_nor_plugins(tmp_path):
    written(tmp_path / "mine.py", "raise SystemExit('imported')")
    (tmp_path / "pipeline.yaml").write_text("sclip: {plugins: mine.py}")
    code = (
        "import sys; from flows import cli; code = cli.main(['run', '--help']);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=there, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--plugin" in done.stdout


# From end to end


def test_from_the_command_line(tmp_path, own, capsys):
    path = written(tmp_path / "mine.py", MINE)
    words = flags(own, tmp_path / "artifacts", plugin=path, method="mine,csa")
    code, out, err = command(capsys, "run", "--direct", *words)
    assert code == 0, err
    code, out, err = command(capsys, "plan", "--json", *words)
    assert {status["state"] for status in json.loads(out)} == {"complete"}
    path.write_text(path.read_text().replace("8.0", "2.0"))
    code, out, err = command(capsys, "plan", "--json", *words)
    missing = {s["stage"]: s["reason"] for s in json.loads(out) if s["state"] == "missing"}
    assert missing["dense_features"] == "method mine: changed: mine.py"
    assert set(missing) == {"dense_features", "refine", "metrics", "results"}
    code, out, err = command(capsys, "run", "--direct", *words)
    assert "dense_features  computed  2 images" in err
    code, out, err = command(capsys, "run", "--direct", *words)
    assert " computed " not in err


def test_a_sweep(tmp_path, own, capsys):
    path = written(tmp_path / "mine.py", MINE)
    words = flags(own, tmp_path / "artifacts", plugins=path, method="mine", prob_thd="0,0.5")
    code, out, err = command(capsys, "sweep", "--direct", *words)
    assert code == 0, err
    assert "prob_thd" in out


def test_a_policy_of_a_plugin_is_a_method(tmp_path, given):
    text = "from sclip_core.methods import policy\n@policy('vv', arch='reduced')\n"
    path = written(tmp_path / "own.py", text + "def vv(q, k, v, grid):\n    return v\n")
    runs = Run.several(resolve_several(**given, plugins=path, method="vv,maskclip:reduced"))
    run_pipelines(runs)
    first, second = map(label_maps, runs)
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_a_process_that_only_gets_a_work(tmp_path, given):
    path = written(tmp_path / "mine.py", MINE)
    settings = resolve_several(**given, plugins=path, method="mine", parameters="beta=1,2")
    pieces = []
    with at_hand(pipelines := Pipeline.of_several(Run.several(settings))):
        pieces = [pickle.dumps(s.work) for pipeline in pipelines for s in pipeline]
    (tmp_path / "pieces").write_bytes(pickle.dumps(pieces))
    code = (
        "import pickle, sys; from sclip_core.pipeline.work import run_shard\n"
        "for piece in pickle.load(open(sys.argv[1], 'rb')):\n"
        "    print(run_shard(pickle.loads(piece)).state)"
    )
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pieces")],
        cwd=tmp_path,
        env=there,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "computed" in done.stdout
    with_it = [Pipeline.of(Run(one)).refine for one in settings]
    assert [len(stage.rows()) for stage in with_it] == [2, 2]


PARTS = """
    import numpy as np
    from sclip_core.methods import decision, proposer, refiner, rule, step

    @refiner("half")
    def half(logits, image, *, weight: float = 0.5):
        logits *= weight
        image.zero_()
        return logits

    @decision("worst")
    def worst(logits, query_class, num_classes):
        return query_class[logits.argmin(dim=0)]

    @step("flip")
    def flip(labels, *, by: int = 1):
        labels[:] = (labels + by) % 3
        return labels

    @step("inside", reads_masks=True)
    def inside(labels, regions):
        return np.where(regions > regions.min(), 1, 0)

    @rule("second")
    def second(evidence):
        return np.full_like(evidence.base, 2)

    @proposer("halves")
    def halves(image):
        image[:] = 0
        masks = np.zeros((2, *image.shape[:2]), bool)
        masks[0, :10], masks[1, 10:, :5] = True, True
        return masks
"""


@pytest.fixture
def parts(tmp_path):
    return written(tmp_path / "parts.py", PARTS)


def labels_of(given, **more) -> list[np.ndarray]:
    run = Run(resolve(**given, **more))
    run_pipelines([run])
    return label_maps(run)


def test_a_refiner(given, parts, tiny):
    usual = labels_of(given)
    half = labels_of(given, plugins=parts, refiner="half", prob_thd=0)
    np.testing.assert_array_equal(half, usual)  # halves keep their order
    minus = labels_of(given, plugins=parts, refiner="half", parameters="weight=-1.0")
    assert not np.array_equal(minus, usual)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    words = ["sky", "grass", "road"]
    logits = tiny.logits(image, classes=words)
    found = tiny.logits(image, classes=words, refiner="half")
    np.testing.assert_allclose(found, logits / 2, atol=1e-6)
    smooth = tiny.logits(image, classes=words, pamr_steps=2)
    found = tiny.logits(image, classes=words, refiner="half", pamr_steps=2)
    np.testing.assert_allclose(found, smooth / 2, atol=1e-5)  # PAMR is linear
    heat = tiny.segment(image, classes=words, refiner="half", heat=["grass"]).heat["grass"]
    np.testing.assert_allclose(heat, logits[1] / 2, atol=1e-6)


def test_a_decision(given, parts, tiny):
    usual = labels_of(given)
    several = resolve_several(**given, plugins=parts, decision="worst", pamr_steps="0,2")
    runs = Run.several(several)
    run_pipelines(runs)
    worst = label_maps(runs[0])
    minus = labels_of(given, plugins=parts, refiner="half", parameters="weight=-1.0")
    np.testing.assert_array_equal(worst, minus)
    assert not any((a == b).any() for a, b in zip(worst, usual, strict=True))


def test_steps(given, parts):
    usual = labels_of(given)
    flipped = labels_of(given, plugins=parts, after="flip", parameters="by=2")
    np.testing.assert_array_equal(flipped, (np.array(usual) + 2) % 3)
    inside = labels_of(given, plugins=parts, after="inside,flip", mode="dense", proposals="halves")
    for labels in inside:
        assert (labels[:10] == 2).all()
        assert (labels[10:, 5:] == 1).all()


def test_a_rule_and_a_source_of_masks(given, parts):
    pytest.importorskip("pycocotools")
    usual = labels_of(given)
    filled = labels_of(given, plugins=parts, proposals="halves", hybrid_rule="second")
    assert all((labels == 2).all() for labels in filled)
    voted = labels_of(given, plugins=parts, proposals="halves")
    np.testing.assert_array_equal(np.array(voted)[:, 10:, 5:], np.array(usual)[:, 10:, 5:])
    assert all(len(np.unique(labels[:10])) == 1 for labels in voted)
    image = np.zeros((20, 30, 3), np.uint8)
    found = propose_masks(image, "halves")
    assert found.areas.tolist() == [300, 50]
    assert found.regions is not None
    with pytest.raises(UserError, match=r"Input should be .* or .halves."):
        propose_masks(image, "halve")


def keys(given, parts, **more) -> dict[str, str]:
    pipeline = Pipeline.of(Run(resolve(**given, plugins=parts, **more)))
    return {stage.label: stage.key for stage in pipeline}


@pytest.mark.parametrize(
    ("more", "stage", "same"),
    [
        ({"refiner": "half"}, "refine", "dense_features"),
        ({"decision": "worst"}, "refine", "dense_features"),
        ({"after": "flip"}, "refine", "dense_features"),
        ({"hybrid_rule": "second", "proposals": "slic"}, "hybrid", "refine"),
        ({"proposals": "halves"}, "proposals", "refine"),
    ],
)
def test_code_is_in_the_key_of_the_stage_that_it_decides(given, parts, more, stage, same, capsys):
    run_pipelines([Run(resolve(**given, plugins=parts, **more))])
    before = keys(given, parts, **more)
    parts.write_text(parts.read_text() + "\n# another\n")
    after = keys(given, parts, **more)
    assert after[stage] != before[stage]
    assert after[same] == before[same]
    pipeline = Pipeline.of(Run(resolve(**given, plugins=parts, **more)))
    assert pipeline.stage(stage).status().reason == "changed: parts.py"


def test_the_usual_decision_is_in_no_key(given):
    assert "decision" not in Pipeline.of(Run(resolve(**given))).refine.settings()


WRONG = {
    "refiner": ("logits, image", {"refiner": "x"}, "(Q, H, W)"),
    "decision": ("logits, query_class, num_classes", {"decision": "x"}, "labels (H, W)"),
    "step": ("labels", {"after": "x"}, "labels (H, W)"),
    "rule": ("evidence", {"hybrid_rule": "x", "proposals": "felzenszwalb"}, "labels (H, W)"),
    "proposer": ("image", {"proposals": "x"}, "masks (M, H, W)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_results_of_parts_are_one_line(tmp_path, given, kind):
    arguments, more, expected = WRONG[kind]
    bodies = {
        "return 3": f"returned int: expected {expected}",
        "return np.zeros((3, 3), int)": f"expected {expected}",
        "1 / 0": "failed: ZeroDivisionError: division by zero (own.py, line 5)",
    }
    if kind in ("decision", "step", "rule"):
        bodies["return np.full((48, 64), 7)"] = "returned the label 7: expected 0 to 2"
    if kind == "refiner":
        bodies["return logits / 0"] = "returned numbers that are not finite"
    for body, says in bodies.items():
        head = f"import numpy as np\nfrom sclip_core.methods import {kind}\n@{kind}('x')\n"
        path = tmp_path / "own.py"
        path.write_text(f"{head}def f({arguments}):\n    {body}\n")
        with pytest.raises(UserError) as error:
            run_pipelines([Run(resolve(**given, plugins=path, **more))])
        assert says in str(error.value)
        assert "'x'" in str(error.value)


def test_a_part_that_takes_other_arguments(tmp_path, given):
    path = written(
        tmp_path / "own.py",
        "from sclip_core.methods import step\n@step('x')\ndef f(labels, other): ...",
    )
    with pytest.raises(UserError, match=r"line 2: step 'x': expected a function of labels, and"):
        resolve(**given, plugins=path)


def test_unknown_names(given, parts):
    for more, says in (
        ({"refiner": "halv"}, "unknown refiner 'halv'. Did you mean 'half'"),
        ({"decision": "wors"}, "unknown decision 'wors'. Did you mean 'worst'"),
        ({"after": "fli"}, "unknown step after the decision: 'fli'. Did you mean 'flip'"),
        ({"hybrid_rule": "secon", "proposals": "slic"}, "hybrid_rule='secon': Input should be"),
        ({"proposals": "halve"}, "proposals='halve': Input should be"),
    ):
        with pytest.raises(UserError) as error:
            Run(resolve(**given, plugins=parts, **more))
        assert says in str(error.value)


# Benchmarks


def test_a_benchmark(tmp_path, own, given, capsys):
    (tmp_path / "words.txt").write_text("sky\ngrass\nroad, street\n")
    (tmp_path / "roads.yaml").write_text(
        "protocol: {short_side: 96, logit_scale: 50}\nvocabulary: words.txt\nnum_images: 2\n"
        "files: {images: 'images/{id}.png', labels: 'labels/{id}.png'}\n"
    )
    text = MINE.replace('"mine"', '"mine", benchmarks={"roads": {"logit_scale": 60}}')
    mine = written(tmp_path / "mine.py", text)
    several = [mine, tmp_path / "roads.yaml"]
    common = {**TINY, "artifacts": tmp_path / "artifacts", "device": "cpu", "data_root": own}
    settings = resolve(**common, dataset="roads", plugins=several)
    assert (settings.short_side, settings.logit_scale) == (96, 50)
    assert resolve(**common, dataset="roads", plugins=several, method="mine").logit_scale == 60
    run = Run(settings)
    (finished,) = run_pipelines([run])
    assert finished.num_images == 2
    assert run.inputs.dataset.vocabulary.words[2] == ("road", "street")
    as_own = Run(resolve(**{**given, "classes": tmp_path / "words.txt"}, short_side=96))
    run_pipelines([as_own])
    np.testing.assert_array_equal(label_maps(as_own), label_maps(run))
    model = SCLIP.load(**TINY, device="cpu")
    picture = cv2.imread(str(own / "images" / "0.png"))[..., ::-1]
    assert model.segment(picture, "roads").class_names == ("sky", "grass", "road")
    words = [f"--{k}={v}" for k, v in common.items()]
    words = [word.replace("data_root", "data-root") for word in words]
    code, out, err = command(
        capsys, "plan", *words, "--dataset=roads", f"--plugin={several[1]}", f"--plugin={mine}"
    )
    assert code == 0, err
    assert "all 2 images are there" in out


def test_benchmarks_are_forgotten_with_their_file(tmp_path, given):
    before = {name: set(rows) for name, rows in tables().items()}
    (tmp_path / "w.txt").write_text("a\nb\n")
    path = tmp_path / "roads.yaml"
    path.write_text("vocabulary: w.txt\nfiles: {images: 'i/{id}.png', labels: 'l/{id}.png'}\n")
    resolve(dataset="roads", plugins=path, data_root=tmp_path)
    assert set(tables()["benchmarks"]) - before["benchmarks"] == {"roads"}
    path.write_text("protocol: 3")
    with pytest.raises(UserError, match="expected a benchmark"):
        resolve(dataset="roads", plugins=path, data_root=tmp_path)
    assert {name: set(rows) for name, rows in tables().items()} == before
