"""``python -m fvfast`` is the console command ``fvfast``."""

from fvfast.cli.app import app

app(prog_name="fvfast")
