"""Pictures that are drawn, not taken: the loop from data to production, in a light and a dark form, and the badges."""

from dataclasses import dataclass
from html import escape

FONT = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
WIDTH, HEIGHT = 796, 286
BOX_WIDTH, BOX_HEIGHT = 150, 56
COLUMNS, ROWS = (20, 222, 424, 626), (34, 196)


@dataclass(frozen=True)
class Palette:
    """The colours of one form; they are those of GitHub's pages, on which the picture stands."""

    text: str
    muted: str
    fill: str
    line: str
    good: str
    bad: str


PALETTES = {
    "light": Palette("#1f2328", "#59636e", "#f6f8fa", "#8c959f", "#1a7f37", "#cf222e"),
    "dark": Palette("#f0f6fc", "#9198a1", "#151b23", "#6e7681", "#3fb950", "#f85149"),
}
# Name, what it does, column, row: the first row runs to the right, the second one back.
STEPS = (
    ("validate", "is the data fit?", 0, 0),
    ("train", "fit, convert, try", 1, 0),
    ("compare", "on held-out rows", 2, 0),
    ("register", "a version in MLflow", 3, 0),
    ("image", "built once, by digest", 3, 1),
    ("staging", "real predictions", 2, 1),
    ("production", "one command back", 0, 1),
)


def loop(palette: Palette) -> str:
    """The way of a model from data to production, as SVG."""
    left, second, third, right = COLUMNS
    top, bottom = ROWS
    middle = BOX_HEIGHT // 2
    parts = [
        *(_box(name, words, COLUMNS[column], ROWS[row], palette) for name, words, column, row in STEPS),
        _arrow(f"M{left + BOX_WIDTH} {top + middle}H{second - 8}", palette.line),
        _arrow(f"M{second + BOX_WIDTH} {top + middle}H{third - 8}", palette.line),
        _arrow(f"M{third + BOX_WIDTH} {top + middle}H{right - 8}", palette.good),
        _label("better", third + BOX_WIDTH + 24, top + middle - 8, palette.good),
        _arrow(f"M{right + 75} {top + BOX_HEIGHT}V{bottom - 8}", palette.line),
        _arrow(f"M{right} {bottom + middle}H{third + BOX_WIDTH + 8}", palette.line),
        _arrow(f"M{third} {bottom + middle}H{left + BOX_WIDTH + 8}", palette.line),
        _label("step by step, watched", left + BOX_WIDTH + 127, bottom + middle - 8, palette.muted),
        _arrow(f"M{left + 75} {bottom}V{top + BOX_HEIGHT + 8}", palette.line),
        _label("the next push", left + 130, 124, palette.muted),
        _arrow(
            f"M{left + 130} {bottom}C{left + 150} 120 {third - 60} 170 {third + 28} {top + BOX_HEIGHT + 7}",
            palette.line,
            "5 5",
        ),
        _label("both answer the same rows", 322, 174, palette.muted),
        _arrow(f"M{third + 100} {top + BOX_HEIGHT}V{top + BOX_HEIGHT + 38}", palette.bad),
        _label("worse: refused", third + 100, top + BOX_HEIGHT + 60, palette.bad),
    ]
    return _svg(WIDTH, HEIGHT, "".join(parts))


def badge(name: str, value: str) -> str:
    """A badge of two words, such as a licence, as SVG."""
    ends = [len(name) * 7 + 12, len(name) * 7 + len(value) * 7 + 24]
    return _svg(
        ends[1],
        20,
        f'<clipPath id="r"><rect width="{ends[1]}" height="20" rx="3"/></clipPath><g clip-path="url(#r)">'
        f'<rect width="{ends[1]}" height="20" fill="#555"/>'
        f'<rect x="{ends[0]}" width="{ends[1] - ends[0]}" height="20" fill="#0b6bb8"/></g>'
        f'<g fill="#fff" font-size="11" text-anchor="middle"><text x="{ends[0] / 2:g}" y="14">{escape(name)}</text>'
        f'<text x="{sum(ends) / 2:g}" y="14">{escape(value)}</text></g>',
    )


def _svg(width: int, height: int, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="{FONT}">{content}</svg>\n'
    )


def _box(name: str, words: str, x: int, y: int, palette: Palette) -> str:
    edge = palette.good if name == "production" else palette.line
    return (
        f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" fill="{palette.fill}" stroke="{edge}" stroke-width="1.5"/>'
        f'<text x="{x + BOX_WIDTH // 2}" y="{y + 24}" font-size="15" font-weight="600" text-anchor="middle" fill="{palette.text}">{name}</text>'
        f'<text x="{x + BOX_WIDTH // 2}" y="{y + 43}" font-size="12" text-anchor="middle" fill="{palette.muted}">{words}</text>'
    )


def _label(words: str, x: int, y: int, colour: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="13" text-anchor="middle" fill="{colour}">{words}</text>'


def _arrow(path: str, colour: str, dashes: str = "none") -> str:
    """A line with a head of its own colour, which a marker would not have in every browser."""
    name = f"a{colour[1:]}"
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dashes}" marker-end="url(#{name})"/>'
    )
