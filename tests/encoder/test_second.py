"""The second network: against timm's own forward and DINO's rule; loading; what users get wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch.nn.functional import interpolate

from sclip_core import UserError
from sclip_core.encoder import second_loading
from sclip_core.encoder.second import CLIP_MEAN, CLIP_STD, MEAN, STD, TAPS, SecondNetwork
from sclip_core.encoder.second_loading import JSON_KEY, SHORT, find_second, load_second

from ..conftest import GOLDEN

CPU = torch.device("cpu")
JSON, WEIGHTS = (str(GOLDEN / f"tiny_dino8.{suffix}") for suffix in ("json", "safetensors"))
DINOV2 = {"img_size": 56, "patch_size": 14, "embed_dim": 32, "depth": 3, "num_heads": 2}
REGISTERS = {"reg_tokens": 4, "no_embed_class": True}


@pytest.fixture(scope="module")
def dino() -> SecondNetwork:
    return load_second(find_second(JSON, WEIGHTS), CPU)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def random_vit(**arguments) -> VisionTransformer:
    torch.manual_seed(0)
    vit = VisionTransformer(**arguments, num_classes=0).eval().requires_grad_(False)
    for parameter in vit.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return vit


def described(folder: Path, state: dict[str, torch.Tensor], **arguments) -> tuple[str, str]:
    """A JSON and a weights file of a network."""
    (folder / "vit.json").write_text(json.dumps({JSON_KEY: arguments}))
    torch.save(state, folder / "vit.pth")
    return str(folder / "vit.json"), str(folder / "vit.pth")


class TestTaps:
    def test_tokens_are_timms_at_native_size(self, dino, pixels):
        expected = dino.vit.forward_features(pixels)[:, 1:].unflatten(1, (28, 28))
        torch.testing.assert_close(dino.taps(pixels, ["tokens"])["tokens"], expected)

    @pytest.mark.parametrize("more", [{}, {"init_values": 0.5}, {"init_values": 0.5, **REGISTERS}])
    def test_dinov2_with_layer_scale_and_registers(self, more):
        vit = random_vit(**DINOV2, **more)
        pixels = torch.randn(1, 3, 56, 56)
        prefix = 1 + more.get("reg_tokens", 0)
        expected = vit.forward_features(pixels)[:, prefix:].unflatten(1, (4, 4))
        network = SecondNetwork(vit)
        torch.testing.assert_close(network.taps(pixels, ["tokens"])["tokens"], expected)

    def test_queries_and_keys_are_those_of_the_last_block(self, dino, pixels):
        seen = []
        hook = dino.vit.blocks[-1].attn.qkv.register_forward_hook(lambda *a: seen.append(a[2]))
        dino.vit.forward_features(pixels)
        hook.remove()
        queries, keys, _ = seen[0][:, 1:].unflatten(1, (28, 28)).chunk(3, dim=-1)
        found = dino.taps(pixels, ["queries+keys"])["queries+keys"]
        torch.testing.assert_close(found, queries + keys)

    def test_the_penultimate_completes_to_the_tokens(self, dino, pixels):
        """Also by the parts of the last block; CLS is needed as a key only."""
        vit, last = dino.vit, dino.last
        x = vit.blocks[:-1](vit._pos_embed(vit.patch_embed(pixels)))
        found = dino.taps(pixels, TAPS)
        torch.testing.assert_close(found["penultimate"].flatten(1, 2), x[:, 1:])
        q, k, v = (t.unflatten(-1, (3, 32)).transpose(1, 2) for t in last.qkv(x))
        scores = (q @ k.transpose(-1, -2)) / 32**0.5
        mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        complete = last.norm(last.mlp(x + last.project(mixed)))
        assert last.num_heads == 3
        torch.testing.assert_close(
            found["tokens"].flatten(1, 2), complete[:, 1:], atol=1e-5, rtol=1e-5
        )

    def test_layer_scale_is_in_the_parts_of_the_last_block(self):
        vit = random_vit(**DINOV2, init_values=0.5)
        block, last = vit.blocks[-1], SecondNetwork(vit).last
        x = torch.randn(1, 5, 32)
        torch.testing.assert_close(last.project(x), block.attn.proj(x) * block.ls1.gamma)
        expected = x + block.mlp(block.norm2(x)) * block.ls2.gamma
        torch.testing.assert_close(last.mlp(x), expected)

    def test_every_tap_is_float32_in_half_precision(self, pixels):
        network = load_second(find_second(JSON, WEIGHTS), CPU, torch.bfloat16)
        assert network.dtype == torch.bfloat16
        for tap in network.taps(pixels[:1, :, :64, :64], TAPS).values():
            assert tap.shape == (1, 8, 8, network.width)
            assert tap.dtype == torch.float32

    def test_no_such_tap(self, dino, pixels):
        with pytest.raises(ValueError, match="no tap 'values'"):
            dino.taps(pixels[..., :16, :16], ["values"])

    @pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 7, 64)])
    def test_pixels_of_another_shape(self, dino, shape):
        with pytest.raises(UserError, match="expected \\(B, 3, h, w\\)"):
            dino.taps(torch.zeros(shape), ["tokens"])


class TestPositions:
    @pytest.mark.parametrize("size", [(168, 336), (336, 336), (56, 224), (224, 230), (112, 448)])
    def test_dinos_own_rule(self, dino, size):
        """Scale factors with 0.1, and the table as it is only for squares of the same count."""
        found = self.positions(dino, size)
        rows, columns = size[0] // 8, size[1] // 8
        planes = dino.vit.pos_embed[:, 1:].reshape(1, 28, 28, -1).permute(0, 3, 1, 2)
        scale = ((rows + 0.1) / 28, (columns + 0.1) / 28)
        expected = interpolate(planes, scale_factor=scale, mode="bicubic")
        torch.testing.assert_close(found, expected[0].flatten(1).T)

    def test_the_table_as_it_is(self, dino):
        assert torch.equal(self.positions(dino, (224, 224)), dino.vit.pos_embed[0, 1:])
        assert torch.equal(self.positions(dino, (230, 230)), dino.vit.pos_embed[0, 1:])

    @staticmethod
    def positions(dino, size):
        """What is added to black pixels' patches, which are all the bias."""
        grid = (size[0] // 8, size[1] // 8)
        return (dino._embed(torch.zeros(1, 3, *size), grid)[0, 1:]) - dino.vit.patch_embed.proj.bias


class TestPrepare:
    def test_from_clips_normalisation(self, dino):
        rgb = torch.rand(1, 3, 4, 5)
        shaped = [torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD, MEAN, STD)]
        found = dino.prepare((rgb - shaped[0]) / shaped[1])
        torch.testing.assert_close(found, (rgb - shaped[2]) / shaped[3])

    def test_padding_is_clips_mean_colour(self, dino):
        found = dino.prepare(torch.zeros(1, 3, 1, 1)).flatten()
        expected = torch.tensor([-0.0155, 0.0082, 0.0098])
        torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)

    def test_another_clips_normalisation(self, dino):
        found = dino.prepare(torch.zeros(1, 3, 1, 1), mean=MEAN, std=(0.5, 0.5, 0.5))
        torch.testing.assert_close(found, torch.zeros(1, 3, 1, 1))


class TestLoading:
    def test_spec(self):
        spec = find_second(JSON, WEIGHTS)
        assert (spec.name, spec.kind, spec.patch) == ("tiny_dino8", "json", 8)
        assert (spec.mean, spec.std) == (MEAN, STD)
        assert spec.config["embed_dim"] == 96

    def test_every_short_name_is_one_of_timms(self):
        for short, name in SHORT.items():
            assert second_loading._timm_name(short) == second_loading._timm_name(name) == name

    def test_a_name_with_a_file(self, tmp_path):
        state = random_vit(patch_size=16, embed_dim=192, depth=12, num_heads=3).state_dict()
        state |= {"head.weight": torch.zeros(10, 192), "head.bias": torch.zeros(10)}
        save_file(state, tmp_path / "vit.safetensors")
        spec = find_second("vit_tiny_patch16_224", str(tmp_path / "vit.safetensors"))
        assert (spec.kind, spec.patch, spec.mean) == ("timm", 16, (0.5, 0.5, 0.5))
        network = load_second(spec, CPU)
        assert network.width == 192
        assert torch.equal(network.vit.pos_embed, state["pos_embed"])

    @pytest.mark.parametrize("registers", [{}, REGISTERS])
    def test_facebookresearchs_names(self, tmp_path, registers):
        """Of DINOv2: what timm's own conversion makes of them."""
        arguments = DINOV2 | {"init_values": 0.5} | registers
        state = random_vit(**arguments).state_dict()
        published = dict(state) | {"mask_token": torch.zeros(1, 32)}
        if registers:
            published["register_tokens"] = published.pop("reg_token")
            cls_position = torch.randn(1, 1, 32)
            published["pos_embed"] = torch.cat([cls_position, state["pos_embed"]], dim=1)
            published["cls_token"] = state["cls_token"] - cls_position
        network = load_second(find_second(*described(tmp_path, published, **arguments)), CPU)
        expected = checkpoint_filter_fn(dict(published), VisionTransformer(**arguments))
        for name, value in network.vit.state_dict().items():
            torch.testing.assert_close(value, expected[name])
            torch.testing.assert_close(value, state[name])

    def test_the_gated_mlp_of_the_largest(self):
        weight = torch.ones(1)
        found = second_loading._as_timm_names_them(
            {"blocks.0.mlp.w12.weight": weight, "blocks.0.mlp.w3.bias": weight}
        )
        assert set(found) == {"blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.bias"}


def refused(model: str, weights: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_second(find_second(model, weights, download=False), CPU)
    line = str(caught.value)
    assert "\n" not in line
    return line


class TestMistakes:
    def test_unknown_names(self):
        assert "Did you mean 'dino_vitb8'" in refused("dino_vitb")
        assert "Did you mean 'vit_base_patch8_224.dino'" in refused("vit_base_patch8_224.din")
        assert "is a URL" in refused("https://example.org/dino.json")
        assert "unknown second network" in refused("hf_hub:timm/vit_base_patch8_224.dino")

    @pytest.mark.parametrize(
        "name", ["resnet18", "vit_small_patch16_dinov3", "deit_tiny_distilled"]
    )
    def test_no_plain_vit(self, name):
        name = {"deit_tiny_distilled": "deit_tiny_distilled_patch16_224"}.get(name, name)
        assert "cannot be the second network: it is of the class" in refused(name, WEIGHTS)

    @pytest.mark.parametrize(
        ("argument", "reason"),
        [
            ({"qk_norm": True}, "no plain attention"),
            ({"pos_embed": "none"}, "no position table"),
            ({"final_norm": False}, "no final norm"),
            ({"in_chans": 1}, "three colours"),
            ({"patch_size": [8, 16]}, "not square"),
            ({"depths": 4}, "cannot be built by timm: TypeError"),
            ({"embed_dim": "wide"}, "cannot be built by timm"),
        ],
    )
    def test_a_json_of_another_network(self, tmp_path, argument, reason):
        model, weights = described(tmp_path, {}, **argument)
        assert reason in refused(model, weights)

    def test_a_json_that_is_none(self, tmp_path):
        path = tmp_path / "vit.json"
        assert "cannot be read: No such file" in refused(str(path), WEIGHTS)
        for text, reason in [("{", "not valid JSON"), ("[]", "lacks"), ('{"a": 1}', "lacks")]:
            path.write_text(text)
            assert reason in refused(str(path), WEIGHTS)

    def test_missing_weights(self, tmp_path, monkeypatch):
        assert "without weights" in refused(JSON)
        assert "does not exist" in refused(JSON, str(tmp_path / "no.pth"))
        assert "is a folder" in refused(JSON, str(tmp_path))
        monkeypatch.setattr(second_loading, "try_to_load_from_cache", lambda *_: None)
        line = refused("dino_vitb8", "")
        assert "hf_hub_download('timm/vit_base_patch8_224.dino', 'model.safetensors')" in line
        assert "timm has no weights of vit_base_patch32_plus_256" in refused(
            "vit_base_patch32_plus_256"
        )

    def test_a_download_that_fails(self, monkeypatch):
        def fails(*_):
            raise ConnectionError("no route\nto the hub")

        monkeypatch.setattr(second_loading, "try_to_load_from_cache", lambda *_: None)
        monkeypatch.setattr(second_loading, "hf_hub_download", fails)
        monkeypatch.setattr(second_loading, "hub_fault", lambda: None)
        with pytest.raises(UserError, match="could not be fetched \\(no route\\)"):
            find_second("dino_vitb8")

    def test_torn_weights(self, tmp_path):
        path = tmp_path / "torn.safetensors"
        path.write_bytes(Path(WEIGHTS).read_bytes()[:1000])
        assert "torn" in refused(JSON, str(path))

    def test_weights_of_another_network(self, tmp_path):
        other = str(GOLDEN / "tiny_dino16.safetensors")
        assert "holds another network than tiny_dino8: size mismatch" in refused(JSON, other)
        state = load_file(WEIGHTS)
        del state["norm.bias"]
        save_file(state, tmp_path / "less.safetensors")
        assert "Missing key" in refused(JSON, str(tmp_path / "less.safetensors"))
        save_file(load_file(WEIGHTS) | {"more": torch.ones(1)}, tmp_path / "more.safetensors")
        assert "Unexpected key" in refused(JSON, str(tmp_path / "more.safetensors"))

    def test_weights_that_are_not_finite(self, tmp_path):
        state = load_file(WEIGHTS)
        state["norm.bias"][3] = torch.nan
        save_file(state, tmp_path / "nan.safetensors")
        assert "not finite" in refused(JSON, str(tmp_path / "nan.safetensors"))

    def test_pickled_code(self, tmp_path):
        torch.save({"model": replace}, tmp_path / "code.pth")
        assert "pickled code" in refused(JSON, str(tmp_path / "code.pth"))


class TestHub:
    @pytest.fixture
    def cached(self, tmp_path, monkeypatch):
        """A file as the hub's cache keeps it: named by its digest, with a link to it."""
        digest = hashlib.sha256(Path(WEIGHTS).read_bytes()).hexdigest()
        blob = tmp_path / "blobs" / digest
        blob.parent.mkdir()
        shutil.copy(WEIGHTS, blob)
        link = tmp_path / "snapshots" / "model.safetensors"
        link.parent.mkdir()
        link.symlink_to(blob)
        found = {"model.safetensors": str(link)}
        monkeypatch.setattr(second_loading, "try_to_load_from_cache", lambda _, name: found[name])
        return link

    def test_a_cached_file_is_used(self, cached):
        spec = find_second("dino_vitb8", download=False)
        assert (spec.name, spec.weights, spec.patch) == ("dino_vitb8", cached, 8)
        load_second(find_second(JSON, str(cached)), CPU)

    def test_its_digest_is_checked(self, cached):
        with cached.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\x01")
        assert "is damaged: its SHA-256 is" in refused(JSON, str(cached))


@pytest.mark.parametrize(
    ("model", "tag"), [("vit_base_patch8_224", "dino"), ("dino_vitb8", "dino")]
)
def test_weights_by_a_tag(model, tag):
    with pytest.raises(UserError, match=r"timm/vit_base_patch8_224\.dino'"):
        find_second(model, tag, download=False)


def test_an_unknown_tag():
    with pytest.raises(UserError, match=r"unknown weights of vit_base_patch8_224 .*'dno'.*'dino'"):
        find_second("dino_vitb8", "dno", download=False)
