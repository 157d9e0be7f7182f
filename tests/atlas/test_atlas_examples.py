"""The scripts for schedulers call the command as it is."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fvfast.atlas.drawing import parse_part
from fvfast.cli import app as cli

EXAMPLES = Path(__file__).parents[2] / "examples" / "atlas"


def called(script, tmp_path, **variables):
    """The arguments with which a script calls ``fvfast``."""
    stub = tmp_path / "fvfast"
    stub.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **variables}
    result = subprocess.run(
        ["bash", "-eu", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("name", "variables", "expected"),
    [
        ("slurm.sh", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, (3, 8)),
        ("torchrun.sh", {"RANK": "5", "WORLD_SIZE": "16", "LOCAL_RANK": "5"}, (5, 16)),
        ("skypilot.yaml", {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "8"}, (1, 8)),
    ],
)
def test_each_process_draws_its_part(tmp_path, name, variables, expected):
    text = (EXAMPLES / name).read_text()
    script = yaml.safe_load(text)["run"] if name.endswith(".yaml") else text
    arguments = called(script, tmp_path, ATLAS="somewhere", **variables)
    assert arguments[:3] == ["atlas", "run", "efficientnet_lite0"]
    assert parse_part(arguments[arguments.index("--shard") + 1]) == expected
    assert arguments[arguments.index("--out") + 1] == "somewhere"
    options = re.findall(r"--[\w-]+", CliRunner().invoke(
        cli.app, ["atlas", "run", "--help"], env={"COLUMNS": "200"}
    ).output)  # fmt: skip
    assert not {one for one in arguments if one.startswith("--")} - set(options)
