"""What all tests share: the golden arrays, the tiny CLIP, the photographs where they are."""

from __future__ import annotations

import logging
import os
import urllib.request
import uuid

# The golden arrays' rounding, on every x86-64: AVX2 kernels, the same for every batch size. Before
# torch is imported. Without it the tiny CLIP's sharpened attention makes 1e-4 of a last digit.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
# oneDNN looks at the processor itself: where it finds AMX, torch's attention in bf16 asks its
# AVX2 kernels to pack for it, which they cannot ("pack_vnni2 is only supported when avx512 is").
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
os.environ.setdefault("GOMP_SPINCOUNT", "0")  # waiting threads leave the cores to other tests

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary
from zlib import crc32

import numpy as np
import open_clip
import pytest
import torch

from sclip_core import SCLIP
from sclip_core.config.places import ObjectPath
from sclip_core.encoder import DenseEncoder, clip, encode_word, zoo

from .browser import browser  # noqa: F401  a fixture

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
SHARED = HERE.parent.parent / "shared" / "data"
TINY = {
    "model": str(GOLDEN / "tiny_clip.json"),
    "pretrained": str(GOLDEN / "tiny_clip.safetensors"),
}
IMAGES = ("shapes_300x420", "shapes_portrait_360x230", "shapes_wide_100x1500")
THREADS = torch.get_num_threads()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """One thread, also in the processes that a test starts: several are slower on tiny tensors.

    The slow tests have tensors of real sizes, and as many threads as PyTorch chose.
    """
    threads = THREADS if item.get_closest_marker("slow") else 1
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def tokens_made_once() -> Iterator[None]:
    """CLIP's own tokenizer tokenises each text once.

    Hundreds of runs ask it for the same few thousand prompts, which took a third of their time.
    """
    usual = open_clip.tokenizer._tokenizer  # where open_clip is loaded, it is ours
    assert zoo.simple_tokenizer() is usual
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usual, "encode", cache(usual.encode))
        yield


@pytest.fixture(scope="session", autouse=True)
def words_encoded_once() -> Iterator[None]:
    """A word is encoded once by the same weights, as hundreds of runs ask for the same few words.

    The tests of ``encode_word`` call it themselves.
    """
    digests: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
    known: dict[Any, torch.Tensor] = {}

    def digest(model: Any) -> int:
        heads = [module.num_heads for module in model.modules() if hasattr(module, "num_heads")]
        found = crc32(f"{model} {heads}".encode())
        for name, value in model.state_dict().items():
            if not name.startswith("visual."):
                found = crc32(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy(), found)
        return found

    def encoded(model: Any, tokenizer: Any, word: str, templates: str, *rest: Any) -> torch.Tensor:
        if model not in digests:
            digests[model] = digest(model)
        asked = digests[model], type(tokenizer), word, templates
        if asked not in known:
            known[asked] = encode_word(model, tokenizer, word, templates, *rest)
        return known[asked].clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "encode_word", encoded)
        yield


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As the golden arrays were checked with: one thread adds some sums in another order."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> SCLIP:
    """The golden tiny CLIP, CSA, fp32 on the CPU."""
    return SCLIP.load(**TINY, device="cpu")


@pytest.fixture(scope="session")
def golden():
    """The golden arrays of an image by name; opened once."""
    opened: dict[str, dict[str, np.ndarray]] = {}

    def load(name: str) -> dict[str, np.ndarray]:
        if name not in opened:
            with np.load(GOLDEN / f"{name}.npz") as arrays:
                opened[name] = dict(arrays)
        return opened[name]

    return load


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of real photographs with ground truth; they are not part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"no photographs at {SHARED}: they are not part of the project")
    return SHARED


@pytest.fixture(scope="session")
def scenes_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifacts folder with four runs over eight drawn scenes; not to be written to."""
    from .results.runs import make_runs

    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server in this process, which is moto's and forgets everything."""
    pytest.importorskip("obstore")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line each request
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectPath]:
    """An empty place in a bucket; the environment names the server and credentials for it."""
    from sclip_core.store.objects.bucket import bucket_of

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    # Opening a bucket on this machine adds to them; they are put back afterwards.
    monkeypatch.setenv("NO_PROXY", os.environ.get("NO_PROXY", ""))
    monkeypatch.setenv("no_proxy", os.environ.get("no_proxy", ""))
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        urllib.request.Request(f"{s3_server}/tests", method="PUT")  # there already: no matter
    ).close()
    bucket_of.cache_clear()  # it keeps the address and the credentials
    yield ObjectPath(f"s3://tests/{uuid.uuid4().hex}")
    bucket_of.cache_clear()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many windows went through the tower, pass by pass."""
    seen: list[int] = []
    taps = DenseEncoder.taps

    def counted(self: DenseEncoder, pixels: torch.Tensor, *args: Any) -> dict[Any, torch.Tensor]:
        seen.append(len(pixels))
        return taps(self, pixels, *args)

    monkeypatch.setattr(DenseEncoder, "taps", counted)
    return seen
