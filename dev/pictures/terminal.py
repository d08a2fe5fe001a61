"""A command recorded in a terminal, and the recording as a small SVG that plays once and then shows the last screen."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

COLUMNS, LINES = 104, 40
PLAY_SECONDS = 14.0  # a recording that took longer is played faster; the seconds that it shows stay as they were
TICK = 0.5  # seconds of playing between two looks at the screen
LINE_HEIGHT, CHARACTER, MARGIN = 18, 7.83, 16
# What a program sends: a colour or another order of the terminal, an end of line, or text.
SENT = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")
CLASSES = {"1": "b", "2": "d", "31": "r", "32": "g", "33": "y"}

Part = tuple[str, str]  # the style of one character, and the character


def record(command: Sequence[str], folder: Path, environment: dict[str, str]) -> list[tuple[float, str]]:
    """Run a command in a terminal; return what it printed, and after how many seconds. Raises CalledProcessError."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    began, printed = time.monotonic(), []
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        while content := _read(ours):
            printed.append((time.monotonic() - began, content.decode("utf-8", "replace")))
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, "".join(text for _, text in printed))
    return printed


def _read(terminal: int) -> bytes:
    """What came next; nothing when the program has ended, which Linux reports as an error."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


class Screen:
    """What a terminal shows: as much of one as progress bars and coloured lines need."""

    def __init__(self) -> None:
        self.rows: list[list[Part]] = [[]]
        self.row = self.column = 0
        self.style: list[str] = []

    def write(self, text: str) -> None:
        """Take what a program sent."""
        for numbers, order, end, words in SENT.findall(text):
            if order == "m":
                self._colour(numbers)
            elif order == "A":
                self.row = max(0, self.row - int(numbers or 1))
            elif order == "K":
                self.rows[self.row] = self.rows[self.row][: 0 if numbers == "2" else self.column]
            elif end == "\r":
                self.column = 0
            elif end == "\n":
                self._down()
            for character in words:
                self._put(character)

    def _colour(self, numbers: str) -> None:
        for number in numbers.split(";"):
            self.style = [] if number in ("", "0") else [*self.style, CLASSES.get(number, "")]

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])

    def _put(self, character: str) -> None:
        if self.column == COLUMNS:
            self.column = 0
            self._down()
        row = self.rows[self.row]
        row += [("", " ")] * (self.column - len(row))
        row[self.column : self.column + 1] = [(" ".join(sorted({*self.style} - {""})), character)]
        self.column += 1


def svg(title: str, printed: Iterable[tuple[float, str]]) -> str:
    """A recording as SVG: `title` is the command, as if it had been typed."""
    printed = list(printed)
    faster = max(1.0, printed[-1][0] / PLAY_SECONDS)
    shown = _looks([(at / faster, text) for at, text in printed])
    rows = [_line(0, [("d", "$ "), *(("b", character) for character in title)], "")]
    for number, looks in enumerate(shown, 1):
        rows += _row(number, looks)
    height = (len(shown) + 1) * LINE_HEIGHT + 2 * MARGIN
    width = round(COLUMNS * CHARACTER) + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
        f'<rect width="{width}" height="{height}" rx="8" fill="#151b23"/>{"".join(rows)}</svg>\n'
    )


# A line that was replaced is seen while it was there. The last one of each row is only kept back until it came, so that a
# viewer that plays nothing shows the last screen.
STYLE = (
    "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#e6edf3;white-space:pre}"
    ".b{font-weight:700}.d{fill:#9198a1}.r{fill:#f85149}.g{fill:#3fb950}.y{fill:#d29922}"
    ".o{visibility:hidden}@keyframes on{from,to{visibility:visible}}@keyframes off{from,to{visibility:hidden}}"
    "@media(prefers-reduced-motion:reduce){text{animation:none!important}}"
)


def _looks(printed: list[tuple[float, str]]) -> list[list[list[Part]]]:
    """For each row of the screen what it held at each look, one look a tick; a row that is not there yet is empty."""
    screen, looks, at = Screen(), [], 0
    ticks = int(printed[-1][0] / TICK) + 1
    for tick in range(1, ticks + 1):
        while at < len(printed) and (printed[at][0] <= tick * TICK or tick == ticks):
            screen.write(printed[at][1])
            at += 1
        looks.append([list(row) for row in screen.rows])
    height = max(row + 1 for look in looks for row, parts in enumerate(look) if parts)
    return [[look[row] if row < len(look) else [] for look in looks] for row in range(height)]


def _row(number: int, looks: list[list[Part]]) -> list[str]:
    """The texts of one row, one after the other, each with its time."""
    texts, began = [], 0
    for tick in range(1, len(looks) + 1):
        if tick < len(looks) and looks[tick] == looks[began]:
            continue
        if looks[began]:
            last = tick == len(looks)
            when = f"off {began * TICK:g}s" if last else f"on {(tick - began) * TICK:g}s {began * TICK:g}s"
            texts.append(_line(number, looks[began], "" if when == "off 0s" else when, last))
        began = tick
    return texts


def _line(number: int, parts: list[Part], when: str, last: bool = True) -> str:
    """One line of text, its neighbours of the same style together."""
    spans, style, words = [], None, ""
    for new, character in [*parts, (None, "")]:
        if new != style:
            spans.append(f'<tspan class="{style}">{escape(words)}</tspan>' if style else escape(words))
            style, words = new, ""
        words += character
    hidden = "" if last else ' class="o"'
    animation = f' style="animation:{when}"' if when else ""
    return f'<text x="{MARGIN}" y="{MARGIN + number * LINE_HEIGHT + 13}"{hidden}{animation}>{"".join(spans).rstrip()}</text>'
