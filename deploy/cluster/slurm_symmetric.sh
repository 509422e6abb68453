#!/usr/bin/env bash
#SBATCH --job-name=qumos
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=2G
#SBATCH --time=12:00:00
#
# As slurm.sh, by `ray symmetric-run`: every node runs the same command, and the search starts on the first one when all are there.
# It takes whole nodes to itself: it refuses nodes on which a Ray runs already, and ends with `ray stop`, which ends every Ray of its user there.
set -euo pipefail

run=${1:?"usage: sbatch slurm_symmetric.sh RUN [options of train]"}
shift
port=${RAY_PORT:-6379}
export PATH="${VENV:-$PWD/.venv}/bin:$PATH" OMP_NUM_THREADS=1
# Nodes of a busy cluster come up minutes apart; the default is 30 seconds.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=${RAY_PATIENCE:-600}
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address | awk '{print $1}')
workers=$((${#nodes[@]} * SLURM_CPUS_PER_TASK))
if [ -e "$run/run.json" ]; then
    command=(resume "$run")
else
    command=(train --out "$run" "$@")
fi
srun --nodes="${#nodes[@]}" --ntasks="${#nodes[@]}" \
    ray symmetric-run --address "$address:$port" --min-nodes "${#nodes[@]}" --num-cpus="$SLURM_CPUS_PER_TASK" \
    --include-dashboard=false --disable-usage-stats -- \
    python -m training "${command[@]}" --address "$address:$port" --workers "$workers"
