"""Who may ask: the token, the cookie, names and origins; what every answer says to the browser."""

from __future__ import annotations

import asyncio
import socket
import threading

import httpx
import pytest

from sclip_core.explore.guard import MOST_AT_ONCE, POLICY, Guard

from .fake import Fake
from .loops import run
from .serving import body, client_of, serving


@pytest.fixture(scope="module")
def guard():
    with serving(Fake(count=20)) as made:
        yield made


@pytest.fixture
def client(guard):
    with client_of(guard) as made:
        yield made


@pytest.fixture
def stranger(guard):
    with httpx.Client(base_url=f"http://127.0.0.1:{guard.port}") as made:
        yield made


PLACES = ["/api/about", "/api/images?collection=scenes", "/static/index.html", "/nothing"]


class TestToken:
    def test_the_address_gives_a_cookie_and_goes_on_without_the_token(self, guard, stranger):
        view = {"c": "scenes", "w": "a cat; b&c=\r\nX: y"}
        answer = stranger.get(guard.address, params={"token": guard.token, **view})
        assert answer.status_code == 303
        goal = httpx.URL(answer.headers["location"])
        assert (goal.host, goal.path, dict(goal.params)) == ("", "/", view)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"sclip_explore_{guard.port}=")
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert stranger.get(goal).status_code == 200
        assert stranger.get("/api/about").status_code == 200

    def test_two_servers_do_not_share_a_cookie(self):
        assert Guard("127.0.0.1", 1).cookie != Guard("127.0.0.1", 2).cookie

    def test_each_start_has_its_own(self):
        tokens = {Guard("127.0.0.1", 1).token for _ in range(100)}
        assert len(tokens) == 100
        assert min(map(len, tokens)) >= 32
        assert Guard("127.0.0.1", 1).token not in repr(Guard("127.0.0.1", 1))

    @pytest.mark.parametrize("place", PLACES)
    def test_nothing_without_it(self, stranger, place):
        answer = stranger.get(place)
        assert answer.status_code == 403
        assert list(answer.json()) == ["error"]

    def test_no_post_without_it(self, stranger, guard):
        assert stranger.post("/api/labels", json=body()).status_code == 403
        address = f"/api/labels?token={guard.token}"  # which opens the page alone
        assert stranger.post(address, json=body()).status_code == 403
        assert stranger.post("/api/upload?name=a.png", content=b"x").status_code == 403

    @pytest.mark.parametrize("token", ["wrong", "", "é", "x" * 5000, "%ff%00", "a&token="])
    def test_a_wrong_one_is_asked_for_again(self, stranger, token):
        answer = stranger.get(f"/?token={token}&c=scenes")
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        assert 'name="token"' in answer.text

    @pytest.mark.parametrize("cookie", ["wrong", "", '"', "a=b", "\xe9"])
    def test_a_wrong_cookie_is_none(self, stranger, guard, cookie):
        value = f"{guard.cookie}={cookie}".encode("latin-1")
        answer = stranger.get("/api/about", headers={b"cookie": value})
        assert answer.status_code == 403

    def test_odd_cookies_of_others_do_not_hide_it(self, guard, stranger):
        odd = 'other={"a": [1]}; =; ;; x'
        header = f"{odd}; {guard.cookie}={guard.token}"
        assert stranger.get("/api/about", headers={"cookie": header}).status_code == 200

    def test_the_form_keeps_the_view_and_escapes_it(self, stranger):
        answer = stranger.get("/", params={"w": '"><script>alert(1)</script>'})
        assert answer.status_code == 403
        assert "<script>" not in answer.text
        assert "&quot;&gt;&lt;script&gt;" in answer.text
        assert 'action="/"' in answer.text

    def test_one_for_one_use(self, guard, stranger):
        address = guard.address_once()
        assert guard.token not in address
        assert stranger.get(address).status_code == 303
        assert stranger.get("/api/about").status_code == 200
        with httpx.Client() as other:
            assert other.get(address).status_code == 403

    def test_one_for_one_use_holds_for_a_while(self, guard, stranger, monkeypatch):
        monkeypatch.setattr("sclip_core.explore.guard.SECONDS_ONCE", 0.0)
        assert stranger.get(guard.address_once()).status_code == 403


class TestNames:
    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"])
    def test_its_own(self, client, guard, name):
        cookie = f"{guard.cookie}={guard.token}"
        headers = {"host": f"{name}:{guard.port}", "cookie": cookie}
        assert client.get("/api/about", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "name",
        [
            *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.7"),
            *("evil@127.0.0.1", "127.0.0.1/evil", "127.0.0.1:x", "", "[", "0.0.0.0", "127.1"),
            "127.0.0.1#evil",
        ],
    )
    def test_foreign_ones(self, client, guard, name):
        for place in ("/", "/api/about", f"/?token={guard.token}"):
            answer = client.get(place, headers={"host": name})
            assert answer.status_code in (400, 403), place  # 400: uvicorn finds it malformed
            assert "set-cookie" not in answer.headers

    @pytest.mark.parametrize(
        ("host", "name", "serves"),
        [
            ("127.0.0.1", "10.0.0.1", False),
            ("127.0.0.2", "10.0.0.1", False),
            ("127.0.0.2", "127.0.0.2", True),
            ("0.0.0.0", "10.0.0.1", True),
            ("0.0.0.0", "evil.example", False),
            ("0.0.0.0", socket.gethostname(), True),
            ("::", "[fe80::1]", True),
            ("gpu.lab", "gpu.lab", True),
            ("gpu.lab", "evil.example", False),
        ],
    )
    def test_of_other_hosts(self, host, name, serves):
        made = Guard(host, 80)
        request = {"type": "http", "method": "GET", "path": "/x", "query_string": b""}
        headers = [
            (b"host", f"{name}:80".encode()),
            (b"cookie", f"{made.cookie}={made.token}".encode()),
        ]
        sent = []

        async def app(scope, receive, send):
            sent.append({"status": 200})

        async def send(message):
            sent.append(message)

        run(made.around(app)({**request, "headers": headers}, None, send))
        assert (sent[0]["status"] == 200) is serves

    def test_addresses(self):
        assert Guard("::1", 80, "t").address == "http://[::1]:80/?token=t"
        assert Guard("0.0.0.0", 80, "t").address == "http://127.0.0.1:80/?token=t"
        assert Guard("127.0.0.1", 80).is_local
        assert Guard("localhost", 80).is_local
        assert not Guard("0.0.0.0", 80).is_local
        assert not Guard("gpu.lab", 80).is_local


class TestOrigins:
    @pytest.mark.parametrize(
        "origin",
        [
            "http://evil.example",
            "null",
            "https://127.0.0.1:{port}",
            "http://127.0.0.1:1",
            "file://",
        ],
    )
    def test_foreign_ones(self, client, guard, origin):
        headers = {"origin": origin.format(port=guard.port)}
        assert client.post("/api/commands", json=body(), headers=headers).status_code == 403
        assert client.post("/api/upload", content=b"x", headers=headers).status_code == 403

    def test_its_own(self, client, guard):
        headers = {"origin": f"http://127.0.0.1:{guard.port}"}
        assert client.post("/api/commands", json=body(), headers=headers).status_code == 200

    @pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403),
                                                  ("same-origin", 200), ("none", 200)])  # fmt: skip
    def test_other_sites(self, client, site, status):
        headers = {"sec-fetch-site": site}
        found = client.get("/api/thumbnail?collection=scenes&image=000001", headers=headers)
        assert found.status_code == status
        assert client.get("/", headers=headers).status_code == 200  # a link may lead here

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"]
    )
    def test_forms_of_other_pages_are_no_json(self, client, kind):
        answer = client.post("/api/commands", content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415


def test_what_every_answer_says_to_the_browser(client, stranger, guard):
    answers = [
        client.get("/"),
        client.get("/api/about"),
        client.get("/nothing"),
        client.post("/api/labels", json=body("boom")),
        client.get("/api/thumbnail?collection=scenes&image=000001"),
        stranger.get("/"),
        stranger.get("/api/about"),
        stranger.get("/api/about", headers={"host": "evil.example"}),
    ]
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
        assert answer.headers["cache-control"] in ("no-store", "private, no-cache")
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY


def test_no_websocket(client, guard):
    headers = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
    }
    answer = client.get("/api/about", headers=headers)
    assert answer.status_code in (200, 403)
    assert "sec-websocket-accept" not in answer.headers


def test_requests_at_a_time():
    """One more than may be is refused in one line; the others are answered."""

    class Waiting(Fake):
        go_on = threading.Event()

        def thumbnail(self, collection, image):
            self.go_on.wait(20)
            return b"x", '"x"'

    async def main(guard):
        cookies = {guard.cookie: guard.token}
        limits = httpx.Limits(max_connections=None)
        base = f"http://127.0.0.1:{guard.port}"
        async with httpx.AsyncClient(base_url=base, cookies=cookies, limits=limits) as client:
            place = "/api/thumbnail?collection=scenes&image=000001"
            first = [asyncio.create_task(client.get(place)) for _ in range(MOST_AT_ONCE)]
            await asyncio.sleep(1.5)
            more = await client.get(place)
            Waiting.go_on.set()
            return more, await asyncio.gather(*first), await client.get("/api/about")

    with serving(Waiting()) as guard:
        more, first, after = run(main(guard))
    assert more.status_code == 503
    assert more.json() == {"error": f"more than {MOST_AT_ONCE} requests at a time"}
    assert {answer.status_code for answer in first} == {200}
    assert after.status_code == 200
