"""Times the work around the network, library against library: the network is removed.

Run with ``python -m benchmarks.hot_path``; ``make bench-peers`` installs the other libraries.
"""

from benchmarks.contest import argument_parser, measure
from benchmarks.peers.scene import Scene
from benchmarks.step_parts import measure_parts, parts_of_a_step


def main() -> None:
    # "horama_frozen" is left out: a network without weights has none to freeze.
    parser = argument_parser(
        __doc__,
        rounds=15,
        steps=4,
        contestants=("fvfast", "fvfast_reference", "xplique", "dreamlens", "horama"),
    )
    arguments = parser.parse_args()
    scene = Scene(threads=arguments.threads)
    results = measure(scene, arguments, "hot_path")
    seconds = {result.name: result.median for result in results}
    print("\nwhere fvfast's step goes")
    measure_parts(parts_of_a_step(scene), scene, step_seconds=seconds.get("fvfast"))


if __name__ == "__main__":
    main()
