#!/bin/bash
# run_benchmarks.sh [--quick] [--sandbox required|disabled]: runs all suites and writes one file,
# results/pyisolate-benchmark-<date>-<time>.txt, with the machine and the versions, to be sent in: it names neither the
# user, the host nor their folders. A suite that fails does not stop the others; the end of the file names it, and the
# exit status is 1. PYTHON names the interpreter; without it .venv's, else python3.
set -uo pipefail
cd "$(dirname "$0")/.."

quick=()
sandbox=required
while [ $# -gt 0 ]; do
    case "$1" in
    --quick) quick=(--quick) ;;
    --sandbox) sandbox=${2:-}; [ $# -gt 1 ] && shift ;;
    *) echo "usage: $0 [--quick] [--sandbox required|disabled]" >&2; exit 2 ;;
    esac
    shift
done

python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
# Not from this folder: its package is not built where PyIsolate was installed by pip install .
if ! "$python" -c 'import sys; del sys.path[0]; import pyisolate, numpy, psutil, tabulate, rich' 2>/dev/null; then
    echo "$python lacks pyisolate or what the suites need; run: make bench, or pip install -e '.[bench]'" >&2
    exit 1
fi

file=results/pyisolate-benchmark-$(date -u +%Y-%m-%d-%H%M%S).txt
mkdir -p results

section() { printf '\n######## %s\n\n' "$1"; }

# suite TITLE SCRIPT ARGUMENT…: runs it; says so if it fails.
failed=()
suite() {
    section "$1: $2 ${*:3}"
    local status=0
    "$python" "benchmarks/$2" --sandbox "$sandbox" "${@:3}" || status=$?
    [ $status -eq 0 ] || { echo "$2: exit status $status"; failed+=("$2"); }
}

# setting NAME FILE: what the system says, if it does.
setting() { [ ! -r "$2" ] || echo "$1: $(cat "$2")"; }

# versions: by their metadata, since an environment that uv made has no pip.
versions() {
    "$python" - pyisolate numpy torch cupy jax psutil nvidia-ml-py uv uvloop <<'END'
import importlib.metadata, sys
for name in sys.argv[1:]:
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        pass
END
}

machine() {
    section Machine
    date -u '+%Y-%m-%d %H:%M UTC'
    uname -srm
    sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null
    lscpu 2>/dev/null | grep -E '^(Model name|Hypervisor|CPU\(s\)|Thread|Core|Socket|L[123]|NUMA node\(s\))'
    free -m 2>/dev/null
    setting "Frequency governor" /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor
    setting "Huge pages of shared memory" /sys/kernel/mm/transparent_hugepage/shmem_enabled
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv 2>/dev/null || echo "no NVIDIA GPU"
    section Versions
    git describe --always --dirty 2>/dev/null
    "$python" --version
    versions
}

run() {
    machine
    suite "Calls" benchmark.py --torch-mode both "${quick[@]}"
    suite "Examples" simple_benchmark.py
    if [ ${#quick[@]} -gt 0 ]; then
        suite "Memory" memory_benchmark.py --counts 1,5,10
        suite "Memory over many calls" memory_flat.py --calls 100000 --large 100
    else
        suite "Memory" memory_benchmark.py
        suite "Memory over many calls" memory_flat.py
    fi
    suite "Idleness" idle.py
    section Result
    if [ ${#failed[@]} -gt 0 ]; then
        echo "Failed: ${failed[*]}"
        return 1
    fi
    echo "All suites have run to their end."
}

# anonymous: without the folders of this user, which are in tracebacks.
anonymous() {
    local folder script=
    for folder in "$PWD" "${HOME:-}"; do
        [ ${#folder} -lt 2 ] || script+="s|$(printf %s "$folder" | sed 's/[][\\.*^$|]/\\&/g')|…|g;"
    done
    sed -u "$script"
}

run 2>&1 | anonymous | tee "$file"
status=$?
echo
echo "Written to $file"
exit $status
