"""Prints what the settings of TF32 are after a block without it, and without such a block.

The arguments are statements of a program that chooses its settings. Some of them cannot be undone,
so each runs in a fork of this process. One line of JSON for each.
"""

import json
import os
import sys

import torch
from torch import backends as b

from fvfast.engine.exact_float32 import _older_settings, exact_float32

HAS_NEWER = hasattr(b.cudnn, "conv")
LATER = ("b.fp32_precision = 'ieee'", "b.fp32_precision = 'tf32'", "b.fp32_precision = 'none'")


def ask(question):
    try:
        return question()
    except RuntimeError as error:  # torch does not answer where old and new settings are mixed
        return str(error)


def settings():
    """All there are."""
    questions = {
        "convolutions": lambda: b.cudnn.allow_tf32,
        "products": lambda: b.cuda.matmul.allow_tf32,
        "precision": torch.get_float32_matmul_precision,
    }
    if HAS_NEWER:
        questions |= {
            "all": lambda: b.fp32_precision,
            "all on CUDA": lambda: b.cudnn.fp32_precision,
            "each": lambda: [one.fp32_precision for one in operations()],
            "matrices on the CPU": lambda: b.mkldnn.matmul.fp32_precision,
        }
    return {name: ask(question) for name, question in questions.items()}


def operations():
    return b.cudnn.conv, b.cudnn.rnn, b.cuda.matmul


def settings_now_and_later():
    seen = [settings()]
    for statement in LATER if HAS_NEWER else ():
        exec(statement)
        seen.append(settings())
    return seen


def in_a_fork(function):
    """Return what a function returns in a fork of this process."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, json.dumps(function()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.wait()
    return json.loads(answer)


def with_a_block(statement):
    exec(statement)
    try:
        with exact_float32():
            if HAS_NEWER:
                inside = [one.fp32_precision for one in operations()]
            else:
                inside = [b.cudnn.allow_tf32, b.cuda.matmul.allow_tf32]
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    return inside, settings_now_and_later()


def without_a_block(statement):
    exec(statement)
    return settings_now_and_later()


def with_the_older_settings(statement):
    exec(statement)
    before = older_settings()
    with _older_settings():
        inside = older_settings()
    return inside, before == older_settings()


def older_settings():
    """As every version of torch has them."""
    return [b.cudnn.allow_tf32, b.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()]


for statement in sys.argv[1:]:
    inside, seen = in_a_fork(lambda: with_a_block(statement))  # noqa: B023 (called at once)
    without = in_a_fork(lambda: without_a_block(statement))  # noqa: B023
    outcome = {"inside": inside, "with": seen, "without": without}
    if "fp32_precision" not in statement:
        outcome["older"] = in_a_fork(lambda: with_the_older_settings(statement))  # noqa: B023
    sys.stdout.write(json.dumps(outcome) + "\n")
