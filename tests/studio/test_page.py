"""The page in headless Chromium, by real clicks and keys, on a tracker and a model that take no time."""

from __future__ import annotations

import re
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi", reason="needs the `studio` extra (fastapi)")
pytest.importorskip("uvicorn", reason="needs the `studio` extra (uvicorn)")
pytest.importorskip("playwright.sync_api", reason="needs playwright (the `dev` extra)")

import uvicorn
from playwright import sync_api

from diffvas.studio.app import Studio, make_app
from diffvas.studio.opening import Limits
from diffvas.studio.server import listen
from studio.desk import ColourTracker, machine, video
from studio.record import FLAGS, Walk, find_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(find_browser() is None, reason="needs Chromium on this machine")
expect = sync_api.expect


class Served:
    """A studio behind a real socket."""

    def __init__(self, folder: Path) -> None:
        self.tracker = ColourTracker()
        self.machine = machine(self.tracker)
        self.studio = Studio(self.machine, Limits(frames=20), [video(folder / "ball.mp4")])
        self.socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"
        config = uvicorn.Config(make_app(self.studio), log_level="error", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=find_browser(), args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    made = context.new_page()
    faults: list[str] = []
    made.on("pageerror", lambda error: faults.append(str(error)))
    outside: list[str] = []
    made.on("request", lambda request: outside.append(request.url) if "127.0.0.1" not in request.url else None)
    yield made
    context.close()
    assert faults == [] and [url for url in outside if not url.startswith("blob:")] == []


def opened(page: Page, served: Served) -> Walk:
    page.goto(served.url)
    page.get_by_role("button", name="ball.mp4", exact=True).click()
    page.wait_for_selector("#work:not([hidden])")
    return Walk(page)


def pixel(page: Page, x: float, y: float, cell: int = 0) -> list[int]:
    """RGB of the picture at (x, y) as shares of its width and height."""
    script = """([canvas, x, y]) => Array.from(canvas.getContext('2d').getImageData(
        Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data).slice(0, 3)"""
    canvas = page.locator("#grid figure").nth(cell).locator("canvas").first
    return list(canvas.evaluate(f"(canvas, at) => ({script})([canvas, ...at])", [x, y]))


def settle(page: Page) -> None:
    """Until the pictures of the present frame are painted."""
    frame = page.locator("#timeline").get_attribute("aria-valuenow")
    for figure in page.locator("#grid figure").all():
        if figure.locator("canvas").first.is_visible():
            expect(figure).to_have_attribute("data-frame", str(frame))
    page.wait_for_timeout(120)


def run(page: Page, walk: Walk, samples: int) -> None:
    page.get_by_label("Samples", exact=True).fill(str(samples))
    page.get_by_role("button", name="Complete", exact=True).click()
    walk.wait_run()


def test_the_whole_path(page: Page, served: Served, tmp_path: Path) -> None:
    walk = opened(page, served)
    expect(page.locator("#objects-empty")).to_be_visible()
    expect(page.get_by_role("button", name="Complete", exact=True)).to_be_disabled()
    settle(page)
    before = pixel(page, 30 / 64, 16 / 32)
    walk.click_clip(33, 12)
    walk.wait_tracked()
    settle(page)
    expect(page.locator(".objects .count")).to_have_text("1 click")
    assert pixel(page, 28 / 64, 18 / 32) != before  # tinted
    page.get_by_label("Name of object 1").fill("ball")
    page.keyboard.press("Enter")

    run(page, walk, 3)
    expect(page.locator("#samples-row button")).to_have_text(["Sample 1", "Sample 2", "Sample 3", "Mean"])
    expect(page.get_by_role("button", name="Whole", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Mean", exact=True)).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("]")
    expect(page.get_by_role("button", name="Sample 1", exact=True)).to_have_attribute("aria-pressed", "true")
    for key, name in enumerate(("Input", "Visible", "Whole", "Content", "Confidence", "Re-compose"), 1):
        page.keyboard.press(str(key))
        expect(page.get_by_role("button", name=name, exact=True)).to_have_attribute("aria-pressed", "true")
        settle(page)
        assert pixel(page, 0.5, 0.5) != [0, 0, 0]
    page.keyboard.press("s")
    expect(page.locator("#grid figure")).to_have_count(3)
    page.keyboard.press("s")
    expect(page.locator("#grid figcaption")).to_have_text(["Sample 1", "Sample 2", "Sample 3", "Mean"])
    page.keyboard.press("s")

    page.get_by_label("npz", exact=True).check()
    page.get_by_role("button", name=re.compile("^Export ")).click()
    with page.expect_download() as coming:
        page.locator("#downloads a").click()
    assert coming.value.suggested_filename == "ball-run1-sample1.zip"
    assert "npz/1.npz" in zipfile.ZipFile(coming.value.path()).namelist()

    page.reload()
    expect(page.locator("#samples-row button")).to_have_count(4)
    expect(page.get_by_label("Name of ball")).to_have_value("ball")
    expect(page.get_by_label("Samples", exact=True)).to_have_value("3")


def test_clicks_mend_and_can_be_taken_back(page: Page, served: Served) -> None:
    walk = opened(page, served)
    walk.click_clip(33, 12)
    walk.wait_tracked()
    walk.frame(3)
    walk.click_clip(38, 16, button="right")
    expect(page.locator(".objects .count")).to_have_text("2 clicks")
    walk.wait_tracked()
    page.keyboard.press("z")
    expect(page.locator(".objects .count")).to_have_text("1 click")
    walk.click_clip(38, 16, shift=True)
    expect(page.locator(".objects .count")).to_have_text("2 clicks")
    walk.click_clip(38, 16)  # on the dot: back
    expect(page.locator(".objects .count")).to_have_text("1 click")
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="− Take off")).to_have_attribute("aria-pressed", "true")
    walk.click_clip(45, 16)
    expect(page.locator(".objects .count")).to_have_text("2 clicks")
    page.keyboard.press("n")
    expect(page.locator(".objects li")).to_have_count(2)
    walk.drag_clip(4, 4, 20, 20)
    expect(page.locator(".objects li").nth(1).locator(".count")).to_have_text("1 click")
    page.get_by_role("button", name="Remove object 1").click()
    expect(page.locator(".objects li")).to_have_count(1)
    walk.wait_tracked()


def test_an_object_is_marked_as_standing_in_front(page: Page, served: Served) -> None:
    walk = opened(page, served)
    walk.click_clip(33, 12)
    walk.wait_tracked()
    front = page.get_by_role("button", name="object 2 stands in front")
    expect(page.get_by_role("button", name="object 1 stands in front")).to_be_hidden()
    depth = page.locator("#depth")
    depth.select_option("none")
    page.get_by_role("button", name="New object").click()
    walk.click_clip(38, 16)
    walk.wait_tracked()
    front.click()
    expect(front).to_have_attribute("aria-pressed", "true")
    expect(depth).to_be_disabled()
    expect(depth).to_have_value("marked")
    run(page, walk, 1)
    expect(page.locator("#run-note")).to_have_text("In front: object 2.")
    expect(page.locator("#run-select option")).to_have_text(["1: 1 sample, order as marked"])
    page.reload()
    expect(depth).to_have_value("marked")
    front.click()
    expect(depth).to_have_value("none")
    expect(depth).to_be_enabled()


def test_a_file_that_comes_before_the_first_answer_is_opened(page: Page, served: Served, tmp_path: Path) -> None:
    def late(route: sync_api.Route) -> None:
        time.sleep(0.7)
        route.continue_()

    page.route("**/api/session", late)
    page.goto(served.url)
    page.set_input_files("#file", video(tmp_path / "early.mp4"))
    expect(page.locator("#clip-title")).to_contain_text("early.mp4")


def test_errors_are_shown_in_one_sentence(page: Page, served: Served, tmp_path: Path) -> None:
    page.goto(served.url)
    (tmp_path / "bad.mp4").write_bytes(b"nothing like a video" * 50)
    page.set_input_files("#file", tmp_path / "bad.mp4")
    expect(page.get_by_role("alert")).to_contain_text("got 'bad.mp4', which is none.")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#alert")).to_be_hidden()
    page.set_input_files("#file", video(tmp_path / "fine clip.mp4"))
    page.wait_for_selector("#work:not([hidden])")
    expect(page.locator("#clip-title")).to_contain_text("fine clip.mp4 · 64 × 32 · 5 frames · 8 fps")
    walk = Walk(page)
    walk.click_clip(60, 2)
    expect(page.get_by_role("alert")).to_contain_text("Nothing stands out there")
    expect(page.locator(".objects .count")).to_have_text("not clicked")
    walk.click_clip(33, 12, button="right")
    expect(page.get_by_role("alert")).to_contain_text("Click the object itself first")
    page.keyboard.press("4")
    expect(page.locator("#grid .missing")).to_contain_text("Nothing is completed yet")


def test_keys_and_timeline_move_through_the_clip(page: Page, served: Served) -> None:
    walk = opened(page, served)
    line = page.locator("#timeline")
    for key, frame in (("ArrowRight", 1), ("End", 4), ("ArrowRight", 4), ("ArrowLeft", 3), ("Home", 0)):
        page.keyboard.press(key)
        expect(line).to_have_attribute("aria-valuenow", str(frame))
    page.keyboard.press("Shift+ArrowRight")
    expect(line).to_have_attribute("aria-valuenow", "4")
    walk.frame(2)
    expect(page.locator("#counter")).to_contain_text("Frame 2 / 4")
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(line).not_to_have_attribute("aria-valuenow", "2")
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_cancelling_in_the_page(page: Page, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    module: Any = importlib.import_module("diffvas.pipelines.completion")
    real = module.complete

    def slow(*args: Any, progress: Any, **options: Any) -> Any:
        for k in range(10):
            time.sleep(0.1)
            progress("amodal", k, 100)
        return real(*args, progress=progress, **options)

    monkeypatch.setattr(module, "complete", slow)
    walk = opened(page, served)
    walk.click_clip(33, 12)
    walk.wait_tracked()
    page.get_by_label("Samples", exact=True).fill("16")
    page.get_by_role("button", name="Complete", exact=True).click()
    expect(page.locator("#run-status")).to_contain_text("left", timeout=20_000)
    page.wait_for_selector("#samples-row button")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator("#run-status")).to_contain_text(re.compile(r"Cancelled; \d+ samples? kept\."), timeout=20_000)
    expect(page.get_by_role("button", name="Complete again")).to_be_enabled()


def test_two_browsers_do_not_see_each_other(page: Page, browser: Browser, served: Served) -> None:
    opened(page, served)
    address = page.url
    other = browser.new_context().new_page()
    other.goto(address)
    expect(other.locator("#start")).to_be_visible()
    expect(other.locator("#opened-card")).to_be_hidden()
    other.context.close()


@pytest.mark.parametrize("size", [(1280, 800), (1024, 640), (480, 900), (360, 640)])
def test_nothing_is_cut_off_or_jumps(page: Page, served: Served, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    walk = opened(page, served)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    settle(page)
    box = page.locator("#grid canvas").first.bounding_box()
    walk.click_clip(33, 12)
    walk.wait_tracked()
    assert page.locator("#grid canvas").first.bounding_box() == box  # the picture stays where it is
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_every_control_has_a_name(page: Page, served: Served) -> None:
    opened(page, served)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, canvas[role]')].filter((e) =>
        !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"""
    )
    assert nameless == []
