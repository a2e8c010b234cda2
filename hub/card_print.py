"""What is printed on a card: a page of the card's own size (ISO/IEC 7810 ID-1) for the card printer.

Photograph, first name, the card's short number, and where it is sent when it is found; no country, no procedure, no birth
date, no site. A name is drawn whole or not at all: a printer that shows boxes for letters shames who carries the card.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from fontTools.ttLib import TTFont
from fpdf import FPDF
from fpdf.fonts import TTFFont
from PIL import Image, ImageDraw, ImageFont, features

from pacs.errors import PacsError

WIDTH_MM: Final = 85.60
HEIGHT_MM: Final = 53.98
DPI: Final = 600
FONTS: Final = Path(__file__).with_name("fonts")
SMALL_FONT: Final = "NotoSans-Regular.ttf"
NAME_FONTS: Final = (
    "NotoSans-Bold.ttf",
    "NotoSansArabic-Bold.ttf",
    "NotoSansArmenian-Bold.ttf",
    "NotoSansEthiopic-Bold.ttf",
)
_MARGIN_MM: Final = 4.0
_PHOTO_MM: Final = (24.0, 32.0)
_LARGEST_PT: Final = 18
_LATIN_PT: Final = 12
_SMALLEST_PT: Final = 9
_BETWEEN_MM: Final = 2.5
_JOINED: Final = frozenset({"R", "AL", "NSM"})
"""Kinds of characters (Unicode bidirectional classes) whose place and shape depend on their neighbours."""


class Unprintable(PacsError):
    """A text cannot be printed as it is written."""


class NoGlyph(Unprintable):
    """No font has all of its letters."""


class NotJoined(Unprintable):
    """This machine cannot join its letters as its script needs (libfribidi is missing)."""


class TooLong(Unprintable):
    """It does not fit, however small."""


class BadAddress(Unprintable):
    """The return address has letters that no font has, or takes more than two lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """What stands on a card. ``latin``: below the name, for who cannot read its script, or nothing. ``photograph``: a JPEG,
    or none. ``number``: the card's, short. ``address``: if found.
    """

    name: str
    number: str
    latin: str = ""
    address: str = ""
    photograph: bytes | None = None


def card_pdf(face: Face) -> bytes:
    """One page of 85.60 × 53.98 mm. Raises ``Unprintable``, and prints nothing then."""
    left_mm = _MARGIN_MM + (_PHOTO_MM[0] + 4.0 if face.photograph else 0.0)
    room_mm = WIDTH_MM - _MARGIN_MM - left_mm
    names = [_drawn(_normal(face.name), room_mm, _LARGEST_PT)]
    if latin := _normal(face.latin):
        names.append(_drawn(latin, room_mm, _LATIN_PT))
    if face.address and not _has(SMALL_FONT, face.address):
        raise BadAddress("the return address has letters that no font of the card has")
    page = FPDF(orientation="landscape", unit="mm", format=(HEIGHT_MM, WIDTH_MM))
    try:
        _lay_out(page, face, names, left_mm)
        return bytes(page.output())
    finally:
        for font in page.fonts.values():
            if isinstance(font, TTFFont):
                font.close()


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _lay_out(page: FPDF, face: Face, names: Sequence[Image.Image], left_mm: float) -> None:
    page.set_auto_page_break(auto=False)
    page.set_margin(0)
    page.c_margin = 0
    page.set_title("Card")
    page.add_font("small", fname=FONTS / SMALL_FONT)
    page.add_page()
    if face.photograph:
        page.image(io.BytesIO(face.photograph), _MARGIN_MM, _MARGIN_MM, *_PHOTO_MM, keep_aspect_ratio=True)
    top_mm = _MARGIN_MM + 3.0
    for name in names:
        width_mm, height_mm = (pixels / DPI * 25.4 for pixels in name.size)
        page.image(name, left_mm, top_mm, width_mm, height_mm)
        top_mm += height_mm + _BETWEEN_MM
    page.set_font("small", size=11)
    page.text(left_mm, _MARGIN_MM + 24.0, face.number)
    if face.address:
        page.set_font("small", size=6.5)
        page.set_xy(_MARGIN_MM, HEIGHT_MM - _MARGIN_MM - 6.0)
        room_mm = WIDTH_MM - 2 * _MARGIN_MM
        lines: Any = page.multi_cell(room_mm, 3.0, face.address, align="L", dry_run=True, output="LINES")
        if len(lines) > 2:
            raise BadAddress("the return address takes more than two lines")
        page.multi_cell(room_mm, 3.0, face.address, align="L")


def _drawn(text: str, room_mm: float, largest_pt: int) -> Image.Image:
    """The name in black on white, shaped as its script needs, in the largest size that fits."""
    font_name = next((font for font in NAME_FONTS if _has(font, text)), None)
    if font_name is None or not text:
        raise NoGlyph("the name has letters that no font of the card has, or mixes scripts")
    joined = any(unicodedata.bidirectional(each) in _JOINED for each in text)
    shapes = features.check("raqm") and features.check("fribidi")
    if joined and not shapes:
        raise NotJoined("this machine cannot join the letters of this script")
    layout = ImageFont.Layout.RAQM if shapes else ImageFont.Layout.BASIC
    room = room_mm / 25.4 * DPI
    for size_pt in range(largest_pt, _SMALLEST_PT - 1, -1):
        font = ImageFont.truetype(FONTS / font_name, round(size_pt / 72 * DPI), layout_engine=layout)
        left, top, right, bottom = font.getbbox(text)
        if right - left <= room:
            image = Image.new("L", (round(right - left), round(bottom - top)), "white")
            ImageDraw.Draw(image).text((-left, -top), text, fill="black", font=font)
            return image
    raise TooLong("the name does not fit on the card")


def _has(font_name: str, text: str) -> bool:
    return all(ord(each) in _characters(font_name) for each in text)


@cache
def _characters(font_name: str) -> frozenset[int]:
    with TTFont(FONTS / font_name, lazy=True) as font:
        return frozenset(font.getBestCmap())
