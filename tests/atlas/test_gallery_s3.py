"""The pages of an atlas on object storage: a server on this machine that speaks S3."""

import mimetypes

import pytest
from synthetic import Layer, write_atlas

from fvfast.atlas.gallery import write_gallery

pytestmark = pytest.mark.thorough


@pytest.fixture
def store(monkeypatch):
    """A file system of s3fs with an empty bucket."""
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        store = s3fs.S3FileSystem(skip_instance_cache=True)
        store.mkdir("bucket")
        yield store
    finally:
        server.stop()


def test_from_and_to_object_storage(store, tmp_path):
    write_atlas(tmp_path / "atlas", Layer("a/b%", 20), Layer("none", 0))
    store.put(str(tmp_path / "atlas"), "bucket/atlas", recursive=True)
    summary = write_gallery("s3://bucket/atlas", "s3://bucket/pages")
    assert (summary.shown, summary.with_examples, summary.problems) == (20, 20, ())
    assert write_gallery("s3://bucket/atlas", "s3://bucket/pages").pictures_written == 0
    local = tmp_path / "pages"
    write_gallery(tmp_path / "atlas", local)
    stored = {name.removeprefix("bucket/pages/") for name in store.find("bucket/pages")}
    names = {path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file()}
    assert stored == names
    for name in names:
        assert store.cat_file(f"bucket/pages/{name}") == (local / name).read_bytes()
        # What a browser goes by, when it comes from a store.
        kind = store.info(f"bucket/pages/{name}", refresh=True)["ContentType"].partition(";")[0]
        assert kind == mimetypes.guess_type(name)[0]
