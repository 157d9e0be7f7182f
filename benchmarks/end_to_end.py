"""Times whole steps with a network, library against library, and against the network alone.

"network" is one forward pass and the gradient of its input in the form that fvfast's engine
chooses, "network_eager" the same as PyTorch runs it. "auto" is the precision that the engine
chooses on this machine.

Run with ``python -m benchmarks.end_to_end``; ``make bench-peers`` installs the other libraries.
The networks have random weights: the time of a step does not depend on them. All contestants stay
loaded, with ResNet50 2 to 4 GB each: choose fewer with --contestants.
"""

from benchmarks.contest import argument_parser, measure
from benchmarks.peers.scene import NETWORKS, Scene


def main() -> None:
    parser = argument_parser(
        __doc__,
        rounds=5,
        steps=2,
        contestants=("fvfast", "network", "network_eager", "xplique", "horama"),
    )
    networks = [network for network in NETWORKS if network != "identity"]
    parser.add_argument("--networks", nargs="+", choices=networks, default=networks)
    parser.add_argument("--crops", type=int, default=Scene.crops)
    arguments = parser.parse_args()
    for network in arguments.networks:
        scene = Scene(network=network, crops=arguments.crops, threads=arguments.threads)
        measure(scene, arguments, "end_to_end")


if __name__ == "__main__":
    main()
