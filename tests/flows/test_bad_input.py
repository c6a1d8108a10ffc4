"""A user's mistake is one line, which says what to do, and exit code 2; nothing was begun."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ..conftest import GOLDEN, TINY
from ..own_files import forgotten
from ..pipeline.conftest import write_voc
from .conftest import flags

MODEL = [f"--{name}={value}" for name, value in TINY.items()]


@pytest.fixture
def refused(sclip):
    """The one line that the command says."""

    def run(*arguments: object) -> str:
        code, out, err = sclip(*arguments)
        (line,) = [line for line in err.splitlines() if line.startswith("sclip: ")]
        assert code == 2, line
        assert line == err.splitlines()[-1]
        assert "Traceback" not in out + err
        assert "Warning" not in out + err
        return line

    return run


@pytest.fixture
def refused_run(refused, small, tmp_path):
    """The same of a direct run over the small folder; other flags win."""

    def run(*arguments: object, leave_out: tuple[str, ...] = (), **others: object) -> str:
        given = flags(small, **{"artifacts": tmp_path / "artifacts", **others})
        kept = [f for f in given if not f.startswith(tuple(f"--{name}=" for name in leave_out))]
        line = refused("run", "--direct", *kept, *arguments)
        assert not list((tmp_path / "artifacts").glob("*/*/ledger.jsonl"))
        return line

    return run


def says(line: str, *words: str) -> None:
    """All of the words are in the line."""
    assert not [word for word in words if word not in line], line


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("preset", "vitl14-33", ["unknown preset 'vitl14-33'", "Did you mean 'vitl14-336'?"]),
        ("model", "ViT-B-61", ["unknown model 'ViT-B-61'", "'ViT-B-16'?"]),
        ("model", "RN50", ["is a ResNet", "ViT-B-16"]),
        ("attention", "cssa", ["unknown attention 'cssa'", "'csa'?", "naclip"]),
        ("force", "refin", ["unknown stage in force: 'refin'", "'refine'?", "text_bank"]),
        ("force", "metrics, refin", ["unknown stage in force: 'refin'"]),
        ("dtype", "fp8", ["dtype='fp8'", "'fp32', 'bf16' or 'fp16'"]),
        ("device", "gpu", ["device 'gpu'", "take auto, cpu, cuda"]),
        ("pamr_steps", -1, ["pamr_steps=-1", "greater than or equal to 0"]),
        ("pamr_steps", "two", ["pamr_steps='two'", "valid integer"]),
        ("pamr_steps", "5,-1", ["pamr_steps=-1", "greater than or equal to 0"]),
        ("pamr_steps", "--5", ["pamr_steps='--5'", "valid integer"]),
        ("attention", "5", ["unknown attention '5'"]),
        ("attention", "csa,naclp", ["unknown attention 'naclp'", "naclip"]),
        ("slide_crop", 8, ["slide_crop=8", "slide_stride=112"]),
        ("slide_stride", 0, ["slide_stride=0", "greater than 0"]),
        ("slide_stride", 225, ["slide_stride=225 is larger than slide_crop=224"]),
        ("short_side", 0, ["short_side=0", "greater than 0"]),
        ("short_side", 15, ["short_side=15 is smaller than a patch", "16 pixels"]),
        ("num_samples", 0, ["num_samples=0", "greater than 0"]),
        ("num_samples", 2.7, ["--num-samples", "expected a whole number, found '2.7'"]),
        ("batch_size", -1, ["batch_size=-1", "greater than or equal to 0"]),
        ("batch_size", 10**30, ["batch_size=1", "less than or equal to"]),
        ("workers", -1, ["workers=-1"]),
        ("shards", 0, ["shards=0"]),
        ("logit_scale", "nan", ["logit_scale=nan", "finite number"]),
        ("logit_scale", "inf", ["logit_scale=inf", "finite number"]),
        ("logit_scale", 0, ["logit_scale=0", "greater than 0"]),
        ("prob_thd", "inf", ["prob_thd=inf", "finite number"]),
        ("prob_thd", 1.1, ["prob_thd=1.1", "less than or equal to 1"]),
        ("area_thd", "-inf", ["area_thd=-inf"]),
        ("pamr_dilations", "8,x", ["pamr_dilations.1='x'", "integer"]),
        ("pamr_dilations", 0, ["pamr_dilations.0='0'", "greater than 0"]),
        ("pamr_dilations", "", ["pamr_dilations=''", "at least 1"]),
        ("pamr_dilations", "8,16;1,0", ["pamr_dilations.1='0'", "greater than 0"]),
        ("pamr_dilations", "8,16;x", ["pamr_dilations.0='x'", "integer"]),
        ("pamr_dilations", ";", ["pamr_dilations.0=';'", "integer"]),
        ("logit_scale", "30,x", ["logit_scale='x'", "valid number"]),
        ("logit_scale", "30,-1", ["logit_scale=-1", "greater than 0"]),
        ("prob_thd", "0.1,nan", ["prob_thd=nan", "finite number"]),
        ("area_thd", "0,1.5", ["area_thd=1.5", "less than or equal to 1"]),
        ("ignore_label", "a", ["ignore_label.0='a'", "integer"]),
        ("dataset", "", ["dataset=''", "at least 1 character"]),
        ("dataset", "coco-stuff", ["cannot be called coco-stuff", "--dataset", "--data-root"]),
        ("config", "nowhere.yaml", ["no settings file at nowhere.yaml", "pipeline.yaml"]),
        ("config", "x" * 300, ["no settings file at xxx"]),
    ],
)
def test_impossible_value(refused_run, option, value, words):
    says(refused_run(**{option: value}), *words)


def test_crop_smaller_than_a_patch(refused_run):
    line = refused_run(slide_crop=8, slide_stride=8)
    says(line, "slide_crop=8 is smaller than a patch", "16 pixels", "or 0 for the whole image")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pamr-stpes=3"], ["--pamr-stpes", "--pamr-steps"]),
        (["extra"], ["extra"]),
        (["--num-samples"], ["--num-samples", "requires an argument"]),
        (["--pamr", "--no-pamr"], ["--no-pamr", "multiple times"]),
        (["--pamr", "--pamr-steps=0"], ["--pamr and --pamr-steps 0 conflict"]),
        (["--no-pamr", "--pamr-steps=5"], ["--no-pamr and --pamr-steps 5 conflict"]),
        (["--slide", "--slide-crop=0"], ["--slide and --slide-crop 0 conflict"]),
        (["--no-slide", "--slide-crop=224"], ["--no-slide and --slide-crop 224 conflict"]),
        (["--data-root=."], ["--images and --data-root conflict", "--dataset NAME"]),
    ],
)
def test_conflicting_or_unknown_switches(refused_run, arguments, words):
    says(refused_run(*arguments), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sclip: {pamr_stpes: 3}", ["section sclip: 'pamr_stpes'", "Did you mean 'pamr_steps'?"]),
        ("slcip: {}", ["'slcip'", "Did you mean 'sclip'?"]),
        ("model: ViT-B-16", ["'model' is a setting", "below a line 'sclip:'"]),
        ("sclip: [1\n a: {", ["is not valid YAML", "line 2, column 3"]),
        ("- a\n- b", ["expected keys and values", "found list"]),
        ("hello", ["expected keys and values", "found str"]),
        ("sclip: hello", ["'sclip' should hold keys and values", "model: ViT-B-16"]),
        (
            "sclip:\n  prob_thd: 0.1\n  prob_thd: 0.2",
            ["'prob_thd' stands twice, in lines 2 and 3: leave one out"],
        ),
        ("sclip:\n  model: a\nsclip:\n  model: a", ["'sclip' stands twice, in lines 1 and 3"]),
        (bytes(range(256)), ["is not valid YAML"]),
        ("[" * 5000, ["is not valid YAML"]),
        ("sclip: {save_vis: 2026-13-45}", ["is not valid YAML", "month"]),
        ("sclip: {5: 5}", ["section sclip: '5'"]),
        ("sclip: {pamr_steps: many}", ["section sclip: pamr_steps='many'", "valid integer"]),
        ("sclip: {pamr_steps: yes}", ["pamr_steps=True", "not a switch"]),
        ("sclip: {strict: 7}", ["strict=7", "valid boolean"]),
        ("sclip: {attention: {a: 1}}", ["attention={'a': 1}", "valid string"]),
        ("sclip: {attention: [csa, {a: 1}]}", ["attention={'a': 1}", "valid string"]),
        ("sclip: {pamr_dilations: [[8], [0]]}", ["pamr_dilations.0=0", "greater than 0"]),
        ("sclip: {pamr_dilations: [[8], []]}", ["pamr_dilations=[]", "at least 1"]),
        ("sclip: {logit_scale: [30, yes]}", ["logit_scale=True", "not a switch"]),
        ("sclip: {logit_scale: []}", ["logit_scale=[]", "valid number"]),
        ("sclip: {pamr_dilations: {a: 1}}", ["pamr_dilations={'a': 1}", "valid tuple"]),
        ("sclip: {logit_scale: .nan}", ["logit_scale=nan", "finite number"]),
        ("sclip: {save_vis: 3}", ["save_vis=3", "path"]),
        ("sclip: {force: refin}", ["'refin'", "'refine'?"]),
        ("sclip: {force: [refine, 3]}", ["unknown stage in force: '3'"]),
    ],
)
def test_settings_file(refused_run, tmp_path, text, words):
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    says(refused_run(config=path), str(path) if "force" not in str(text) else "", *words)


def test_settings_file_runs_nothing(refused_run, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(f"sclip: !!python/object/apply:os.mkdir [{tmp_path}/pwned]")
    says(refused_run(config=path), "is not valid YAML", "python/object/apply")
    assert not (tmp_path / "pwned").exists()


def test_nothing_to_segment(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").touch()
    says(refused("run", "--direct", *MODEL), "nothing to segment", "--data-root", "--images DIR")


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        (("labels",), ["nothing to score without --labels", "pass --save-vis DIR"]),
        (("classes",), ["--classes is missing", "one class a line"]),
        (("images",), ["nothing to segment", "--images DIR"]),
    ],
)
def test_own_images_need_their_options(refused_run, left_out, words):
    says(refused_run(leave_out=left_out), *words)


class TestDataRoot:
    """Of a benchmark; nothing but names is looked at before it is found."""

    @pytest.fixture
    def benchmark(self, refused, tmp_path):
        def run(*arguments: object) -> str:
            return refused(
                "run", "--direct", *MODEL, f"--artifacts={tmp_path}/artifacts", *arguments
            )

        return run

    def test_unknown_dataset(self, benchmark):
        says(benchmark("--dataset=voc22"), "unknown dataset 'voc22'", "'voc21'?", "cityscapes")

    def test_not_given(self, benchmark):
        says(benchmark("--dataset=voc21"), "--data-root is missing", "JPEGImages/", "val.txt")

    def test_not_there(self, benchmark, tmp_path):
        line = benchmark("--dataset=voc21", "--data-root", tmp_path / "nowhere")
        says(line, "nowhere does not exist", "expected a folder")

    def test_a_name_too_long(self, benchmark):
        says(benchmark("--dataset=voc21", f"--data-root={'x' * 300}"), "does not exist")

    def test_a_file(self, benchmark):
        says(benchmark("--dataset=voc21", "--data-root", __file__), "is a file: expected a folder")

    def test_without_the_folders(self, benchmark, tmp_path):
        (tmp_path / "data" / "pictures").mkdir(parents=True)
        line = benchmark("--dataset=voc21", "--data-root", tmp_path / "data")
        says(line, "expected JPEGImages/, SegmentationClass/, ImageSets/Segmentation/val.txt")
        says(line, "has pictures", "VOCdevkit/VOC2012", "pass the folder that holds them")

    def test_with_some_of_the_folders(self, benchmark, tmp_path):
        (tmp_path / "VOC2012" / "JPEGImages").mkdir(parents=True)
        line = benchmark("--dataset=voc21", "--data-root", tmp_path)
        says(line, "VOC2012 has JPEGImages/ but not SegmentationClass/, ImageSets")

    def test_list_names_a_file_that_is_missing(self, benchmark, tmp_path):
        root = write_voc(tmp_path / "VOC2012", 2)
        with (root / "ImageSets/Segmentation/val.txt").open("a") as file:
            file.write("../../etc/passwd\n2026_000009\n")
        line = benchmark("--dataset=voc21", "--data-root", root)
        says(line, "2 of 4 images have no image", "2026_000009", "JPEGImages/ID.jpg")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", ["is empty", "one class a line"]),
        (b"\n\n", ["is empty"]),
        (b"cat\ncat\n", ["line 2", "'cat' is already there", "line 1", "rename one"]),
        (b"cat\n\ndog\n", ["line 2 is blank"]),
        (b"cat, \n", ["line 1: empty word"]),
        (b"caf\xe9\n", ["is not UTF-8"]),
        ("\n".join(map(str, range(65537))).encode(), ["65,537 classes", "at most 65,536"]),
    ],
)
def test_vocabulary(refused_run, tmp_path, text, words):
    (tmp_path / "words.txt").write_bytes(text)
    says(refused_run(classes=tmp_path / "words.txt"), "words.txt", *words)


@pytest.mark.parametrize("option", ["images", "labels"])
def test_home(refused_run, option, tmp_path, monkeypatch):
    """The shell leaves the ~ in ``--images=~/x`` to us."""
    monkeypatch.setenv("HOME", str(tmp_path))
    says(refused_run(**{option: "~/pictures"}), f"--{option} {tmp_path}/pictures does not exist")
    says(refused_run(**{option: "~nobody-of-that-name/x"}), "does not exist: expected a folder")


def test_no_vocabulary(refused_run, tmp_path):
    says(refused_run(classes=tmp_path / "words.txt"), "no vocabulary file at", "one class a line")


class Pwn:
    """What a checkpoint must not do."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


class TestCheckpoint:
    def test_not_there(self, refused_run, tmp_path):
        line = refused_run(pretrained=tmp_path / "nowhere.pt")
        says(line, "no checkpoint at", "nowhere.pt", "pass the path")

    @pytest.mark.parametrize("ending", ["safetensors", "pt", "bin"])
    @pytest.mark.parametrize("content", [b"", b"torn" * 99])
    def test_corrupt(self, refused_run, tmp_path, ending, content):
        path = tmp_path / f"model.{ending}"
        path.write_bytes(content)
        says(refused_run(pretrained=path), str(path), "cannot be read as weights", "again")

    def test_cut_short(self, refused_run, tmp_path):
        path = tmp_path / "model.safetensors"
        path.write_bytes((GOLDEN / "tiny_clip.safetensors").read_bytes()[:-100])
        says(refused_run(pretrained=path), "cannot be read as weights")

    def test_another_architecture(self, refused_run):
        line = refused_run(model="ViT-B-32")
        says(line, "holds another architecture than ViT-B-32", "size mismatch", "--model")

    def test_a_layer_is_missing(self, refused_run, tmp_path):
        state = load_file(GOLDEN / "tiny_clip.safetensors")
        del state["visual.proj"]
        save_file(state, tmp_path / "model.safetensors")
        line = refused_run(pretrained=tmp_path / "model.safetensors")
        says(line, "another architecture", "visual.proj")

    @pytest.mark.parametrize("write", [torch.save, lambda x, f: f.write_bytes(pickle.dumps(x))])
    @pytest.mark.parametrize("ending", ["pt", "bin", "safetensors"])
    def test_pickled_code_is_never_executed(self, refused_run, tmp_path, write, ending):
        path = tmp_path / f"model.{ending}"
        write({"visual.proj": Pwn(tmp_path / "pwned")}, path)
        says(refused_run(pretrained=path), str(path))
        assert not (tmp_path / "pwned").exists()

    def test_model_file(self, refused_run, tmp_path):
        says(refused_run(model=tmp_path / "no.json"), "no.json cannot be read")
        (tmp_path / "list.json").write_text("[]")
        says(refused_run(model=tmp_path / "list.json"), "lacks embed_dim")
        (tmp_path / "torn.json").write_text("{")
        says(refused_run(model=tmp_path / "torn.json"), "is not valid JSON")


IMPOSSIBLE = [__file__, f"{__file__}/below", "/proc/nowhere"]  # also for root


@pytest.mark.parametrize("folder", IMPOSSIBLE)
def test_artifacts_cannot_be_written(refused_run, folder):
    says(refused_run(artifacts=folder), folder, "--artifacts DIR")


@pytest.mark.parametrize("folder", IMPOSSIBLE)
def test_pictures_cannot_be_written(refused_run, folder):
    """Said before anything is computed."""
    says(refused_run(save_vis=folder), folder, "--save-vis DIR")


class TestSegment:
    @pytest.fixture
    def refused_segment(self, refused, small, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)

        def run(*arguments: object, image: object = small / "images" / "0.png") -> str:
            words = [] if "--classes" in arguments else ["--classes", "sky; grass"]
            return refused("segment", image, *MODEL, *words, *arguments)

        return run

    @pytest.mark.parametrize("option", ["-o", "--labels-out"])
    @pytest.mark.parametrize("target", ["/proc/x.png", f"{__file__}/x.png", "no/x.png", "."])
    def test_target(self, refused_segment, option, target):
        other = ["-o", "fine.png"] if option != "-o" else []
        says(refused_segment(option, target, *other), str(Path(target).parent))
        assert not Path("fine.png").exists()

    def test_nothing_is_replaced_that_is_read_or_written(self, refused_segment, small, tmp_path):
        image = tmp_path / "a.png"
        image.write_bytes((small / "images" / "0.png").read_bytes())
        before = image.read_bytes()
        (tmp_path / "link.png").symlink_to(image)
        for target in (image, "./a.png", "link.png"):
            says(refused_segment("-o", target, image=image), "would replace", "a.png")
            says(refused_segment("--labels-out", target, image=image), "would replace")
        twice = ["-o", "b.png", "--labels-out", f"../{tmp_path.name}/b.png"]
        says(refused_segment(*twice, image=image), "would replace b.png")
        assert image.read_bytes() == before
        assert not Path("b.png").exists()

    def test_a_pipe_is_no_picture(self, refused_segment):
        os.mkfifo("f.png")
        says(refused_segment("-o", "f.png"), "f.png is a device or a pipe")
        assert not Path("f.png").is_file()

    def test_a_label_map_is_no_jpeg(self, refused_segment):
        says(refused_segment("--labels-out", "map.jpg"), "map.jpg", "label map", ".png")

    @pytest.mark.parametrize(
        ("classes", "words"),
        [
            ("", "empty word"),
            (" ; ", "empty word"),
            ("sky; sky", "'sky' is already there"),
            ("sky,; grass", "empty word"),
        ],
    )
    def test_classes(self, refused_segment, classes, words):
        says(refused_segment("--classes", classes), words)

    def test_words_longer_than_the_name_of_a_file(self, sclip, small, tmp_path):
        words = "; ".join(["sky" * 40, "grass" * 40])
        target = tmp_path / "o.png"
        image = small / "images" / "0.png"
        assert sclip("segment", image, "--classes", words, "-o", target, *MODEL)[0] == 0
        assert target.is_file()

    @pytest.mark.parametrize("image", ["nowhere.png", ".", "x" * 300, __file__])
    def test_image(self, refused_segment, image):
        says(refused_segment(image=image), image[:50])

    def test_a_name_with_a_leading_dash(self, refused_segment):
        says(refused_segment(image="-photo.png"), "-photo.png")


@pytest.mark.parametrize("command", ["rnu", ""])
def test_unknown_command(refused, command):
    says(refused(command), "Unknown command", "run, plan, sweep, ")


@pytest.mark.slow
@pytest.mark.flow
def test_a_mistake_found_inside_the_flow(small, tmp_path, prefect_server):
    """A process of its own: Prefect may write to the console, or to its log, as it likes."""
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    given = flags(small, tmp_path / "artifacts", pretrained=tmp_path / "torn.safetensors")
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", *given],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "PREFECT_API_URL": prefect_server,
        },
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("sclip: ")]
    says(line, "torn.safetensors cannot be read as weights")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--pamr", "10"], "--pamr takes no value, found '10': did you mean --pamr-steps 10?"),
        (["--pamr=10"], "--pamr takes no value, found '10': did you mean --pamr-steps 10?"),
        (["--use-pamr", "10", "--strict"], "did you mean --pamr-steps 10?"),
        (["--slide", "224"], "did you mean --slide-crop 224?"),
        (["--use-sam", "vit_b"], "did you mean --sam-model vit_b?"),
        (["--strict", "yes"], "--strict takes no value, found 'yes': leave it out."),
    ],
)
def test_a_switch_with_a_value(refused, words, meant):
    assert meant in refused("run", *words)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return q.nothing", "line 7: AttributeError: 'Tensor' object has no attribute 'nothing'"),
        ("open('/nowhere/x')", "line 7: FileNotFoundError: "),
        ("torch.linalg.inv(q)", "line 7: RuntimeError: "),  # raised within a library
    ],
)
def test_a_fault_of_a_plugin_is_the_plugins(refused, small, tmp_path, body, says):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import torch\nfrom sclip_core.encoder import policy\n\n\n"
        f'@policy("mine", arch="reduced")\ndef mine(q, k, v, grid):\n    {body}\n'
    )
    with forgotten():
        given = flags(small, tmp_path / "artifacts", attention="mine", plugin=plugin)
        line = refused("run", "--direct", *given)
    says_all = (f"{plugin}, {says}", "mend it: what was computed is kept")
    assert all(words in line for words in says_all), line
