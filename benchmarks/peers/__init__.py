"""One small worker process per library, so that all can be measured in one run, taking turns.

Each library lives in an environment of its own (``make bench-peers``). A worker runs the library's
own public ``maco`` from beginning to end and is stopped between two of its steps by a `gate.Gate`;
so what is timed is the library's complete step, and nothing of it is written again here.
"""
