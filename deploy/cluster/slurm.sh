#!/usr/bin/env bash
#SBATCH --job-name=qumos
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=2G
#SBATCH --time=12:00:00
# The first signal lets the search end in its own way, with what it has found.
#SBATCH --signal=B:TERM@600
#
# A search on the nodes of a Slurm job: `sbatch deploy/cluster/slurm.sh RUN [options of train]`, from the checkout, which all nodes see.
# Given once more with the same RUN it goes on with that run, on however many nodes. See docs/cluster.md.
set -euo pipefail

run=${1:?"usage: sbatch slurm.sh RUN [options of train]"}
shift
port=${RAY_PORT:-6379}
patience=${RAY_PATIENCE:-300}
export PATH="${VENV:-$PWD/.venv}/bin:$PATH" OMP_NUM_THREADS=1

# Only who has the token gets anything run on these nodes; the environment is the owner's alone.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
steps=()
cleanup() {
    for step in "${steps[@]}"; do kill "$step" 2>/dev/null || true; done
}
trap cleanup EXIT

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --node-ip-address="$address" --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" \
    --include-dashboard=false --disable-usage-stats --block &
steps+=($!)
until (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; do
    ((patience-- > 0)) || { echo "error: Ray does not start on $head" >&2; exit 2; }
    sleep 1
done
if ((${#nodes[@]} > 1)); then
    rest=$(IFS=,; echo "${nodes[*]:1}")
    srun --overlap --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) --nodelist="$rest" \
        ray start --address="$address:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats --block &
    steps+=($!)
fi

workers=$((${#nodes[@]} * SLURM_CPUS_PER_TASK))
if [ -e "$run/run.json" ]; then
    command=(resume "$run")
else
    command=(train --out "$run" "$@")
fi
# Workers that find no room yet wait for their nodes; nothing has to wait for all of these.
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    python -m training "${command[@]}" --address "$address:$port" --workers "$workers" &
search=$!
trap 'kill -TERM "$search"' TERM
code=0
wait "$search" || code=$?
# A signal ends the first wait; the search then ends in its own time.
if kill -0 "$search" 2>/dev/null; then
    code=0
    wait "$search" || code=$?
fi
exit "$code"
