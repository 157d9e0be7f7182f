"""One small worker process per library, so that all can be measured in one run, in turns.

Each library is installed in its own environment (``make bench-peers``). A worker runs the library's
public ``maco``, and a `gate.Gate` stops it between two of its steps. So the library's complete step
is timed, and no part of it is reimplemented here.
"""
