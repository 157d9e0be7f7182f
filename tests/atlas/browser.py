"""A browser without a window, and a web server, for tests of pages."""

import contextlib
import functools
import http.server
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 20  # that an action may take before it counts as failed


@contextlib.contextmanager
def running_browser() -> Iterator[Any]:
    """Start Chromium; skip the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def until(page: Any, condition: str) -> None:
    """Wait until a JavaScript expression is true.

    Playwright's own function for this evaluates texts in the page, which the pages forbid.
    """
    end = time.monotonic() + SECONDS
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"not within {SECONDS} seconds: {condition}"
        page.wait_for_timeout(20)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *about: Any) -> None:
        # A browser that goes to another page no longer wants the pictures of this one.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*about)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder to this machine; yield the address, with a slash at its end."""
    handler = functools.partial(_Handler, directory=str(folder))
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join(SECONDS)


class Watched:
    """A page of a site, and all that it complained of or asked for.

    Parameters
    ----------
    browser
        The browser.
    base
        Address of the site, with a slash at its end.
    options
        Of the browser's context: size of the window, colors.
    """

    def __init__(self, browser: Any, base: str, **options: Any) -> None:
        self.base = base
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        self.context.set_default_timeout(1000 * SECONDS)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._on_dialog)
        self.context.on("request", lambda request: self.requests.append(request.url))

    def open(self, name: str) -> Any:
        """Go to a page of the site, and wait for it."""
        self.page.goto("about:blank")  # an address that differs behind the # loads nothing
        self.page.goto(self.base + name)
        return self.page

    def finish(self) -> None:
        """Close the page; there must be no complaint, and no request to elsewhere."""
        self.context.close()
        assert not self.complaints
        assert self.requests
        own = (self.base, "data:", "about:blank")
        assert not [url for url in self.requests if not url.startswith(own)]

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_dialog(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()
