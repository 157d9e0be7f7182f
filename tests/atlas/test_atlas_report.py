"""What a command shows while it draws."""

from fvfast.atlas.events import AttemptFailed, Note, UnitDrawn
from fvfast.atlas.keys import UnitKey
from fvfast.cli.atlas_report import Follower

KEY = UnitKey("0", 1)


def test_what_all_workers_say_is_shown_once(capsys):
    with Follower(progress=False) as follower:
        for _ in range(3):
            follower(Note("s3://x cannot be reached"))
            follower(UnitDrawn(KEY))
        follower(Note("s3://x is back\x1b[2J"))
    assert capsys.readouterr().err.splitlines() == [
        "s3://x cannot be reached", r"s3://x is back\x1b[2J",
    ]  # fmt: skip


def test_attempts_are_shown_and_counted(capsys):
    with Follower(progress=False) as follower:
        follower(AttemptFailed(KEY, 2, False, "ValueError: x"))
        follower(AttemptFailed(KEY, 3, True, "ValueError: x"))
    assert follower.set_aside == 1
    assert capsys.readouterr().err.splitlines() == [
        "0/1: attempt 2 of 3 failed, to be tried again: ValueError: x",
        "0/1: attempt 3 of 3 failed, set aside: ValueError: x",
    ]
