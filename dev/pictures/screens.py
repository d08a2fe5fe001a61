"""Pictures of pages as Chromium shows them, made small."""

import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image

from pipeline.errors import SlipwayError
from tests.serving.browser import Browser

WIDTH, HEIGHT = 960, 640  # the README shows it at half of that, where it must be readable
MOST_BYTES = 120_000
COLOURS = (256, 128, 64, 32)  # of a palette: the most that fits


def take(
    browser: Browser,
    url: str,
    ready: str,
    picture: Path,
    act: Callable[[Browser], None] = lambda _: None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> None:
    """Open a page, wait for an element, act as a person would, and write what the window shows as a small PNG."""
    browser.look(*size, prefers_color_scheme="light")
    browser.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    browser.open(url, ready)
    act(browser)
    time.sleep(2)  # until what fades in is there
    picture.write_bytes(small(browser.driver.get_screenshot_as_png(), picture.name))


def small(png: bytes, name: str) -> bytes:
    """A screenshot with a palette of as many colours as MOST_BYTES allow; raises SlipwayError when that is none."""
    shown = Image.open(BytesIO(png)).convert("RGB")
    for colours in COLOURS:
        content = BytesIO()
        shown.quantize(colours, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
        if content.tell() <= MOST_BYTES:
            return content.getvalue()
    raise SlipwayError(f"{name} has more than {MOST_BYTES} bytes", "show less of the page: dev/pictures/screens.py")
