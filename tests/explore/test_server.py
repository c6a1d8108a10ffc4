"""Every route over a real connection, with answers of the fake; and what hostile bodies do."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image

from sclip_core.config import UserError
from sclip_core.explore import guard as guarding
from sclip_core.explore import server as routes
from sclip_core.explore.desk import Answer, Cancelled, Desk

from .fake import Fake
from .loops import run
from .serving import body, client_of, read, serving

JSON = {"content-type": "application/json"}
SECONDS = 10  # that anything here may take


@pytest.fixture(scope="module")
def fake():
    return Fake(count=20)


@pytest.fixture(scope="module")
def guard(fake):
    with serving(fake) as made:
        yield made


@pytest.fixture
def client(guard):
    with client_of(guard) as made:
        yield made


def wait_until(true) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


class TestGet:
    def test_about(self, client, fake):
        assert client.get("/api/about").json() == json.loads(json.dumps(fake.about()))

    def test_images(self, client, fake):
        asked = {"collection": "scenes", "order": "worst:r", "find": "1", "start": 2, "count": 3}
        found = client.get("/api/images", params=asked).json()
        assert found == fake.images(**asked)
        assert len(found["images"]) == 3

    def test_a_list_has_its_defaults_and_its_bound(self, client, monkeypatch):
        given = []
        monkeypatch.setattr(Fake, "images", lambda self, *asked: given.append(asked) or {})
        client.get("/api/images?collection=scenes")
        client.get("/api/images?collection=scenes&count=999999999")
        assert given == [("scenes", "name", "", 0, 200), ("scenes", "name", "", 0, 1000)]

    def test_an_image(self, client, fake):
        found = client.get("/api/image?collection=scenes&image=000003").json()
        assert found == fake.image("scenes", "000003")

    @pytest.mark.parametrize("name", ["thumbnail", "picture"])
    def test_pictures_are_kept_by_the_browser_while_they_stay(self, client, name):
        place = f"/api/{name}?collection=scenes&image=000003"
        answer = client.get(place)
        assert answer.headers["content-type"] == "image/webp"
        assert Image.open(io.BytesIO(answer.content)).format == "WEBP"
        tag = answer.headers["etag"]
        again = client.get(place, headers={"if-none-match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        other = client.get(place, headers={"if-none-match": '"other"'})
        assert (other.status_code, other.content) == (200, answer.content)

    @pytest.mark.parametrize(
        ("place", "line"),
        [
            ("/api/images", "the address has no collection"),
            ("/api/images?collection=x", "unknown collection 'x'. Known: scenes, photos."),
            ("/api/images?collection=scenes&start=-1", "start is '-1': expected a whole number"),
            ("/api/images?collection=scenes&count=1e9", "count is '1e9': expected a whole number"),
            ("/api/images?collection=scenes&count=٣", "count is '٣': expected a whole number"),
            ("/api/image?collection=scenes", "the address has no image"),
            ("/api/nothing", "no such address"),
            ("/api/about/", "no such address"),
            ("/api/labels", "GET is not answered here"),
        ],
    )
    def test_what_is_not_there(self, client, place, line):
        answer = client.get(place)
        assert answer.status_code in (404, 405)
        assert answer.json() == {"error": line}

    @pytest.mark.parametrize(
        "name", ["../../../etc/passwd", "/etc/passwd", "000001/../000002", "", "\0", "0" * 5000]
    )
    def test_no_id_is_a_path(self, client, name):
        for kind in ("image", "thumbnail", "picture"):
            answer = client.get(f"/api/{kind}", params={"collection": "scenes", "image": name})
            assert answer.status_code == 404
            assert list(answer.json()) == ["error"]


class TestFiles:
    def test_of_the_page(self, client):
        whole = (routes.PAGE / "index.html").read_text()
        assert client.get("/").text == whole
        assert client.get("/static/index.html").text == whole
        assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"

    def test_types(self, client, monkeypatch, tmp_path):
        monkeypatch.setattr(routes, "PAGE", tmp_path)
        (tmp_path / "parts").mkdir()
        (tmp_path / "parts" / "a.js").write_text("1")
        (tmp_path / "a.css").write_text("2")
        (tmp_path / "a.py").write_text("3")
        (tmp_path / ".hidden").write_text("4")
        answer = client.get("/static/parts/a.js")
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert client.get("/static/a.css").headers["content-type"] == "text/css; charset=utf-8"
        for other in ("a.py", ".hidden", "parts", "parts/", "", "index.html"):
            assert client.get(f"/static/{other}").status_code == 404

    @pytest.mark.parametrize(
        "path",
        [
            *("/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py"),
            *("/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/..\\server.py"),
            *("/static/./index.html", "/static/%00", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc"),
        ],
    )
    def test_no_other_path(self, guard, path):
        """Sent as it is: a client library would tidy it up."""
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{guard.port}\r\n"
        request += f"Cookie: {guard.cookie}={guard.token}\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", guard.port), SECONDS) as connection:
            connection.sendall(request.encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert answer.endswith(b'"}')


class TestStreams:
    def test_labels(self, client, fake):
        answer = client.post("/api/labels", json=body("sky; grass; car"))
        (line,), blob = read(answer.content)
        labels = np.frombuffer(blob, "<u2").reshape(line["shown"])
        assert line["kind"] == "answer"
        assert [each["name"] for each in line["classes"]] == ["sky", "grass", "car"]
        assert set(np.unique(labels)) == {0, 1, 2, 65535}
        assert len(blob) > 2 * routes.PAGE.stat().st_size

    def test_progress_comes_before_the_answer(self, client):
        began, seen = time.monotonic(), []
        with client.stream("POST", "/api/labels", json=body(pamr_steps=5)) as answer:
            for _ in answer.iter_raw():
                seen.append(time.monotonic() - began)
        assert seen[0] < 0.5 * seen[-1]
        content = client.post("/api/labels", json=body(pamr_steps=3)).content
        *lines, last = read(content)[0]
        assert [(line["kind"], line["done"], line["total"]) for line in lines] == [
            ("progress", k, 3) for k in range(3)
        ]
        assert last["kind"] == "answer"

    @pytest.mark.parametrize(
        ("kind", "more"),
        [
            ("heat", {"word": "sky"}),
            ("likeness", {"point": [10, 20]}),
            ("attention", {"point": [10, 20]}),
        ],
    )
    def test_maps(self, client, fake, kind, more):
        (line,), blob = read(client.post(f"/api/{kind}", json=body(**more)).content)
        assert len(blob) == 2 * line["shown"][0] * line["shown"][1]
        assert line["low"] < line["high"]

    def test_truth_and_a_file(self, client):
        (line,), blob = read(client.post("/api/truth", json=body()).content)
        assert len(blob) == 2 * line["shown"][0] * line["shown"][1]
        (line,), blob = read(client.post("/api/save", json=body(what="labels")).content)
        assert Image.open(io.BytesIO(blob)).format == line["type"].rpartition("/")[2].upper()

    def test_a_search_can_be_looked_at_while_it_runs(self, client, guard):
        asked = {**body(word="sky"), "collection": "scenes"}
        del asked["view"]["collection"]  # it may stand beside
        content = client.post("/api/search", json=asked).content
        first, *_, last = read(content)[0]
        assert first["id"] == last["id"]
        found = client.get(f"/api/images?collection=scenes&order=search:{last['id']}").json()
        scores = [each["score"] for each in found["images"]]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == last["searched"] == 20

    def test_everything_is_encoded(self, client):
        assert read(client.post("/api/encode", json=body()).content)[0][-1]["kind"] == "answer"

    def test_a_mistake_is_a_line(self, client, capfd):
        lines, _ = read(client.post("/api/labels", json=body("bad")).content)
        assert lines == [{"kind": "error", "error": "the word 'bad' is refused: take another one"}]
        assert capfd.readouterr().err == ""

    def test_a_crash_is_a_line_and_the_server_lives_on(self, client, capfd):
        lines, _ = read(client.post("/api/labels", json=body("boom")).content)
        assert [line["kind"] for line in lines] == ["error"]
        assert lines[0]["error"].startswith("internal error: RuntimeError: boom; ")
        said = capfd.readouterr().err
        assert said.startswith("Traceback")
        assert said.endswith("RuntimeError: boom\n")
        assert read(client.post("/api/labels", json=body()).content)[0][-1]["kind"] == "answer"

    def test_without_memory(self, client, monkeypatch):
        def labels(self, view, task):
            raise MemoryError

        monkeypatch.setattr(Fake, "labels", labels)
        lines, _ = read(client.post("/api/labels", json=body()).content)
        assert lines[0]["error"].startswith("not enough memory: ")

    def test_no_number_is_no_json(self, client, monkeypatch, capfd):
        monkeypatch.setattr(Fake, "labels", lambda *_: Answer({"miou": float("nan")}))
        lines, _ = read(client.post("/api/labels", json=body()).content)
        assert [line["kind"] for line in lines] == ["error"]


class Held(Fake):
    """Labels of the word "slow" are not there before they are let go, unless cancelled."""

    def __init__(self) -> None:
        super().__init__(count=3)
        self.go_on, self.begun = threading.Event(), threading.Semaphore(0)
        self.ended: list[str] = []

    def labels(self, view, task):
        if view.words == "slow":
            self.begun.release()
            try:
                while not self.go_on.wait(0.01):
                    task.check()
            except Cancelled:
                self.ended.append("cancelled")
                raise
            self.ended.append("done")
        return super().labels(view, task)


class TestCancelling:
    @pytest.fixture
    def held(self):
        return Held()

    @pytest.fixture
    def desk(self):
        return Desk(most=3)

    @pytest.fixture
    def guard(self, held, desk):
        with serving(held, desk=desk) as made:
            yield made
            held.go_on.set()

    def post(self, guard, found, **more):
        """Ask in a thread; what comes is put into ``found``."""

        def ask():
            with client_of(guard) as client:
                found.append(client.post("/api/labels", json=body(**more)))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        return thread

    def test_by_a_newer_input(self, guard, held, client):
        found = []
        thread = self.post(guard, found, words="slow")
        assert held.begun.acquire(timeout=SECONDS)
        new = client.post("/api/labels", json=body("sky"))
        thread.join(SECONDS)
        assert read(found[0].content)[0] == [{"kind": "cancelled"}]
        assert read(new.content)[0][-1]["classes"][0]["name"] == "sky"
        assert held.ended == ["cancelled"]

    @pytest.mark.parametrize("more", [{"client": "other"}, {"side": "b"}])
    def test_not_by_another_tab_or_side(self, guard, held, more):
        found, others = [], []
        thread = self.post(guard, found, words="slow")
        assert held.begun.acquire(timeout=SECONDS)
        other = self.post(guard, others, words="sky", **more)
        time.sleep(0.1)
        assert not found
        held.go_on.set()
        for each in (thread, other):
            each.join(SECONDS)
        assert read(found[0].content)[0][-1]["kind"] == "answer"
        assert read(others[0].content)[0][-1]["kind"] == "answer"

    def test_by_a_client_that_leaves(self, guard, held, client):
        with pytest.raises(httpx.ReadTimeout):
            client.post("/api/labels", json=body("slow"), timeout=0.3)
        wait_until(lambda: held.ended == ["cancelled"])
        assert client.post("/api/labels", json=body("sky")).status_code == 200

    def test_a_full_queue_is_said(self, guard, held, desk, client):
        found = []
        threads = [self.post(guard, found, words="slow", client="0")]
        assert held.begun.acquire(timeout=SECONDS)
        threads += [self.post(guard, found, words="sky", client=str(n)) for n in (1, 2, 3)]

        wait_until(lambda: desk.waiting == 3)
        refused = client.post("/api/labels", json=body("sky", client="4"))
        assert (refused.status_code, refused.json()) == (503, {"error": routes.BUSY})
        held.go_on.set()
        for thread in threads:
            thread.join(SECONDS)
        assert [answer.status_code for answer in found] == [200] * 4


class TestBodies:
    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"", "the body is no JSON"),
            (b"{", "the body is no JSON"),
            (b"\xff\xfe{}", "the body is no JSON"),
            (b"[" * 60_000, "the body is no JSON"),
            (b'{"a":' * 10_000, "the body is no JSON"),
            (b"[]", "expected a JSON object"),
            (b'"view"', "expected a JSON object"),
            (b'{"a": NaN}', "the body is no JSON"),
            (b'{"a": ' + b"9" * 50_000 + b"}", "the body is no JSON"),
            (rb'{"view": {"words": "\ud800"}}', "the body is no JSON"),
            (b"{}", "view is None: expected an object"),
            (b'{"view": []}', "view is []: expected an object"),
            (b'{"view": {}}', "collection: Field required"),
            (b'{"view": {"collection": 3}}', "collection is 3: "),
            (b'{"view": {"collection": "scenes", "sudo": 1}}', "sudo is 1: "),
            (b'{"view": {"collection": "scenes", "pamr_steps": "x"}}', "pamr_steps is 'x': "),
            (b'{"view": {"collection": "scenes", "words": ["a"]}}', "words is ['a']: "),
            (b'{"view": {"collection": "scenes"}}', "client is None: expected text"),
        ],
    )
    def test_hostile_ones_are_a_line(self, client, content, line):
        answer = client.post("/api/labels", content=content, headers=JSON)
        assert answer.status_code == 400
        assert list(answer.json()) == ["error"]
        assert line in answer.json()["error"]

    @pytest.mark.parametrize(
        ("more", "line"),
        [
            ({"client": "x" * 201}, "client has 201 characters: expected at most 200"),
            ({"client": 5}, "client is 5: expected text"),
            ({"side": None}, "side is None: expected text"),
        ],
    )
    def test_slots(self, client, more, line):
        answer = client.post("/api/labels", json=body(**more))
        assert (answer.status_code, answer.json()) == (400, {"error": line})

    @pytest.mark.parametrize(
        "point", [None, [], [1], [1, 2, 3], ["1", 2], [1.5, 2], [True, 1], {"row": 1}, "12"]
    )
    def test_points(self, client, point):
        for kind in ("scores", "likeness", "attention"):
            answer = client.post(f"/api/{kind}", json=body(point=point))
            assert answer.status_code == 400
            assert "expected [row, column]" in answer.json()["error"]

    @pytest.mark.parametrize("word", [None, 3, ["sky"], "x" * 201])
    def test_words(self, client, word):
        for kind in ("heat", "search"):
            answer = client.post(f"/api/{kind}", json=body(word=word))
            assert answer.status_code == 400
            assert answer.json()["error"].startswith("word ")

    def test_too_large(self, client):
        content = b'{"a": "' + b"x" * guarding.MOST_JSON + b'"}'
        answer = client.post("/api/labels", content=content, headers=JSON)
        assert (answer.status_code, answer.json()) == (413, {"error": "more than 65,536 bytes"})

        def parts():
            for _ in range(100):
                yield b"x" * 1024

        answer = client.post("/api/labels", content=parts(), headers=JSON)  # of unknown length
        assert answer.status_code == 413

    def test_what_does_not_come(self, client, monkeypatch, guard):
        monkeypatch.setattr(guarding, "SECONDS_JSON", 0.2)
        request = f"POST /api/labels HTTP/1.1\r\nHost: 127.0.0.1:{guard.port}\r\n"
        request += f"Cookie: {guard.cookie}={guard.token}\r\nContent-Type: application/json\r\n"
        request += "Content-Length: 100\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", guard.port), SECONDS) as connection:
            connection.sendall(request.encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")

    def test_quick_answers(self, client, fake):
        found = client.post("/api/scores", json=body("sky; grass", point=[400, 20])).json()
        assert found["label"] == "grass"
        found = client.post("/api/commands", json=body("sky, heaven; grass")).json()
        assert "sky, heaven; grass" in found["command"]

    def test_quick_crashes(self, client, capfd):
        answer = client.post("/api/scores", json=body("boom", point=[1, 2]))
        assert answer.status_code == 500
        assert answer.json()["error"].startswith("internal error: RuntimeError: boom; ")
        assert "Traceback" in capfd.readouterr().err
        assert client.post("/api/scores", json=body("bad", point=[1, 2])).status_code == 400


class TestUploads:
    def test_an_image(self, client, fake):
        out = io.BytesIO()
        Image.new("RGB", (30, 20), (9, 8, 7)).save(out, "PNG")
        answer = client.post("/api/upload?name=cat.png", content=out.getvalue())
        assert answer.status_code == 200
        found = answer.json()
        assert found["collection"] == "uploads"
        assert fake.uploads[found["image"]].shape == (20, 30, 3)

    @pytest.mark.parametrize("data", [b"", b"no image", b"<svg/>"])
    def test_no_image(self, client, data):
        answer = client.post("/api/upload?name=cat.png", content=data)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("cat.png is ")

    def test_too_large(self, client, monkeypatch):
        monkeypatch.setattr(guarding, "MOST_BYTES", 1000)
        answer = client.post("/api/upload?name=cat.png", content=bytes(1001))
        assert (answer.status_code, answer.json()) == (413, {"error": "more than 1,000 bytes"})


@pytest.mark.slow
def test_500_requests_at_once(guard, fake):
    """Each is answered, or refused in a line; and the server answers after them."""

    async def main():
        limits = httpx.Limits(max_connections=None)
        base = f"http://127.0.0.1:{guard.port}"
        cookies = {guard.cookie: guard.token}
        async with httpx.AsyncClient(
            base_url=base, cookies=cookies, limits=limits, timeout=60
        ) as client:
            asked = []
            for n in range(500):
                if n % 2:
                    place = f"/api/thumbnail?collection=scenes&image={n % 20:06d}"
                    asked.append(client.get(place))
                else:
                    asked.append(client.post("/api/labels", json=body(client=str(n % 7))))
            answers = await asyncio.gather(*asked)
            return answers, await client.get("/api/about")

    answers, after = run(main())
    assert after.status_code == 200
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert sum(answer.status_code == 200 for answer in answers) > 30
    for answer in answers:
        if answer.status_code == 503:
            assert list(answer.json()) == ["error"]


def test_lines_of_errors_are_single(client, monkeypatch):
    def about(self):
        raise UserError("two\nlines")

    monkeypatch.setattr(Fake, "about", about)
    answer = client.get("/api/about")
    assert (answer.status_code, answer.json()) == (404, {"error": "two\\nlines"})
