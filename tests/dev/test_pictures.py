"""The recording of a terminal as a picture: what it shows while it plays, and at its end."""

import re
import xml.etree.ElementTree as ElementTree

from dev.pictures import terminal

WORKING = "\x1b[?25l⠼  train    0.1 s\r\n⠼  image    0.1 s"
DONE = "\r\x1b[2K\x1b[1A\x1b[2K\x1b[32m✓\x1b[0m  train    2.0 s  \x1b[2m1 < 2 & 3\x1b[0m\r\n\x1b[?25h"
SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> list[ElementTree.Element]:
    """The lines of a picture, in the order in which they are drawn."""
    return ElementTree.fromstring(picture).findall(f"{SVG}text")


def test_a_viewer_that_plays_nothing_shows_the_last_screen():
    """Without animations a picture shows what the terminal showed at the end, escaped, and nothing of what was replaced."""
    picture = terminal.svg("make ship", [(0.1, WORKING), (2.0, DONE)])
    seen = ["".join(text.itertext()).rstrip() for text in texts(picture) if text.get("class") != "o"]
    assert seen == ["$ make ship", "✓  train    2.0 s  1 < 2 & 3"]


def test_a_replaced_line_is_seen_as_long_as_it_was_there():
    """A line that was replaced has an animation from when it came until it was replaced, and is hidden otherwise."""
    picture = terminal.svg("make ship", [(0.1, WORKING), (2.0, DONE)])
    hidden = [text.get("style") for text in texts(picture) if text.get("class") == "o"]
    assert hidden == ["animation:on 1.5s 0s"] * 2
    assert "prefers-reduced-motion" in picture


def test_a_long_recording_is_played_faster():
    """However long a command took, its picture is played to the end within a quarter of a minute."""
    lines = [(float(second), f"line {second}\r\n") for second in range(1, 121)]
    times = re.findall(r"animation:off ([\d.]+)s", terminal.svg("make ship", lines))
    assert times and max(map(float, times)) <= 15


def test_a_long_line_is_wrapped():
    """A line that is longer than the terminal is wide goes on in the next row."""
    seen = ["".join(text.itertext()) for text in texts(terminal.svg("x", [(1.0, "a" * (terminal.COLUMNS + 3))]))]
    assert seen[1:] == ["a" * terminal.COLUMNS, "aaa"]
