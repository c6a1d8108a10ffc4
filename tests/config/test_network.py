"""A server that cannot be reached is known within seconds."""

from __future__ import annotations

import socket
import time

import pytest

from sclip_core.config.network import fault_within, url_fault_within


def test_an_answer_is_no_fault():
    asked = []
    assert fault_within(asked.append, 3) is None
    assert asked == [3]


def test_the_first_line_of_what_is_raised():
    def ask(_):
        raise OSError("refused\nand more")

    assert fault_within(ask) == "refused"


def test_what_never_answers(monkeypatch):
    monkeypatch.setattr("sclip_core.config.network.SLACK", 0.05)
    begun = time.monotonic()
    assert fault_within(lambda _: time.sleep(30), 0.05) == "no answer within 0 s"
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("listens", [True, False])
def test_a_port_that_says_nothing(monkeypatch, listens):
    """One that accepts and never answers, and one that is closed."""
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        fault = url_fault_within(f"http://127.0.0.1:{server.getsockname()[1]}/", 0.2)
    assert ("timed out" if listens else "refused") in fault
