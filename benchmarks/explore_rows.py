"""``sclip explore`` through its page in a real browser: new words, and a slider, until painted."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import cv2
import numpy as np

from benchmarks.cases import TINY, VGA
from benchmarks.measure import Registry, Row, seconds
from benchmarks.processes import ROOT
from benchmarks.workplace import Workplace, random_clip
from sclip_core.datasets import Vocabulary
from sclip_core.demo.scenes import draw_scene, evaluation_rng

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LIBRARIES = ("playwright", "starlette", "uvicorn")
KNOWN = ("coco_stuff", "context59", "ade20k")  # whose words are encoded before
GOALS = {20: 0.150, 171: 0.400}  # seconds, by the number of words
FEW = (2, 4)  # words of --quick
SLIDER_GOAL = 0.100  # seconds
MORE = 29  # known words that are not in the longest list
TURNS, FEW_TURNS = 21, 3  # that are timed
START_S, ENCODE_S, TURN_S = 180, 900, 60  # seconds until something is given up
# An input is a key Enter in the words (which does not wait for more typing) or a step of a slider.
# It is painted with the frame after the first painting of labels that have come since.
WATCH = """(() => {
  const now = { from: null, bytes: 0, took: null };
  window.watched = now;
  const begin = () => Object.assign(now, { from: performance.now(), bytes: 0, took: null });
  addEventListener("keydown", (e) => e.key === "Enter" && e.target.id === "words" && begin(), true);
  addEventListener("input", (e) => e.target.type === "range" && begin(), true);
  const ask = window.fetch;
  window.fetch = async (...given) => {
    const answer = await ask(...given);
    if (!String(given[0]).startsWith("/api/labels")) return answer;
    const open = answer.body.getReader.bind(answer.body);
    answer.body.getReader = () => {
      const reader = open();
      return { read: async () => {
        const part = await reader.read();
        now.bytes += part.value?.length ?? 0;
        return part;
      } };
    };
    return answer;
  };
  const paint = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (...given) {
    paint.apply(this, given);
    if (now.from === null || now.bytes < 2 * this.canvas.width * this.canvas.height) return;
    const from = now.from;
    now.from = null;
    const seen = new MessageChannel();
    seen.port1.onmessage = () => (now.took = performance.now() - from);
    requestAnimationFrame(() => seen.port2.postMessage(0));
  };
})()"""


def explore_rows(quick: bool) -> Iterator[Row]:
    """New lists of known words, and a slider of the decision, until the labels are painted."""
    turns = FEW_TURNS if quick else TURNS
    goals = dict(zip(FEW, GOALS.values(), strict=True)) if quick else GOALS
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    browser = _browser()
    if missing or browser is None:
        why = f"no {', '.join(missing)} here" if missing else "no browser here"
        yield Row("page: words typed → painted", _goal(goals), f"skipped: {why}")
        return
    size = TINY if quick else VGA
    with Workplace(quick) as place, _served(place, size) as address, _tab(browser) as tab:
        pool = _words(max(goals) + MORE)
        _open(tab, address, pool)
        draw = random.Random(0)
        for count, goal in goals.items():
            lists = ["; ".join(draw.sample(pool, count)) for _ in range(turns + 1)]
            taken = [_timed(tab, partial(_type, tab, text)) for text in lists][1:]
            name = f"page: new list of {count} known words → painted, {size[0]}×{size[1]}"
            yield _row(name, goal, taken, "typing's wait of 120 ms excluded")
            taken = [_timed(tab, partial(_step, tab)) for _ in range(turns + 1)][1:]
            name = f"page: probability threshold → painted, {count} words, {size[0]}×{size[1]}"
            yield _row(name, SLIDER_GOAL, taken, "each step of the slider")


def _row(name: str, goal: float, taken: list[float], what: str) -> Row:
    median, p95 = statistics.median(taken), float(np.percentile(taken, 95))
    return Row(
        name=name,
        goal=f"median ≤ {seconds(goal)}",
        measured=f"median {seconds(median)}, p95 {seconds(p95)} of {len(taken)} ({what})",
        ratio=median / goal,
        met=median <= goal,
        detail={"seconds": taken, "median_s": median, "p95_s": p95},
    )


def _goal(goals: dict[int, float]) -> str:
    return ", ".join(f"{count} words ≤ {seconds(goal)}" for count, goal in goals.items())


def _words(most: int) -> list[str]:
    """Different words, each of which can be a class."""
    names = [name for known in KNOWN for name in Vocabulary.named(known).class_names]
    return list(dict.fromkeys(n for n in names if not set(n) & set(",;")))[:most]


def _browser() -> str | None:
    """The path of a browser that starts."""
    for path in filter(None, map(shutil.which, BROWSERS)):
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


@contextmanager
def _served(place: Workplace, size: tuple[int, int]) -> Iterator[str]:
    """The address of the page on a folder with one picture, in a process of its own."""
    images = place.folder / "images"
    images.mkdir()
    scene = draw_scene(evaluation_rng(0), *size)
    if not cv2.imwrite(str(images / "scene.png"), scene.image[..., ::-1]):
        raise OSError(f"{images} could not be written")
    own = {"images": images, "artifacts": place.artifacts(), "templates": "photo", "port": 0}
    settings = {**own, **random_clip(place.folder, place.quick)}
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "flows.cli", "explore", *flags, "--no-open"]
    env = {**os.environ, **({"OMP_NUM_THREADS": "1"} if place.quick else {})}
    server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    late = threading.Timer(START_S, server.kill)
    late.start()
    try:
        address = server.stdout.readline().strip() if server.stdout else ""
        late.cancel()
        if not address:
            raise RuntimeError(f"sclip explore printed no address (its status: {server.wait(10)})")
        yield address
    finally:
        late.cancel()
        server.terminate()
        server.wait(20)


@contextmanager
def _tab(browser: str) -> Iterator[Page]:
    """A tab of a headless browser."""
    from playwright.sync_api import sync_playwright

    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=[*root, "--disable-gpu"])
        tab = opened.new_page(viewport={"width": 1200, "height": 900})
        tab.add_init_script(WATCH)
        yield tab
        opened.close()


def _open(tab: Page, address: str, pool: list[str]) -> None:
    """Open the picture with all words, which encodes it and them."""
    tab.goto(address)
    tab.wait_for_selector(".grid-cell:not(.waits) .grid-name")
    image = tab.locator(".grid-cell .grid-name").first.inner_text()
    tab.goto(f"{address.split('?')[0]}?i={quote(image)}")
    tab.wait_for_selector("#words")
    _timed(tab, partial(_type, tab, "; ".join(pool)), ENCODE_S)
    _timed(tab, partial(_type, tab, "; ".join(pool[:-1])))


def _type(tab: Page, text: str) -> None:
    """Put a list into the field, then press Enter, at which the clock starts."""
    tab.evaluate("(text) => { document.getElementById('words').value = text; }", text)
    tab.locator("#words").press("Enter")


def _step(tab: Page) -> None:
    """Move the slider by a step, at which the clock starts."""
    tab.locator("#prob-range").press("ArrowRight")


def _timed(tab: Page, act: Callable[[], Any], most: float = TURN_S) -> float:
    """Seconds from an input to the frame with its labels."""
    act()
    end = time.monotonic() + most
    while True:
        took = tab.evaluate("watched.took")
        if took is not None:
            return float(took) / 1e3
        if time.monotonic() > end:
            said = tab.locator("#failure-text").inner_text()
            raise TimeoutError(f"no labels within {most} s: {said or 'the page says nothing'}")
        tab.wait_for_timeout(30)


ROWS: Registry = {"explore": explore_rows}
