"""Walk the studio's whole path in headless Chromium by real clicks and keys, and save a picture of every step.

    python tests/studio/record.py OUT_DIR [--clip VIDEO]

Needs the extra ``studio``, playwright, and Chromium of the system.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 600_000  # ms, for what a busy machine computes
FLAGS = ["--disable-gpu", "--force-color-profile=srgb"]


def find_browser() -> str | None:
    """Chromium of the system."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextlib.contextmanager
def running_studio(*arguments: str) -> Iterator[str]:
    """A studio in a process of its own; yields its address and stops it as Ctrl-C does."""
    command = [sys.executable, "-m", "diffvas.cli.main", "studio", "--port", "0", "--tracker", "classic", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"the studio did not start: {line!r}"
        yield found.group()
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def browser_page(width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A page whose errors make the recording fail."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_browser(), args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(60000)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        yield page
        browser.close()
        assert not faults, faults


class Walk:
    """The page under somebody's hands: clicks in pixels of the clip, waits, pictures."""

    def __init__(self, page: Page, out: Path | None = None) -> None:
        self.page, self.out, self.count = page, out, 0

    def shot(self, name: str) -> None:
        self.page.wait_for_timeout(250)
        if self.out is not None:
            self.count += 1
            self.page.screenshot(path=str(self.out / f"{self.count:02d}-{name}.png"))

    def click_clip(self, x: float, y: float, **options: Any) -> None:
        """A click at (x, y) of the clip, in the first picture."""
        place, scale = self._place()
        self.page.mouse.move(place["x"] + x * scale, place["y"] + y * scale)
        if options.get("shift"):
            self.page.keyboard.down("Shift")
        self.page.mouse.down(button=options.get("button", "left"))
        self.page.mouse.up(button=options.get("button", "left"))
        if options.get("shift"):
            self.page.keyboard.up("Shift")

    def drag_clip(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """From one place of the clip to another, with the button down."""
        place, scale = self._place()
        self.page.mouse.move(place["x"] + x0 * scale, place["y"] + y0 * scale)
        self.page.mouse.down()
        self.page.mouse.move(place["x"] + (x0 + x1) / 2 * scale, place["y"] + (y0 + y1) / 2 * scale)
        self.page.mouse.move(place["x"] + x1 * scale, place["y"] + y1 * scale)
        self.page.mouse.up()

    def _place(self) -> tuple[dict[str, float], float]:
        box = self.page.locator("#grid canvas").nth(1).bounding_box()
        assert box is not None
        width = float(self.page.locator("#clip-title").inner_text().split(" · ")[1].split(" × ")[0])
        return dict(box), box["width"] / width

    def says(self, place: str, pattern: str) -> None:
        """Wait until a part of the page says this."""
        from playwright.sync_api import expect

        expect(self.page.locator(place)).to_have_text(re.compile(pattern), timeout=PATIENCE)

    def wait_tracked(self) -> None:
        self.says("#track-status", "^Tracked")

    def wait_run(self) -> None:
        self.says("#run-status", "^(Done|Cancelled)")

    def frame(self, t: int) -> None:
        """To a frame, by a click on the timeline."""
        box = self.page.locator("#timeline").bounding_box()
        last = int(self.page.locator("#timeline").get_attribute("aria-valuemax") or 0)
        assert box is not None
        self.page.mouse.click(box["x"] + (t + 0.5) / (last + 1) * box["width"], box["y"] + 30)

    def view(self, name: str) -> None:
        self.page.get_by_role("group", name="View").get_by_role("button", name=name, exact=True).click()

    def layout(self, name: str) -> None:
        self.page.get_by_role("group", name="Layout").get_by_role("button", name=name, exact=True).click()


def walk_demo(walk: Walk, url: str) -> None:
    """The whole path on the bundled clip."""
    page = walk.page
    page.goto(url)
    walk.shot("start")
    page.get_by_role("button", name="Open the demo clip").click()
    page.wait_for_selector("#work:not([hidden])")
    walk.shot("opened")
    walk.click_clip(74, 136)
    walk.shot("first-click")
    page.wait_for_selector(".objects .count:has-text('1 click')")
    walk.shot("first-mask")
    walk.wait_tracked()
    walk.shot("tracked")
    walk.click_clip(104, 132)
    page.wait_for_selector(".objects .count:has-text('2 clicks')")
    walk.wait_tracked()
    walk.frame(20)
    walk.shot("later-frame")
    page.get_by_label("Name of object 1").fill("horse")
    page.keyboard.press("Enter")
    mend(walk)
    second_object(walk)
    complete(walk)
    compare(walk)
    export(walk)
    page.reload()
    page.wait_for_selector("#work:not([hidden])")
    walk.shot("reloaded")
    page.get_by_role("button", name="Help and keyboard shortcuts").click()
    walk.shot("help")
    page.get_by_role("button", name="Close", exact=True).click()
    page.set_viewport_size({"width": 480, "height": 900})
    walk.shot("narrow")
    page.locator("#complete-h").scroll_into_view_if_needed()
    page.mouse.wheel(0, 700)
    walk.shot("narrow-below")
    page.set_viewport_size({"width": 1280, "height": 800})


def mend(walk: Walk) -> None:
    """More clicks where tracking goes wrong."""
    walk.frame(20)
    walk.click_clip(302, 136)
    walk.page.wait_for_selector(".objects .count:has-text('3 clicks')")
    walk.shot("mended-at-once")
    walk.click_clip(164, 128, button="right")
    walk.page.wait_for_selector(".objects .count:has-text('4 clicks')")
    walk.shot("taken-off")
    walk.wait_tracked()
    walk.frame(16)
    walk.shot("mended-and-tracked")


def second_object(walk: Walk) -> None:
    """Another object, by a box; then a click that takes away."""
    page = walk.page
    walk.frame(0)
    page.get_by_role("button", name="New object").click()
    walk.drag_clip(374, 86, 416, 216)
    page.wait_for_selector(".objects li:nth-child(2) .count:has-text('1 click')")
    walk.shot("second-object-by-box")
    walk.wait_tracked()
    walk.click_clip(436, 170, button="right")
    page.wait_for_selector(".objects li:nth-child(2) .count:has-text('2 clicks')")
    walk.wait_tracked()
    page.keyboard.press("ArrowRight")
    walk.shot("second-object-tracked")


def complete(walk: Walk) -> None:
    """Three samples, looked at while they come."""
    page = walk.page
    page.locator(".objects li").nth(0).click()
    walk.frame(18)
    page.get_by_label("Samples", exact=True).fill("2")
    page.get_by_label("Seed").fill("7")
    page.locator("#run").click()
    walk.says("#run-status", "left$")
    walk.shot("completing")
    page.wait_for_selector("#samples-row button", timeout=PATIENCE)
    walk.shot("first-sample")
    walk.wait_run()
    walk.shot("completed")


def compare(walk: Walk) -> None:
    """All views, side by side, samples."""
    page = walk.page
    for name in ("Input", "Visible", "Whole", "Content", "Confidence", "Re-compose"):
        walk.view(name)
        walk.shot(f"view-{name.lower()}")
    walk.drag_clip(290, 136, 230, 126)
    walk.shot("moved")
    page.keyboard.press("3")
    page.keyboard.press("]")
    walk.shot("sample-1")
    page.keyboard.press("s")
    walk.shot("views-side-by-side")
    walk.view("Confidence")
    walk.view("Input")
    walk.shot("five-views")
    page.keyboard.press("s")
    walk.shot("samples-side-by-side")
    walk.view("Content")
    walk.shot("samples-content")
    page.keyboard.press("s")
    walk.view("Whole")
    page.keyboard.press(" ")
    page.wait_for_timeout(1500)
    page.keyboard.press(" ")
    walk.shot("played")


def export(walk: Walk) -> None:
    """Two formats, downloaded and looked into."""
    page = walk.page
    page.get_by_label("coco", exact=True).check()
    page.get_by_label("vp9", exact=True).check()
    page.get_by_role("button", name=re.compile("^Export ")).click()
    page.wait_for_selector("#downloads a")
    page.locator("#downloads").scroll_into_view_if_needed()
    walk.shot("exported")
    with page.expect_download() as coming:
        page.locator("#downloads a").click()
    names = zipfile.ZipFile(coming.value.path()).namelist()
    assert {"coco/annotations.json", "vp9/1.webm", "result/result.json"} <= set(names), names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clip", action="append", default=[])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with running_studio(*args.clip) as url, browser_page() as page:
        walk_demo(Walk(page, args.out), url)
    print(f"{args.out}: {len(list(args.out.glob('*.png')))} pictures")


if __name__ == "__main__":
    main()
