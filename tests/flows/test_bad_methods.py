"""What is wrong with a method's masks, networks and parameters: one line each, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import GOLDEN
from ..methods.cases import CLIP
from .conftest import flags
from .test_bad_input import refused, says

__all__ = ["refused"]  # a fixture

DINO8, DINO16, SAM = (str(GOLDEN / f"tiny_{name}.json") for name in ("dino8", "dino16", "sam"))
OF_DINO8, OF_DINO16, OF_SAM = (
    str(GOLDEN / f"tiny_{name}.safetensors") for name in ("dino8", "dino16", "sam")
)
PROXY = {"proxy-model": DINO8, "proxy-weights": OF_DINO8}
TRIDENT = {"method": "trident", "proxy-model": DINO16, "proxy-weights": OF_DINO16}


@pytest.fixture
def refused_method(refused, small, tmp_path, monkeypatch):
    """The line of a run of methods over the small folder; no image was encoded."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.safetensors").write_bytes(Path(OF_DINO8).read_bytes()[:1000])

    def run(*arguments: str, **others: object) -> str:
        artifacts = tmp_path / "artifacts"
        given = flags(small, artifacts, model=CLIP, pretrained=GOLDEN / "tiny_clip12.safetensors")
        line = refused(
            "run", "--direct", *given, *arguments, *(f"--{k}={v}" for k, v in others.items())
        )
        assert not list(artifacts.glob("*/*/ledger.jsonl"))
        return line

    return run


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"masks": "no/such"}, ["--masks no/such is no folder", "PNG or npy id map"]),
        ({"masks": "empty"}, ["an id map for none of the images", "0.png or 0.npy"]),
        ({"proposals": "files"}, ["--proposals files needs", "add --masks DIR"]),
        ({"sam-checkpoint": "no.pth"}, ["no.pth does not exist", "Meta's .pth"]),
        ({"masks": "empty", "proposals": "slic"}, ["--masks empty and --proposals slic conflict"]),
    ],
)
def test_masks(refused_method, given, words):
    says(refused_method(method="corrclip", **PROXY, **given), *words)


def test_masks_and_sam(refused_method):
    says(refused_method("--use-sam", masks="empty"), "--use-sam and --masks conflict")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"proxy-model": "no.json"}, ["no.json cannot be read: No such file"]),
        ({"proxy-model": "dino_vitb9"}, ["unknown second network", "Did you mean 'dino_vitb8'?"]),
        ({"proxy-model": DINO8}, ["describes a network without weights"]),
        ({"proxy-model": DINO8, "proxy-weights": "no.safetensors"}, ["no.safetensors", "exist"]),
        (
            {**TRIDENT, **PROXY, "sam-encoder": SAM, "sam-checkpoint": OF_SAM},
            ["needs a second network with patches of 16 pixels", "has 8: take dino_vitb16"],
        ),
        ({**TRIDENT, "sam-encoder": SAM}, ["names no weights: pass the path"]),
        ({**TRIDENT, "sam-encoder": SAM, "sam-checkpoint": "no.pth"}, ["no.pth is no file"]),
        ({**TRIDENT, "sam-encoder": "vit_x"}, ["unknown", "vit_x", "vit_b"]),
    ],
)
def test_networks(refused_method, given, words):
    says(refused_method(**{"method": "proxyclip", **given}), *words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"parameters": "beat=1"}, ["unknown parameter of method proxyclip: 'beat'", "'beta'?"]),
        ({"parameters": "beta"}, ["expected name=value", "'beta'"]),
        ({"parameters": "beta=x"}, ["beta='x'", "valid number"]),
        ({"parameters": "beta=-1"}, ["beta=-1", "greater than or equal to 0"]),
        ({"method": "csa", "parameters": "beta=1"}, ["'csa' has no parameters, found beta"]),
        ({"method": "proxyclop"}, ["unknown method 'proxyclop'. Did you mean 'proxyclip'?"]),
        ({"method": "csa,proxyclop"}, ["unknown method 'proxyclop'"]),
        ({"method": ""}, ["unknown method ''"]),
        ({"attention": "csa"}, ["--method proxyclip and --attention csa conflict"]),
        ({"points-per-side": 8}, ["--points-per-side is for masks, and none are asked for"]),
    ],
)
def test_parameters_and_names(refused_method, given, words):
    says(refused_method(**{"method": "proxyclip", **PROXY, **given}), *words)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (OF_DINO16, ["holds another network than tiny_dino8: size mismatch for pos_embed"]),
        (str(GOLDEN / "tiny_clip12.safetensors"), ["holds another network than tiny_dino8"]),
        ("torn.safetensors", ["cannot be read as weights: it is torn"]),
    ],
)
def test_weights_of_another_network(refused, small, tmp_path, monkeypatch, weights, words):
    """Found when they are loaded, before CLIP is."""
    monkeypatch.chdir(tmp_path)
    Path("torn.safetensors").write_bytes(Path(OF_DINO8).read_bytes()[:1000])
    given = flags(small, tmp_path / "artifacts", method="csa,proxyclip", templates="simple")
    line = refused(
        "run", "--direct", *given, f"--proxy-model={DINO8}", f"--proxy-weights={weights}"
    )
    says(line, *words)
    assert not list((tmp_path / "artifacts").glob("dense_features/*/ledger.jsonl"))


def test_weights_of_another_sam(refused, small, tmp_path):
    given = flags(small, tmp_path / "artifacts", templates="simple")
    networks = [f"--{k}={v}" for k, v in {**TRIDENT, "sam-encoder": SAM}.items()]
    line = refused("run", "--direct", *given, *networks, f"--sam-checkpoint={OF_DINO16}")
    says(line, "tiny_dino16.safetensors does not fit tiny_sam: size mismatch")
