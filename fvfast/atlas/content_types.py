"""What object storage is told of a file, so that a browser shows it instead of saving it."""

from collections.abc import Set

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "webp": "image/webp",
}
# The argument that s3fs, and gcsfs, pass on to the store.
_WORDS = {"ContentType": {"s3", "s3a"}, "content_type": {"gs", "gcs"}}


def content_type(name: str, protocols: Set[str]) -> dict[str, str]:
    """Return the type of a file, by its name, in the word of a file system that fsspec has.

    Parameters
    ----------
    name
        Of the file.
    protocols
        Of the file system. Of others than S3 and Google Cloud Storage, nothing is returned.
    """
    kind = _TYPES.get(name.rpartition(".")[2])
    if kind is None:
        return {}
    return {word: kind for word, known in _WORDS.items() if protocols & known}
