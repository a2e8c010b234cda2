"""A photograph as somebody uploads it, to one as it is kept.

Whatever comes in is decoded and encoded anew: what is kept is a picture of bounded size and nothing else, without the
place, the time and the camera that the original names.
"""

from __future__ import annotations

import io

from PIL import Image, ImageOps, UnidentifiedImageError

from pacs.errors import MalformedData

MAX_UPLOAD_BYTES = 2 * 1024 * 1024
MAX_PIXELS = 25_000_000
LARGEST = (600, 800)  # pixels, width and height
MEDIA_TYPE = "image/jpeg"

_FORMATS = ("JPEG", "PNG")
_QUALITY = 85


def prepared(data: bytes) -> bytes:
    """An upright JPEG of at most ``LARGEST`` with the picture in ``data``, a JPEG or PNG file.

    Raises ``MalformedData`` for anything else, more than ``MAX_UPLOAD_BYTES`` or more than ``MAX_PIXELS``.
    """
    if len(data) > MAX_UPLOAD_BYTES:
        raise MalformedData(f"photograph: at most {MAX_UPLOAD_BYTES} bytes expected")
    try:
        return _prepared(data)
    except MalformedData:
        raise
    except UnidentifiedImageError as error:
        raise MalformedData("photograph: a JPEG or PNG file expected") from error
    except Exception as error:  # decoders of foreign files raise whatever their authors thought of
        raise MalformedData("photograph: the file is damaged") from error


def _prepared(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        width, height = image.size
        if not 1 <= width * height <= MAX_PIXELS:
            raise MalformedData(f"photograph: at most {MAX_PIXELS} pixels expected")
        image.draft("RGB", LARGEST)  # a JPEG is decoded no larger than needed
        upright = ImageOps.exif_transpose(image)
        upright.thumbnail(LARGEST)
        if upright.mode != "RGB":
            background = Image.new("RGBA", upright.size, "white")
            background.alpha_composite(upright.convert("RGBA"))
            upright = background.convert("RGB")
        upright.info.clear()
        kept = io.BytesIO()
        upright.save(kept, "JPEG", quality=_QUALITY)
        return kept.getvalue()
