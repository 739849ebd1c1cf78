#!/usr/bin/env bash
# Training on a TPU slice of Google Cloud, of one host or many, through a queued resource.
#
#   export TPU_NAME=esc50 TPU_ZONE=us-central1-a TPU_TYPE=v5litepod-16
#   launch/tpu.sh create         # asks for it and waits until it is there
#   launch/tpu.sh install        # puts this repository, as committed, on every host
#   JAXSOUND_CACHE=/mnt/cache launch/tpu.sh run --config=configs/a.py --workdir=/mnt/runs/a
#   launch/tpu.sh delete         # it costs until here
#
# TPU_VERSION is the hosts' image, TPU_PYTHON their Python, 3.11 or later, and TPU_SPOT=1 takes
# capacity that may be taken back. The work directory is on storage that every host sees. Where
# `run` ends with status 75 or a host was lost, `run` with the same flags goes on.
set -euo pipefail

METADATA=http://metadata.google.internal/computeMetadata/v1/instance/attributes
usage="usage: TPU_NAME=... TPU_ZONE=... TPU_TYPE=... launch/tpu.sh create|install|run|delete"
name=${TPU_NAME:?$usage}
zone=${TPU_ZONE:?$usage}
what=${1:?$usage}
shift

tpus() {
    gcloud compute tpus "$@" --zone="$zone"
}

on_every_host() {
    tpus tpu-vm ssh "$name" --worker=all --command="$1"
}

create() {
    local state options=(
        --node-id="$name"
        --accelerator-type="${TPU_TYPE:?$usage}"
        --runtime-version="${TPU_VERSION:-v2-alpha-tpuv5-lite}"
    )
    if [ -n "${TPU_SPOT:-}" ]; then
        options+=(--spot)
    fi
    tpus queued-resources create "$name" "${options[@]}"
    while true; do
        state=$(tpus queued-resources describe "$name" --format='value(state.state)')
        echo "$name: $state"
        case "$state" in
            ACTIVE) return ;;
            FAILED | SUSPENDING | SUSPENDED)
                echo "error: $name is $state; see why, then: launch/tpu.sh delete" >&2
                return 1
                ;;
        esac
        sleep "${TPU_POLL_SECONDS:-30}"
    done
}

install() {
    local scratch
    scratch=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder of this call
    trap "rm -rf '$scratch'" EXIT
    git -C "$(dirname "$0")/.." archive --prefix=jaxsound/ --output="$scratch/jaxsound.tar" HEAD
    tpus tpu-vm scp "$scratch/jaxsound.tar" "$name:" --worker=all
    on_every_host "tar -xf jaxsound.tar && cd jaxsound && ${TPU_PYTHON:-python3} -m venv .venv \
&& .venv/bin/pip install --quiet -c constraints.txt -e '.[tpu]'"
}

run() {
    # The three variables of launch/README.md: host 0's address, how many, and the host's own number.
    local addresses
    addresses=$(tpus tpu-vm describe "$name" --format='value(networkEndpoints[].ipAddress)')
    local -a hosts
    IFS=';' read -ra hosts <<<"$addresses"
    local number="curl -sf -H Metadata-Flavor:Google $METADATA/agent-worker-number"
    local environment=("JAXSOUND_COORDINATOR=${hosts[0]}:8476" "JAXSOUND_NUM_PROCESSES=${#hosts[@]}")
    if [ -n "${JAXSOUND_CACHE:-}" ]; then
        environment+=("JAXSOUND_CACHE=$JAXSOUND_CACHE")
    fi
    local command=(env "${environment[@]}" .venv/bin/python -m jaxsound.main "$@")
    on_every_host "cd jaxsound && JAXSOUND_PROCESS_ID=\$($number) && export JAXSOUND_PROCESS_ID \
&& $(printf '%q ' "${command[@]}")"
}

delete() {
    tpus queued-resources delete "$name" --force --quiet
}

case "$what" in
    create | install | run | delete) "$what" "$@" ;;
    *)
        echo "$usage" >&2
        exit 2
        ;;
esac
