"""Who draws the shards of an atlas: this process, processes of this machine, or a Ray cluster."""
