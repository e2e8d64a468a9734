#!/bin/bash
# One run over two machines with four GPUs each, a process a GPU: sbatch slurm.sh
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue

srun varl train sac --env humanoid --num-envs 4096 --batch-size 2048 --out /shared/runs/humanoid --distributed auto --resume-if-possible

# Taken back by the scheduler: it wrote a checkpoint, and goes on from there.
if [ $? -eq 143 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
