"""What it takes to decode an image, from its header."""

from PIL import ImageFile, PngImagePlugin, TiffImagePlugin

# Bytes for each pixel while an image is decoded: 4 as it comes, 4 converted or rotated, and what
# the decoders keep beside that, as measured with the largest kinds of pixels that they give.
_PIXEL_BYTES = {"AVIF": 20, "JPEG2000": 28, "WEBP": 20}
_PLAIN_PIXEL_BYTES = 8
_ROW_BYTES = 20  # pointers to a row, and what it is filled up to, before and after a conversion
_COEFFICIENT_BYTES = 2  # for each value of a JPEG that comes in several scans
_BLOCK_PIXEL_BYTES = 12  # of a strip or tile of a compressed TIFF: 6 channels of 16 bits
# Each takes the time of the whole image, and may be 30 bytes long. Usual ones are about 10.
_MOST_SCANS = 1000
# A reduced JPEG has twice the size that is asked for at least, so that the filter decides.
_OVERSIZE = 2


def decoding_bytes(
    file: ImageFile.ImageFile, in_file: int, size: tuple[int, int], most: int
) -> int:
    """Largest number of bytes that an image takes while it is decoded; reduces a JPEG.

    Parameters
    ----------
    file
        As `opened_image` gives it.
    in_file
        Bytes in the file.
    size
        (H, W) that is needed.
    most
        Number of bytes that are allowed.

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
        # Texts that are compressed, as Pillow limits them: they may stand behind the pixels.
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
    # Within the pixels, these two bytes are nothing else than the beginning of a scan.
    count = file.fp.read().count(b"\xff\xda")
    file.fp.seek(position)
    if count > _MOST_SCANS:
        raise ValueError(f"{count} scans of a JPEG; expected at most {_MOST_SCANS}")


def _block_pixels(file: ImageFile.ImageFile) -> int:
    """Pixels of a tile or strip of a TIFF, which may reach beyond the image; 0: not compressed."""
    tags = file.tag_v2  # type: ignore[attr-defined]
    if tags.get(TiffImagePlugin.COMPRESSION, 1) == 1:
        return 0
    if TiffImagePlugin.TILEWIDTH in tags:
        return int(tags[TiffImagePlugin.TILEWIDTH] * tags[TiffImagePlugin.TILELENGTH])
    return file.width * min(file.height, tags.get(TiffImagePlugin.ROWSPERSTRIP, file.height))
