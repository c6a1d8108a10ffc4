"""Finding and loading CLIPs: names, tags, files of every format, and what is refused."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import socket
import zipfile
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants

from sclip_core import SCLIP, UserError
from sclip_core.encoder import find_model, load_model
from sclip_core.encoder.loading import load_tokenizer
from sclip_core.tensors import read_state
from sclip_core.tensors.device import find_device, find_dtype

from .models import build, make, small_config

# torch.jit is deprecated; OpenAI's archives stay.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")

CPU = torch.device("cpu")
REPOSITORY = "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"
OPENAI = "timm/vit_base_patch16_clip_224.openai"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small CLIP on disk."""
    return make(tmp_path_factory.mktemp("model"), small_config())


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache, and no way to the network."""
    touched = []

    def refuse(*arguments, **keywords):
        touched.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield tmp_path / "hub"
    assert not touched


def put(cache: Path, repository: str, filename: str) -> Path:
    """A file in a hub cache, laid out as huggingface_hub does."""
    folder = cache / ("models--" + repository.replace("/", "--"))
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (snapshot / filename).write_bytes(b"weights")
    return snapshot / filename


def refusal(model, pretrained, **keywords) -> str:
    """The line with which a model is refused, by finding or by loading."""
    with pytest.raises(UserError) as error:
        load_model(find_model(str(model), str(pretrained), **keywords), CPU)
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 900
    return line


def assert_holds(weights: Path, made) -> None:
    """A weights file, under the made model's JSON, gives that model back, number for number."""
    loaded = load_model(find_model(str(made.json), str(weights)), CPU)
    expected = made.clip.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=0, rtol=0, msg=name)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


class TestNames:
    """What a model and a tag may be called."""

    @pytest.mark.parametrize(
        ("spelling", "name", "patch", "width", "size"),
        [
            ("ViT-B/16", "ViT-B-16", 16, 512, 224),
            ("ViT-B-16", "ViT-B-16", 16, 512, 224),
            ("ViT-B/32", "ViT-B-32", 32, 512, 224),
            ("ViT-L/14", "ViT-L-14", 14, 768, 224),
            ("ViT-L/14@336px", "ViT-L-14-336", 14, 768, 336),
            ("ViT-H-14-378-quickgelu", "ViT-H-14-378-quickgelu", 14, 1024, 378),
        ],
    )
    def test_spellings(self, made, spelling, name, patch, width, size):
        spec = find_model(spelling, str(made.weights))
        assert (spec.name, spec.patch, spec.width) == (name, patch, width)
        assert spec.config["vision_cfg"]["image_size"] == size

    def test_openai_tag_gets_quickgelu_by_itself(self, hub_cache):
        file = put(hub_cache, OPENAI, "open_clip_model.safetensors")
        spec = find_model("ViT-B/16", "openai")
        assert spec.config["quick_gelu"] is True
        assert spec.weights == file
        assert (spec.name, spec.pretrained) == ("ViT-B-16", "openai")

    def test_other_tags_keep_gelu(self, hub_cache):
        put(hub_cache, "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "open_clip_model.safetensors")
        spec = find_model("ViT-B-16", "laion2b_s34b_b88k")
        assert not spec.config.get("quick_gelu")

    @pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
    @pytest.mark.parametrize("tag", ["openai", "OpenAI"])
    def test_a_tag_is_no_folder_of_that_name(self, hub_cache, tmp_path, monkeypatch, make, tag):
        """Nor a file; with ./ before it, it is."""
        file = put(hub_cache, OPENAI, "open_clip_model.safetensors")
        monkeypatch.chdir(tmp_path)
        make(tmp_path / tag)
        assert find_model("ViT-B-16", tag).weights == file
        if make is Path.mkdir:
            assert "is a folder: pass the path" in refusal("ViT-B-16", f"./{tag}")
        else:
            assert find_model("ViT-B-16", f"./{tag}").weights == Path(tag)

    def test_a_tag_of_the_demo_is_no_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "scenes").mkdir()
        assert find_model("sclip-demo", "scenes").weights.is_file()
        assert "no checkpoint at gone" in refusal("sclip-demo", "./gone")

    def test_a_file_that_no_tag_is_called_by(self, made, tmp_path, monkeypatch):
        """Weights without an ending, in the current folder."""
        monkeypatch.chdir(tmp_path)
        shutil.copy(made.weights, tmp_path / "mine")
        assert find_model(str(made.json), "mine").weights == Path("mine")

    def test_a_url_is_neither(self, made):
        assert "is a URL; " in refusal(made.json, "s3://bucket/w.safetensors")

    def test_mean_and_std_of_the_tag(self, hub_cache):
        """OpenAI's as the reference rounds them; another model's as open_clip has them."""
        put(hub_cache, OPENAI, "open_clip_model.safetensors")
        assert find_model("ViT-B-16", "openai").mean == (122.771, 116.746, 104.094)
        tag = open_clip.get_pretrained_cfg("ViT-L-14-CLIPA", "datacomp1b")
        put(hub_cache, tag["hf_hub"].strip("/"), "open_clip_pytorch_model.bin")
        spec = find_model("ViT-L-14-CLIPA", "datacomp1b")
        assert spec.mean == pytest.approx([255 * value for value in tag["mean"]])
        assert spec.weights.name == "open_clip_pytorch_model.bin"

    def test_safetensors_before_pickles(self, hub_cache):
        put(hub_cache, OPENAI, "open_clip_pytorch_model.bin")
        put(hub_cache, OPENAI, "open_clip_model.safetensors")
        assert find_model("ViT-B-16", "openai").weights.suffix == ".safetensors"

    @pytest.mark.slow
    def test_every_plain_vit_of_open_clip_is_found(self, made):
        """All that open_clip lists is either found or refused with a reason."""
        found, refused, reasons = [], [], set()
        for name in open_clip.list_models():
            try:
                found.append(find_model(name, str(made.weights)).name)
            except UserError as error:
                refused.append(name)
                reasons.add(str(error).split(": ")[0].removesuffix(name))
        assert reasons == {"sclip has no way yet to read dense features from "}
        assert {"ViT-B-16", "ViT-L-14-336", "ViT-bigG-14", "xlm-roberta-large-ViT-H-14"} <= {*found}
        assert {"coca_ViT-L-14", "ViT-B-16-SigLIP", "EVA02-B-16", "PE-Core-B-16"} <= {*found}
        assert {"RN50", "ViTamin-B", "convnext_base", "MobileCLIP-B"} <= {*refused}

    @pytest.mark.parametrize(
        ("model", "pretrained", "says"),
        [
            ("ViT-B-17", "openai", "Did you mean 'ViT-B-1"),
            ("vit-b/16", "openai", "Did you mean 'ViT-B-16'?"),
            ("hf-hub:whatever", "openai", "unknown model"),
            (REPOSITORY, "openai", f"--model hf-hub:{REPOSITORY}, which is open_clip's ViT-B-16 "),
            ("ViT-B-16", REPOSITORY, f"--model hf-hub:{REPOSITORY}, which is open_clip's"),
            ("ViT-B-16", f"hf-hub:{REPOSITORY}", f"--model hf-hub:{REPOSITORY}, which"),
            ("someone/else", "openai", "pass --model hf-hub:someone/else"),
            ("convnext_base", "laion400m_s13b_b51k", "limit is this tool's, not the model's"),
            ("ViT-B-16", "opnai", "Did you mean 'openai'?"),
            ("ViT-B-16-plus", "openai", "no weights for ViT-B-16-plus"),
            ("RN50", "openai", "its image tower is a ResNet. The limit is this tool's"),
            ("MobileCLIP-S1", "datacompdr", "its image tower is timm's FastVit"),
            ("MobileCLIP-B", "datacompdr", "by other networks (timm's HybridEmbed)"),
            ("convnext_base", "laion400m_s13b_b51k", "its image tower is timm's ConvNeXt"),
        ],
    )
    def test_refused(self, hub_cache, model, pretrained, says):
        assert says in refusal(model, pretrained)


class TestOffline:
    """No network: the cache, or a line that helps."""

    def test_missing_says_how_to_fetch_and_how_to_pass_a_path(self, hub_cache):
        line = refusal("ViT-B/16", "openai", download=False)
        assert "o.download_pretrained(o.get_pretrained_cfg('ViT-B-16', 'openai'))" in line
        assert "--model ViT-B-16-quickgelu --pretrained FILE" in line
        assert str(hub_cache) in line

    def test_download_false_never_touches_the_network(self, hub_cache):
        refusal("ViT-B-16", "openai", download=False)
        put(hub_cache, OPENAI, "open_clip_model.safetensors")
        assert find_model("ViT-B-16", "openai", download=False).weights.is_file()

    def test_what_is_cached_is_taken_without_asking(self, hub_cache):
        put(hub_cache, OPENAI, "open_clip_model.safetensors")
        assert find_model("ViT-B-16", "openai").weights.is_file()

    def test_failed_download(self, hub_cache, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        line = refusal("ViT-B-16", "openai")
        assert "could not be fetched (" in line
        assert "--pretrained FILE" in line

    def test_tokenizer_that_cannot_be_had(self, made):
        config = open_clip.get_model_config("ViT-L-14-CLIPA")
        assert config["text_cfg"]["hf_tokenizer_name"]
        spec = find_model("ViT-L-14-CLIPA", str(made.weights))
        spec.config["text_cfg"]["hf_tokenizer_name"] = "/nowhere/tokenizer"
        with pytest.raises(UserError, match="needs the tokenizer '/nowhere/tokenizer'"):
            load_tokenizer(spec)


def openai_archive(clip, path: Path) -> None:
    """Save a model as OpenAI published theirs."""
    holder = copy.deepcopy(clip).half()
    numbers = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    for name, value in numbers.items():
        holder.__dict__.pop(name, None)
        holder.register_buffer(name, torch.tensor(value))
    pixels = torch.zeros(1, 3, 224, 224).half()
    torch.jit.trace_module(holder, {"encode_image": pixels}).save(path)


class TestFormats:
    """The same weights in every kind of file."""

    def test_safetensors(self, made):
        assert_holds(made.weights, made)

    @pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth", ".weights"])
    def test_saved_state_dict(self, tmp_path, made, suffix):
        torch.save(made.clip.state_dict(), tmp_path / f"clip{suffix}")
        assert_holds(tmp_path / f"clip{suffix}", made)

    def test_before_zip_files(self, tmp_path, made):
        path = tmp_path / "clip.pt"
        torch.save(made.clip.state_dict(), path, _use_new_zipfile_serialization=False)
        assert_holds(path, made)

    def test_checkpoint_of_a_training_run(self, tmp_path, made):
        state = {f"module.{name}": value for name, value in made.clip.state_dict().items()}
        torch.save({"epoch": 3, "name": "run", "state_dict": state}, tmp_path / "epoch_3.pt")
        assert_holds(tmp_path / "epoch_3.pt", made)

    def test_openai_archive(self, tmp_path):
        """TorchScript with fp16 weights and three numbers as buffers; it brings QuickGELU."""
        made = make(tmp_path, small_config())
        made.clip.half().float()  # as precise as the archive
        archive = tmp_path / "ViT-small.pt"
        openai_archive(made.clip, archive)
        assert "input_resolution" in torch.jit.load(archive).state_dict()

        spec = find_model(str(made.json), str(archive))
        assert spec.config["quick_gelu"] is True
        assert_holds(archive, made)
        pixels = torch.rand(1, 3, 224, 224)
        quick = build(small_config(quick_gelu=True))
        quick.load_state_dict(made.clip.state_dict())
        ours = SCLIP.load(str(made.json), str(archive), device="cpu", attention="vanilla")
        expected = quick.encode_image(pixels)
        torch.testing.assert_close(ours.dense_tokens(pixels)[:, 0], expected, atol=1e-5, rtol=1e-4)

    def test_old_names_in_a_model_with_its_text_tower_apart(self, tmp_path, made):
        """A CLIP's flat names fill a CustomTextCLIP."""
        custom = make(tmp_path, small_config(custom_text=True), "custom")
        loaded = load_model(find_model(str(custom.json), str(made.weights)), CPU)
        torch.testing.assert_close(loaded.text.ln_final.weight, made.clip.ln_final.weight)

    def test_logit_scale_with_an_axis(self, tmp_path, made):
        state = dict(made.clip.state_dict())
        state["logit_scale"] = state["logit_scale"].reshape(1)
        torch.save(state, tmp_path / "clip.pt")
        assert_holds(tmp_path / "clip.pt", made)

    def test_is_read_once(self, made, monkeypatch):
        reads = []
        real = read_state
        monkeypatch.setattr(
            "sclip_core.encoder.checkpoint.read_state", lambda p: reads.append(p) or real(p)
        )
        load_model(find_model(**made.arguments), CPU)
        assert reads == [made.weights]


class TestBadFiles:
    """Each gets one line that says what to do."""

    def test_missing(self, made, tmp_path):
        assert "no checkpoint at" in refusal(made.json, tmp_path / "gone.safetensors")
        assert "no checkpoint at" in refusal(made.json, tmp_path / "gone")

    def test_folder(self, made, tmp_path):
        assert "is a folder: pass the path of a weights file in it" in refusal(made.json, tmp_path)

    @pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
    @pytest.mark.parametrize(
        "content", [b"", b"hello, world\n", bytes(range(7, 256)) * 20, b"\x80\x02", b"PK\x03\x04"]
    )
    def test_rubbish(self, made, tmp_path, suffix, content):
        path = tmp_path / f"rubbish{suffix}"
        path.write_bytes(content)
        assert "cannot be read as weights" in refusal(made.json, path)

    @pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
    @pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
    def test_torn(self, made, tmp_path, suffix, share):
        path = tmp_path / f"torn{suffix}"
        if suffix == ".pt":
            torch.save(made.clip.state_dict(), path)
        else:
            path.write_bytes(made.weights.read_bytes())
        os.truncate(path, int(path.stat().st_size * share))
        assert "cannot be read as weights: it is torn" in refusal(made.json, path)

    def test_torn_archive(self, made, tmp_path):
        path = tmp_path / "archive.pt"
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)
        with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "part.pt", "w") as part:
            for name in whole.namelist():
                if not name.endswith("data.pkl"):
                    part.writestr(name, whole.read(name))
        assert "cannot be read as weights" in refusal(made.json, tmp_path / "part.pt")

    @pytest.mark.parametrize("content", [{}, {"a": 1}, [torch.zeros(1)], torch.zeros(3), None])
    def test_no_state_dict(self, made, tmp_path, content):
        torch.save(content, tmp_path / "odd.pt")
        assert "holds no weights" in refusal(made.json, tmp_path / "odd.pt")

    @pytest.mark.parametrize("change", [{"width": 64}, {"layers": 3}, {"patch_size": 16}])
    def test_another_architecture(self, made, tmp_path, change):
        other = make(tmp_path, small_config(vision=change), "other")
        line = refusal(other.json, made.weights)
        assert "holds another architecture than other" in line
        assert "Pass the --model that these weights were trained as" in line

    def test_another_embedding(self, made, tmp_path):
        other = make(tmp_path, small_config(embed_dim=24), "other")
        assert "size mismatch" in refusal(other.json, made.weights)

    def test_positions_of_another_image_size_are_not_resized(self, made, tmp_path):
        other = make(tmp_path, small_config(vision={"image_size": 320}), "other")
        line = refusal(other.json, made.weights)
        assert "another architecture" in line
        assert "visual.positional_embedding" in line

    def test_positions_of_another_context_length_are_not_resized(self, made, tmp_path):
        other = make(tmp_path, small_config(text={"context_length": 32}), "other")
        assert "positional_embedding" in refusal(other.json, made.weights)

    def test_format_of_transformers(self, made, tmp_path):
        torch.save({"vision_model.embeddings.class_embedding": torch.zeros(4)}, tmp_path / "m.bin")
        assert "format of Hugging Face transformers" in refusal(made.json, tmp_path / "m.bin")


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


class TestPickledCode:
    """It is never executed."""

    @pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors", ".ckpt"])
    @pytest.mark.parametrize("way", ["torch", "torch, before zip files", "pickle 2", "pickle 5"])
    def test_is_refused(self, made, tmp_path, suffix, way):
        path, sprung = tmp_path / f"trap{suffix}", tmp_path / "sprung"
        content = {**made.clip.state_dict(), "trap": Trap(sprung)}
        if way.startswith("torch"):
            torch.save(content, path, _use_new_zipfile_serialization=way == "torch")
        else:
            path.write_bytes(pickle.dumps({"trap": Trap(sprung)}, protocol=int(way[-1])))
        line = refusal(made.json, path)
        assert not sprung.exists()
        if suffix != ".safetensors" and way != "pickle 5":
            assert "holds pickled code (io.open), which is never executed" in line
        else:
            assert "cannot be read as weights" in line

    def test_the_trap_works(self, tmp_path):
        torch.save(Trap(tmp_path / "sprung"), tmp_path / "trap.pt")
        torch.load(tmp_path / "trap.pt", weights_only=False).close()
        assert (tmp_path / "sprung").exists()

    def test_behind_the_mask_of_an_archive(self, made, tmp_path):
        """A pickle that calls itself TorchScript goes to a reader that knows no Python."""
        sprung = tmp_path / "sprung"
        torch.save({"trap": Trap(sprung)}, tmp_path / "trap.pt")
        with zipfile.ZipFile(tmp_path / "trap.pt", "a") as archive:
            root = archive.namelist()[0].split("/")[0]
            archive.writestr(f"{root}/constants.pkl", archive.read(f"{root}/data.pkl"))
        assert "cannot be read as weights" in refusal(made.json, tmp_path / "trap.pt")
        assert not sprung.exists()

    def test_a_whole_module_is_code(self, made, tmp_path):
        torch.save(made.clip, tmp_path / "module.pt")
        assert "holds pickled code (" in refusal(made.json, tmp_path / "module.pt")


class TestModelJson:
    """A JSON of one's own."""

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("{", "is not valid JSON"),
            ("", "is not valid JSON"),
            ("[]", "lacks embed_dim, vision_cfg, text_cfg"),
            ('{"embed_dim": 16}', "lacks vision_cfg, text_cfg"),
            ('{"embed_dim": 16, "vision_cfg": 3, "text_cfg": {}}', "lacks vision_cfg"),
            ('{"embed_dim": "16", "vision_cfg": {}, "text_cfg": {}}', "lacks embed_dim"),
        ],
    )
    def test_broken(self, made, tmp_path, text, says):
        path = tmp_path / "broken.json"
        path.write_text(text)
        assert says in refusal(path, made.weights)

    def test_missing(self, made, tmp_path):
        assert "cannot be read" in refusal(tmp_path / "gone.json", made.weights)
        (tmp_path / "folder.json").mkdir()
        assert "cannot be read" in refusal(tmp_path / "folder.json", made.weights)
        (tmp_path / "latin.json").write_bytes(b'{"\xff": 1}')
        assert "is not valid JSON" in refusal(tmp_path / "latin.json", made.weights)

    @pytest.mark.parametrize(
        "config",
        [
            small_config(vision={"patchsize": 16}),
            small_config(vision={"width": 33}),
            small_config(text={"heads": 3}),
            small_config(quick_glu=True),
        ],
    )
    def test_cannot_be_built(self, made, tmp_path, config):
        (tmp_path / "odd.json").write_text(json.dumps(config))
        assert "odd cannot be built by open_clip" in refusal(tmp_path / "odd.json", made.weights)

    @pytest.mark.parametrize(
        ("vision", "says"),
        [
            ({"attentional_pool": "parallel"}, "pools by two attentions, parallel"),
            ({"pool_type": "none"}, "pools nothing"),
            ({"timm_model_name": "resnet18", "timm_model_pretrained": True}, "is timm's ResNet"),
            ({"layers": [1, 1, 1, 1], "width": 8, "head_width": 4}, "is a ResNet"),
            ({"qk_norm": True}, "no plain attention blocks"),
            ({"layers": 0}, "no plain attention blocks"),
            ({"patch_size": [16, 32]}, "patches that are not square"),
        ],
    )
    def test_towers_that_cannot_work(self, made, tmp_path, vision, says, hub_cache):
        (tmp_path / "odd.json").write_text(json.dumps(small_config(vision=vision)))
        assert says in refusal(tmp_path / "odd.json", made.weights)

    def test_config_of_a_hub_repository(self, made, tmp_path):
        config = {"model_cfg": small_config(), "preprocess_cfg": {}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
        spec = find_model(str(tmp_path / "open_clip_config.json"), str(made.weights))
        assert (spec.name, spec.patch) == ("open_clip_config", 32)

    def test_patch_size_left_to_open_clip(self, made, tmp_path):
        config = small_config()
        del config["vision_cfg"]["patch_size"]
        (tmp_path / "default.json").write_text(json.dumps(config))
        assert find_model(str(tmp_path / "default.json"), str(made.weights)).patch == 16


class TestDevice:
    """Where and in what precision."""

    def test_auto(self):
        assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
        assert find_dtype("auto", CPU) == "fp32"
        assert find_dtype("auto", torch.device("cuda")) == "fp16"

    @pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "cpu:x", "meta"])
    def test_unknown_device(self, device):
        with pytest.raises(UserError, match=f"device '{device}' cannot be used here") as error:
            find_device(device)
        assert "\n" not in str(error.value)

    def test_unknown_dtype(self):
        with pytest.raises(UserError, match=r"unknown dtype 'fp61'\. Did you mean 'fp16'\?"):
            find_dtype("fp61", CPU)

    def test_sclip_load_refuses_before_it_loads(self, made, monkeypatch):
        monkeypatch.setattr("sclip_core.encoder.clip.load_model", pytest.fail)
        for wrong in ({"attention": "cs"}, {"dtype": "int8"}, {"device": "gpu"}):
            with pytest.raises(UserError):
                SCLIP.load(**made.arguments, **wrong)


def test_float32_on_a_gpu_is_not_rounded_to_tf32(monkeypatch):
    """PyTorch lets convolutions be, unless it is told."""
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.ones(1))  # as where there is one
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    find_device("cpu")
    assert torch.backends.cudnn.allow_tf32
    assert find_device("cuda").type == "cuda"
    assert not torch.backends.cudnn.allow_tf32
