"""Text on pictures: a font of any size that comes with Pillow, and lines that fit a width."""

import functools
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont

Colour = tuple[int, int, int]

INK: Colour = (20, 20, 20)
FAINT: Colour = (90, 90, 90)


@functools.cache
def font(points: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font at a height in pixels."""
    return ImageFont.load_default(points)


@dataclass(frozen=True, slots=True)
class Text:
    """Lines of text that fit a width."""

    lines: tuple[str, ...]
    points: int
    colour: Colour

    @classmethod
    def wrapped(cls, text: str, width: int, points: int, colour: Colour = INK) -> "Text":
        """The text broken into lines of at most `width` pixels, after words where that is possible."""
        letters = font(points)
        lines: list[str] = []
        for paragraph in text.split("\n"):
            line = ""
            for word in paragraph.split():
                longer = f"{line} {word}".strip()
                if letters.getlength(longer) <= width:
                    line = longer
                    continue
                if line:
                    lines.append(line)
                # A word wider than the column, such as a file name, is cut.
                while letters.getlength(word) > width and len(word) > 1:
                    cut = max(1, sum(letters.getlength(word[: end + 1]) <= width for end in range(len(word))))
                    lines.append(word[:cut])
                    word = word[cut:]
                line = word
            lines.append(line)
        return cls(tuple(lines), points, colour)

    @property
    def line_height(self) -> int:
        """Pixels from one line to the next."""
        return round(self.points * 1.3)

    @property
    def height(self) -> int:
        """Pixels that all lines take."""
        return len(self.lines) * self.line_height

    def draw(self, draw: ImageDraw.ImageDraw, left: int, top: int) -> None:
        """Write the lines, the first one's upper left corner at a place."""
        for number, line in enumerate(self.lines):
            draw.text((left, top + number * self.line_height), line, self.colour, font(self.points))
