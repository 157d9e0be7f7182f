#!/bin/bash
# One part of an atlas for each task of a Slurm array: sbatch slurm.sh
#SBATCH --job-name=atlas
#SBATCH --array=0-7
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
# A task that is taken away gets SIGTERM, writes its batch, and goes on when it is started again.
#SBATCH --requeue
#SBATCH --signal=TERM@60
# To have the batch size measured, run the command once, with --plan-only in place of --shard.

exec fvfast atlas run efficientnet_lite0 --layer _blocks.4 --layer _blocks.10 \
    --out "${ATLAS:-s3://bucket/atlas}" --no-progress \
    --shard "${SLURM_ARRAY_TASK_ID}/${SLURM_ARRAY_TASK_COUNT}"
