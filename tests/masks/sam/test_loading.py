"""SAM's weights: which file, what is fetched, and what is refused."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import segment_anything
import torch
from safetensors.torch import save_file

from sclip_core import UserError
from sclip_core.masks.sam import loading
from sclip_core.masks.sam.decoder import SamDecoder
from sclip_core.masks.sam.encoder import SamEncoder
from sclip_core.masks.sam.loading import (
    CHECKPOINTS,
    Known,
    check_checkpoint,
    find_checkpoint,
    load_sam,
)
from tests.conftest import GOLDEN

from .models import CHANNELS, SIDE, WIDTH, build, make

CPU = torch.device("cpu")
READ = Path("/proc/self/io")
WIDE = 64


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """In place of Meta's SAMs, vit_b and vit_l: two small ones of different widths."""
    for size, width in (("vit_b", WIDTH), ("vit_l", WIDE)):
        monkeypatch.setitem(
            segment_anything.sam_model_registry, size, lambda width=width: build(embed_dim=width)
        )
        monkeypatch.setitem(CHECKPOINTS, size, Known(f"small_{size}.pth", "0" * 64, 7, width))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small vit_b and its file."""
    sam, path = make(seed=7), tmp_path_factory.mktemp("sam") / "vit_b.pth"
    torch.save(sam.state_dict(), path)
    return sam, path


def load(path: Path, size: str = "vit_b", dtype: torch.dtype = torch.float32):
    return load_sam(size, path, CPU, dtype)


def refusal(call, *arguments, **keywords) -> str:
    """The line with which something is refused."""
    with pytest.raises(UserError) as error:
        call(*arguments, **keywords)
    line = str(error.value)
    assert "\n" not in line
    assert len(line) < 900
    return line


def bytes_read() -> int:
    """By this process; what it maps into memory does not count."""
    return int(READ.read_text().split("rchar: ")[1].split()[0])


def both(size: str, path: Path) -> str:
    """The line with which a file is refused, by loading and by the check before."""
    line = refusal(load, path, size)
    assert refusal(check_checkpoint, size, path) == line
    return line


def assert_holds(path: Path, sam) -> None:
    """A file gives a model back, number for number."""
    check_checkpoint("vit_b", path)
    loaded = load(path)
    expected = sam.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=0, rtol=0, msg=name)


class TestModel:
    """What is loaded."""

    def test_is_ready(self, made):
        sam, path = made
        loaded = load(path)
        assert not any(module.training for module in loaded.modules())
        assert not any(weight.requires_grad for weight in loaded.parameters())
        tensors = [*loaded.parameters(), *loaded.buffers()]
        assert {tensor.device.type for tensor in tensors} == {"cpu"}
        assert torch.equal(loaded.pixel_mean, sam.pixel_mean)
        assert torch.equal(loaded.pixel_std, sam.pixel_std)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_numbers_that_are_not_finite(self, made, tmp_path, value):
        state = {name: weight.clone() for name, weight in made[0].state_dict().items()}
        state["mask_decoder.iou_token.weight"][0, 3] = value
        path = tmp_path / "odd.pth"
        torch.save(state, path)
        line = refusal(load, path)
        assert line.startswith(f"{path}: 1 of the {CHANNELS} numbers of 'mask_decoder.iou_token.w")

    def test_mean_and_std_are_metas(self):
        meta = segment_anything.sam_model_registry["vit_h"]
        with torch.device("meta"):
            published = meta()
        assert published.pixel_mean.shape == build().pixel_mean.shape
        picture = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1).expand(3, SIDE, SIDE)
        assert build().preprocess(picture).abs().max() == 0

    def test_sees_what_the_saved_one_sees(self, made):
        sam, path = made
        pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        expected = SamEncoder(sam.image_encoder)(pixels)
        assert torch.equal(SamEncoder(load(path).image_encoder)(pixels), expected)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_precision(self, made, dtype):
        loaded = load(made[1], dtype=dtype)
        norms = torch.float32 if dtype == torch.bfloat16 else dtype  # on a CPU
        for name, weight in loaded.image_encoder.blocks.named_parameters():
            assert weight.dtype == (norms if ".norm" in name else dtype)
        assert {weight.dtype for weight in loaded.image_encoder.neck.parameters()} == {
            torch.float32  # it squares: half precision would overflow
        }
        assert {weight.dtype for weight in loaded.mask_decoder.parameters()} == {dtype}
        prompts = loaded.prompt_encoder
        tensors = [*prompts.parameters(), *prompts.buffers()]
        assert {tensor.dtype for tensor in tensors} == {torch.float32}

    def test_a_file_in_half_precision(self, made, tmp_path):
        """Prompts are placed in fp32 all the same."""
        sam, _ = made
        half = {name: value.half() for name, value in sam.state_dict().items()}
        torch.save(half, tmp_path / "half.pth")
        loaded = load(tmp_path / "half.pth")
        embedding = torch.randn(CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0))
        points = torch.tensor([[3.0, 4.0], [60.0, 100.0]])
        ours = SamDecoder(loaded).prompt(embedding, points).quality
        expected = SamDecoder(sam).prompt(embedding, points).quality
        torch.testing.assert_close(ours, expected, atol=0.02, rtol=0)

    def test_random_numbers_stay_in_order(self, made):
        """Nothing is initialised that the file overwrites."""
        state = torch.random.get_rng_state()
        load(made[1])
        assert torch.equal(torch.random.get_rng_state(), state)


class TestFormats:
    """The same weights in every kind of file."""

    def test_saved_state_dict(self, made):
        assert_holds(made[1], made[0])

    def test_safetensors(self, made, tmp_path):
        save_file(made[0].state_dict(), tmp_path / "sam.safetensors")
        assert_holds(tmp_path / "sam.safetensors", made[0])

    def test_before_zip_files(self, made, tmp_path):
        path = tmp_path / "sam.pth"
        torch.save(made[0].state_dict(), path, _use_new_zipfile_serialization=False)
        assert_holds(path, made[0])

    def test_checkpoint_of_a_training_run(self, made, tmp_path):
        state = {f"module.{name}": value for name, value in made[0].state_dict().items()}
        torch.save({"epoch": 3, "state_dict": state}, tmp_path / "sam.pth")
        assert_holds(tmp_path / "sam.pth", made[0])


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


class TestBadFiles:
    """Each gets one line, the same by the check as by loading where the check can know."""

    @pytest.mark.parametrize("zipped", [True, False])
    def test_pickled_code_is_not_run(self, made, tmp_path, zipped):
        path, sprung = tmp_path / "trap.pth", tmp_path / "sprung"
        content = {**made[0].state_dict(), "trap": Trap(sprung)}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        assert "holds pickled code (io.open), which is never executed" in both("vit_b", path)
        assert not sprung.exists()
        torch.load(path, weights_only=False)["trap"].close()
        assert sprung.exists()

    @pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
    def test_torn(self, made, tmp_path, share):
        path = tmp_path / "torn.pth"
        path.write_bytes(made[1].read_bytes())
        os.truncate(path, int(path.stat().st_size * share))
        assert f"{path} cannot be read as weights: it is torn" in both("vit_b", path)

    @pytest.mark.parametrize("content", [b"", b"<html>not found</html>\n"])
    def test_rubbish(self, tmp_path, content):
        (tmp_path / "sam.pth").write_bytes(content)
        assert "cannot be read as weights" in both("vit_b", tmp_path / "sam.pth")

    @pytest.mark.parametrize(("size", "other"), [("vit_b", "vit_l"), ("vit_l", "vit_b")])
    def test_another_size(self, tmp_path, size, other):
        path = tmp_path / "sam.pth"
        torch.save(make(embed_dim=CHECKPOINTS[other].width).state_dict(), path)
        assert both(size, path) == f"{path} is SAM's {other}, not {size}: pass --sam-model {other}"
        check_checkpoint(other, path)
        load(path, other)

    def test_a_size_that_is_not_published(self, tmp_path):
        torch.save(make(embed_dim=32).state_dict(), tmp_path / "sam.pth")
        line = both("vit_b", tmp_path / "sam.pth")
        assert "holds no weights of SAM: expected Meta's small_vit_b.pth for vit_b" in line

    def test_a_clip(self):
        line = both("vit_l", GOLDEN / "tiny_clip.safetensors")
        assert "holds no weights of SAM: expected Meta's small_vit_l.pth for vit_l" in line

    @pytest.mark.parametrize("content", [{}, {"a": 1}, [torch.zeros(1)], None])
    def test_no_state_dict(self, tmp_path, content):
        torch.save(content, tmp_path / "odd.pth")
        assert "holds no weights" in both("vit_b", tmp_path / "odd.pth")

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"mask_decoder.iou_token.weight": None}, "mask_decoder.iou_token.weight"),
            ({"image_encoder.neck.9.weight": torch.zeros(1)}, "image_encoder.neck.9.weight"),
            ({"image_encoder.pos_embed": torch.zeros(1, 4, 4, WIDTH)}, "image_encoder.pos_embed"),
        ],
        ids=["lacks one", "one too many", "another image side"],
    )
    def test_of_the_size_but_not_sam(self, made, tmp_path, change, says):
        state = {**made[0].state_dict(), **change}
        torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "odd.pth")
        line = refusal(load, tmp_path / "odd.pth")
        assert "odd.pth does not fit SAM's vit_b: " in line
        assert says in line

    def test_the_check_reads_no_numbers(self, made):
        if not READ.is_file():
            pytest.skip("this system does not count what a process reads")
        size = made[1].stat().st_size
        before = bytes_read()
        check_checkpoint("vit_b", made[1])
        between = bytes_read()
        load(made[1])
        assert between - before < size / 2
        assert bytes_read() - between > size * 3 / 4


class TestLibrary:
    """segment_anything is an extra of its own."""

    @pytest.mark.parametrize("missing", ["segment_anything", "torchvision"])
    def test_is_not_installed(self, made, monkeypatch, missing):
        for name in list(sys.modules):
            if name.split(".")[0] in ("segment_anything", missing):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, missing, None)
        line = refusal(load, made[1])
        assert "segment_anything is not installed: pip install 'sclip-benchmark[sam]'" in line
        assert "--proposals felzenszwalb" in line

    def test_something_else_is_missing(self, made, monkeypatch, tmp_path):
        (tmp_path / "segment_anything.py").write_text("import module_that_is_not_there\n")
        monkeypatch.delitem(sys.modules, "segment_anything")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ModuleNotFoundError, match="module_that_is_not_there"):
            load(made[1])


class Meta(ThreadingHTTPServer):
    """A server of one file."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.name = content, name
        self.torn = self.garbled = False
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/segment_anything"


class Answer(BaseHTTPRequestHandler):
    """GET of /segment_anything/<name>."""

    server: Meta

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(self.path)
        if server.garbled:
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            return
        if self.path != f"/segment_anything/{server.name}":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        self.wfile.write(
            server.content[: len(server.content) // 2] if server.torn else server.content
        )

    def log_message(self, *arguments) -> None:
        """Not on stderr."""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home of torch's, and no proxy."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return tmp_path / "home"


@pytest.fixture
def server(made, home, monkeypatch):
    """A server that has vit_b."""
    content = made[1].read_bytes()
    known = CHECKPOINTS["vit_b"]._replace(sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(CHECKPOINTS, "vit_b", known)
    started = Meta(content, known.name)
    monkeypatch.setattr(loading, "SERVER", started.address)
    threading.Thread(target=started.serve_forever, daemon=True).start()
    yield started
    started.shutdown()
    started.server_close()


@pytest.fixture
def no_network(monkeypatch):
    touched = []

    def refuse(*arguments, **keywords):
        touched.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert not touched


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class TestGiven:
    """The file that the user named."""

    def test_is_taken(self, made, home, no_network):
        assert find_checkpoint("vit_b", made[1]) == made[1]
        assert not home.exists()

    def test_missing(self, tmp_path, home, no_network):
        line = refusal(find_checkpoint, "vit_b", tmp_path / "gone.pth")
        assert line.startswith(f"SAM's checkpoint {tmp_path / 'gone.pth'} does not exist: pass")

    def test_folder(self, tmp_path, home, no_network):
        assert f"{tmp_path} is not a file: pass" in refusal(find_checkpoint, "vit_b", tmp_path)


class TestFetched:
    """Meta's file, into torch's own folder."""

    def test_is_fetched_once(self, server, home, made):
        path = find_checkpoint("vit_b", None)
        assert path == home / "hub" / "checkpoints" / "small_vit_b.pth"
        assert path.read_bytes() == server.content
        assert find_checkpoint("vit_b", None) == path
        assert find_checkpoint("vit_b", None, download=False) == path
        assert server.requests == ["/segment_anything/small_vit_b.pth"]
        assert files(home) == [path]
        assert_holds(path, made[0])

    def test_another_digest(self, server, home):
        server.content = server.content[:-1] + b"\1"
        line = refusal(find_checkpoint, "vit_b", None)
        assert "small_vit_b.pth could not be fetched (invalid hash value" in line
        assert files(home) == []

    def test_connection_breaks_off(self, server, home):
        server.torn = True
        line = refusal(find_checkpoint, "vit_b", None)
        assert "small_vit_b.pth could not be fetched" in line
        assert files(home) == []

    def test_not_on_the_server(self, server, home):
        line = refusal(find_checkpoint, "vit_l", None)
        assert "small_vit_l.pth could not be fetched (HTTP Error 404: Not Found)" in line
        assert f"fetch {server.address}/small_vit_l.pth (7 MB) yourself" in line
        assert files(home) == []

    def test_server_is_gone(self, home, monkeypatch):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{free.getsockname()[1]}/sam"
        monkeypatch.setattr(loading, "SERVER", address)
        line = refusal(find_checkpoint, "vit_b", None)
        assert "Connection refused" in line
        assert f"fetch {address}/small_vit_b.pth (7 MB) yourself" in line
        assert line.endswith("and pass it: --sam-checkpoint FILE")

    def test_server_speaks_something_else(self, server, home):
        server.garbled = True
        line = refusal(find_checkpoint, "vit_b", None)
        assert line.endswith("and pass it: --sam-checkpoint FILE")
        assert files(home) == []

    def test_address_is_none(self, home, monkeypatch, no_network):
        """As SCLIP_SAM_URL may be."""
        monkeypatch.setattr(loading, "SERVER", "mirror.example/sam")
        line = refusal(find_checkpoint, "vit_b", None)
        assert "fetch mirror.example/sam/small_vit_b.pth" in line

    def test_no_place_for_it(self, server, home):
        home.write_text("a file where a folder should be")
        line = refusal(find_checkpoint, "vit_b", None)
        assert "small_vit_b.pth could not be fetched" in line
        assert server.requests == []

    def test_without_download_nothing_is_asked(self, home, no_network):
        line = refusal(find_checkpoint, "vit_b", None, download=False)
        assert line.startswith("SAM's weights small_vit_b.pth are not in ")
        assert str(home / "hub" / "checkpoints") in line
        assert f"fetch {loading.SERVER}/small_vit_b.pth (7 MB) yourself" in line
        assert not home.exists()


@pytest.mark.parametrize("size", ["vit_b", "vit_l", "vit_h"])
def test_metas_files(monkeypatch, size):
    """The widths by which they are told are those that segment_anything builds."""
    monkeypatch.undo()
    with torch.device("meta"):
        sam = segment_anything.sam_model_registry[size]()
    known = CHECKPOINTS[size]
    assert known.name.startswith(f"sam_{size}_")
    assert sam.state_dict()[loading.WIDTH_OF].numel() == known.width
    weights = sum(weight.nbytes for weight in sam.state_dict().values())
    assert weights / 2**20 == pytest.approx(known.megabytes, abs=1)
