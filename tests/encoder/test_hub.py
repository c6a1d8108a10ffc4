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
    print(json.dumps(answers))
"""


class Hub(ThreadingHTTPServer):
    """One file of one repository, under the name that open_clip asks for second."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content = content
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
        found = self.path.endswith("/open_clip_model.safetensors") and REPOSITORY in self.path
        content = self.server.content
        self.send_response(200 if found else 404)
        if found:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
        else:
            known = REPOSITORY in self.path
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
        self.end_headers()
        if found and with_body:
            self.wfile.write(content)

    def log_message(self, *arguments) -> None:
        """Not on stderr."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    made = make(tmp_path_factory.mktemp("hub"), small_config())
    server = Hub(made.weights.read_bytes())
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
