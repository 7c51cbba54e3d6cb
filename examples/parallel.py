"""Run untrusted bits of work side by side, each locked away, and see what they used."""

from concurrent.futures import ThreadPoolExecutor

from longshore import Engine, ExitReason, RunResult

WORK = {
    "sums": "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; echo $i",
    "writes": "echo mine > /tmp/file; cat /tmp/file",
    "fails": "echo oh >&2; exit 9",
    "hangs": "sleep 1000",
}

engine = Engine()  # one engine serves any number of threads


def run(script: str) -> RunResult:
    """Run a script with no network, no privileges and a time limit."""
    return engine.run(
        command=["sh", "-c", script],
        rootfs="/",
        overlay=True,
        network="none",
        cap_drop=["all"],
        security_opt=["no-new-privileges"],
        run_timeout=2,
    )


with ThreadPoolExecutor(max_workers=4) as pool:
    for name, result in zip(WORK, pool.map(run, WORK.values()), strict=True):
        used = result.exit.usage.cpu_user
        cpu = "unknown" if used is None else f"{used:.2f} s"
        words = (result.stdout or result.stderr).decode().strip()
        print(f"{name}: {result.exit.reason.value} {result.exit.code}, cpu {cpu}: {words!r}")
        assert (result.exit.reason is ExitReason.TIMEOUT) == (name == "hangs")
