"""Loading by tag over HTTP: open_clip's own download, from a server that speaks as the hub does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from .models import make, small_config

REPOSITORY = "someone/small-clip"
OTHER = "someone/other-clip"  # open_clip has no tag for it
COMMIT = "c0ffee" + "0" * 34

# Run by a fresh Python: huggingface_hub reads its environment when it is imported.
SCRIPT = """
    import json, sys
    import open_clip
    from open_clip.pretrained import _PRETRAINED, _pcfg
    from sclip_core import SCLIP, UserError
    from sclip_core.encoder import find_model

    path, repository = sys.argv[1:]
    open_clip.add_model_config(path)
    _PRETRAINED["small"] = {
        "there": _pcfg(hf_hub=repository + "/", quick_gelu=True),
        "gone": _pcfg(hf_hub="someone/gone/"),
    }
    answers = {}

    def ask(name, find):
        try:
            answers[name] = find()
        except UserError as error:
            answers[name] = "UserError: " + str(error)

    ask("not downloaded", lambda: str(find_model("small", "there", download=False).weights))
    ask("gone", lambda: str(find_model("small", "gone").weights))
    ask("downloaded", lambda: str(find_model("small", "there").weights))
    ask("cached", lambda: str(find_model("small", "there", download=False).weights))
    ask("quick_gelu", lambda: find_model("small", "there").config["quick_gelu"])
    model = SCLIP.load("small", "there", device="cpu")
    ask("word", lambda: model.encode_word("cat").tolist())
    hub = "hf-hub:" + repository.replace("small", "other")
    ask("by repository", lambda: str(find_model(hub, "openai").weights))
    ask("its patch", lambda: find_model(hub, "openai").patch)
    ask("its mean", lambda: find_model(hub, "openai").mean)
    ask("its word", lambda: SCLIP.load(hub, device="cpu").encode_word("cat").tolist())
    ask("no repository", lambda: str(find_model("hf-hub:someone/nobody", "openai").weights))
    print(json.dumps(answers))
"""


class Hub(ThreadingHTTPServer):
    """One file of one repository, under the name that open_clip asks for second."""

    def __init__(self, content: bytes, config: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.contents = {"open_clip_model.safetensors": content, "open_clip_config.json": config}
        self.requests: list[tuple[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    """HEAD and GET of /<repository>/resolve/main/<file>."""

    server: Hub

    def do_HEAD(self) -> None:
        self.reply(with_body=False)

    def do_GET(self) -> None:
        self.reply(with_body=True)

    def reply(self, with_body: bool) -> None:
        self.server.requests.append((self.command, self.path))
        name = self.path.rpartition("/")[2]
        here = REPOSITORY in self.path or OTHER in self.path
        found = name in self.server.contents and here
        content = self.server.contents.get(name, b"")
        self.send_response(200 if found else 404)
        if found:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("X-Error-Code", "EntryNotFound" if here else "RepoNotFound")
            self.send_header("Content-Length", "0")
        self.end_headers()
        if found and with_body:
            self.wfile.write(content)

    def log_message(self, *arguments) -> None:
        """Not on stderr."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    made = make(tmp_path_factory.mktemp("hub"), small_config())
    config = {
        "model_cfg": {**json.loads(made.json.read_text()), "quick_gelu": True},
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    }
    server = Hub(made.weights.read_bytes(), json.dumps(config).encode())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, made
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def answers(hub, tmp_path_factory):
    """What a fresh Python with an empty cache sees."""
    server, made = hub
    environment = {
        **{k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")},
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
    }
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(made.json), REPOSITORY],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_is_downloaded_once_and_cached(hub, answers):
    server, made = hub
    assert answers["downloaded"] == answers["cached"]
    assert f"/snapshots/{COMMIT}/open_clip_model.safetensors" in answers["downloaded"]
    gets = [path for verb, path in server.requests if verb == "GET" and REPOSITORY in path]
    assert gets == [f"/{REPOSITORY}/resolve/main/open_clip_model.safetensors"]
    with open(answers["downloaded"], "rb") as file:
        assert file.read() == made.weights.read_bytes()


def test_is_loaded(hub, answers, tmp_path):
    from sclip_core import SCLIP

    made = make(tmp_path, small_config(quick_gelu=True))
    expected = SCLIP.load(**made.arguments, device="cpu").encode_word("cat")
    assert answers["word"] == pytest.approx(expected.tolist(), abs=1e-6)
    assert answers["quick_gelu"] is True


def test_without_download_nothing_is_asked(hub, answers):
    server, _ = hub
    assert answers["not downloaded"].startswith("UserError: the weights of small, tag 'there', are")
    files = [path for _, path in server.requests if "/resolve/" in path]
    assert files[0].startswith("/someone/gone/")  # the first to ask was the next one


def test_a_repository_that_is_not_there(answers):
    line = answers["gone"]
    assert line.startswith("UserError: the weights of small, tag 'gone', are not in ")
    assert "o.get_pretrained_cfg('small', 'gone')" in line
    assert line.endswith("then pass --model small --pretrained FILE")
    assert "\n" not in line


def test_by_its_repository(answers):
    there = answers["downloaded"].replace("small-clip", "other-clip")
    assert answers["by repository"] == there
    assert answers["its mean"] == [127.5] * 3
    assert answers["its word"] == answers["word"]
    assert answers["its patch"] == small_config()["vision_cfg"]["patch_size"]
    line = answers["no repository"]
    assert line.startswith("UserError: open_clip_config.json of someone/nobody is not in")
    assert "--model FOLDER/open_clip_config.json --pretrained FILE" in line


def test_out_of_reach_is_said_at_once(monkeypatch, tmp_path):
    """Of all names of its file, none is asked for."""
    from sclip_core import UserError
    from sclip_core.encoder import find_model, hub, pretrained

    monkeypatch.setattr(hub, "fault_within", lambda ask: "no route to host")
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(pretrained.open_clip, "download_pretrained", lambda _: 1 / 0)
    for model, tag in (
        ("ViT-B-16", "openai"),
        ("hf-hub:laion/CLIP-ViT-B-16-laion2B-s34B-b88K", ""),
    ):
        with pytest.raises(UserError, match=r"cannot be reached: no route to host\)"):
            find_model(model, tag or "openai")
