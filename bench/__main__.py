"""Measure Longshore beside bare conmon + runtime, podman and docker, in one run.

    python bench [--runtime NAME] [--rounds N] [--quick] [--json FILE] [--only PART…]

Everything is measured in turns (A B C D, A B C D, …), so that a machine that is busy for a while is
busy for all. Figures are medians; ratios are medians of the ratios within a round. The noise of the
machine is measured in the same turns, as a fixed piece of computing and the start of /bin/true.
Nothing here fails because of a time. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
sys.path[:0] = [str(ROOT / "src"), str(BENCH)]
PARTS = ("run", "exec", "startup", "ps", "stop", "output", "waiters")


def is_hybrid() -> bool:
    """Whether this machine mixes both cgroup versions, which crun refuses."""
    kinds = set()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, kind = line.split()[:3]
        if target.startswith("/sys/fs/cgroup"):
            kinds.add(kind)
    return {"cgroup", "cgroup2"} <= kinds


def reenter() -> None:
    """Start again on a test host with plain cgroup v1, if this machine is hybrid."""
    testhost = ROOT / "scripts/testhost"
    if is_hybrid() and testhost.exists():
        words = [sys.executable, *sys.argv]
        os.execv(testhost, [str(testhost), "v1", *words])


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runtime", default="crun", help="name of the OCI runtime (crun)")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each measurement (30)")
    parser.add_argument("--quick", action="store_true", help="5 turns, 20 containers in ps")
    parser.add_argument("--json", type=Path, help="where the figures go (bench/results/TIME.json)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: needs root", file=sys.stderr)
        return 125
    reenter()

    import output
    import waiters
    from contestants import Bench
    from measure import Table, machine

    rounds = 5 if options.quick else options.rounds
    containers = 20 if options.quick else 100
    began = time.time()
    facts = machine(options.runtime)
    tables: list[Table] = []
    with (
        tempfile.TemporaryDirectory(prefix="longshore-bench-") as directory,
        Bench(Path(directory), options.runtime) as bench,
    ):
        facts["peers"] = bench.found
        for key, value in facts.items():
            print(f"{key:10} {value}")
        parts = {
            "run": lambda: bench.run(rounds),
            "exec": lambda: bench.exec(rounds),
            "startup": lambda: bench.startup(rounds),
            "ps": lambda: bench.ps(rounds, containers),
            "stop": lambda: bench.stop(rounds),
            "output": lambda: output.table(bench, max(3, rounds // 3)),
            "waiters": lambda: waiters.table(bench, max(3, rounds // 6)),
        }
        for part in options.only:
            table = parts[part]()
            print(f"\n{table}", flush=True)
            tables.append(table)
    facts["load after"] = os.getloadavg()
    out = options.json or BENCH / "results" / time.strftime("%Y%m%d-%H%M%S.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "began": began,
        "rounds": rounds,
        "machine": facts,
        "tables": [t.data() for t in tables],
    }
    out.write_text(json.dumps(data, indent=1) + "\n")
    print(f"\nfigures: {os.path.relpath(out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
