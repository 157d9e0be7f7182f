"""Forms of a network: which there are, which one a run takes, and how it is run in it."""
