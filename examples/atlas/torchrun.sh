#!/bin/bash
# One part of an atlas for each process that torchrun starts, on any number of machines:
#     torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
#         --no-python ./torchrun.sh
# The processes do not talk to each other; torchrun gives them numbers and starts them again.
# To have the batch size measured, run the command once, with --plan-only in place of --shard.

exec fvfast atlas run efficientnet_lite0 --layer _blocks.4 --layer _blocks.10 \
    --out "${ATLAS:-s3://bucket/atlas}" --no-progress \
    --device "${ATLAS_DEVICE:-cuda:${LOCAL_RANK}}" --shard "${RANK}/${WORLD_SIZE}"
