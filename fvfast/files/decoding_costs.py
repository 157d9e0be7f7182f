"""Estimates, from an image's header, the memory that decoding it takes."""

from PIL import ImageFile, PngImagePlugin, TiffImagePlugin

# Bytes per pixel while an image is decoded: 4 as decoded, 4 converted or rotated, and what the
# decoder itself keeps, measured with the largest types of pixels that it gives.
_PIXEL_BYTES = {"AVIF": 20, "JPEG2000": 28, "WEBP": 20}
_PLAIN_PIXEL_BYTES = 8
_ROW_BYTES = 20  # pointers to each row, and its padding, before and after a conversion
_COEFFICIENT_BYTES = 2  # per value of a JPEG with several scans
_BLOCK_PIXEL_BYTES = 12  # per pixel of a strip or tile of a compressed TIFF: 6 channels of 16 bits
# A scan may be 30 bytes long and takes as long to decode as the whole image. About 10 are usual.
_MOST_SCANS = 1000
# A JPEG is decoded at no less than twice the requested size; the resizing filter does the rest.
_OVERSIZE = 2


def decoding_bytes(
    file: ImageFile.ImageFile, in_file: int, size: tuple[int, int], most: int
) -> int:
    """Return the most bytes that decoding an image takes; set a JPEG to be decoded smaller.

    Parameters
    ----------
    file
        The image, from `opened_image`.
    in_file
        Size of the file in bytes.
    size
        (H, W) that is needed.
    most
        The most bytes that are allowed.

    Raises
    ------
    ValueError
        The image takes more.
    """
    pixels = file.width * file.height
    what = f"{file.width} x {file.height} pixels of {file.format}"
    beside = (file.width + file.height) * _ROW_BYTES
    if file.format in ("JPEG", "MPO"):
        _check_scans(file)
        beside += pixels * len(file.getbands()) * _COEFFICIENT_BYTES
        side = _OVERSIZE * max(size)
        file.draft(None, (side, side))
        pixels = file.width * file.height
    elif file.format == "TIFF":
        beside += _block_pixels(file) * _BLOCK_PIXEL_BYTES
    elif file.format == "PNG":
        # Compressed texts, which may come after the pixels, up to the limit that Pillow sets.
        beside += PngImagePlugin.MAX_TEXT_MEMORY
    elif file.format in ("AVIF", "WEBP"):
        # The whole file is read into memory.
        beside += in_file
    needed = beside + pixels * _PIXEL_BYTES.get(file.format or "", _PLAIN_PIXEL_BYTES)
    if needed > most:
        raise ValueError(
            f"{what} take {needed / 2**30:.2f} GiB to decode; expected at most "
            f"{most / 2**30:.2f} GiB"
        )
    return needed


def _check_scans(file: ImageFile.ImageFile) -> None:
    """Refuse a JPEG that would take hours."""
    assert file.fp is not None  # until its pixels are read
    position = file.fp.tell()
    file.fp.seek(0)
    # In the pixel data, these two bytes always begin a scan.
    count = file.fp.read().count(b"\xff\xda")
    file.fp.seek(position)
    if count > _MOST_SCANS:
        raise ValueError(f"{count} scans of a JPEG; expected at most {_MOST_SCANS}")


def _block_pixels(file: ImageFile.ImageFile) -> int:
    """Count the pixels of a TIFF's tile or strip, which may exceed the image; 0: uncompressed."""
    tags = file.tag_v2  # type: ignore[attr-defined]
    if tags.get(TiffImagePlugin.COMPRESSION, 1) == 1:
        return 0
    if TiffImagePlugin.TILEWIDTH in tags:
        return int(tags[TiffImagePlugin.TILEWIDTH] * tags[TiffImagePlugin.TILELENGTH])
    return file.width * min(file.height, tags.get(TiffImagePlugin.ROWSPERSTRIP, file.height))
