"""The engine over the runtimes of other Debian releases: a life, and the same errors on all.

The contract suite has what the driver relies on, and the other host tests run over the machine's
own; here is what newer ones have changed before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hostkit import kind_of, needs, other_runtimes, runtime_path
from longshore import Engine
from longshore.errors import ProgramNotExecutable, ProgramNotFound
from longshore.lifecycle import Status
from longshore.models import ExitReason

NAMES = [name for name in other_runtimes() if kind_of(name) != "runsc"]
if not NAMES:
    pytest.skip("there are none that work here", allow_module_level=True)


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest, dirs: tuple[Path, Path]) -> Engine:
    """An Engine with directories of its own, on one of them."""
    return Engine(root=dirs[0], run_root=dirs[1], runtime=runtime_path(request.param))


def spoil(rootfs: Path) -> None:
    """Put programs there that execve(2) refuses."""
    for name, text in (("garbage", "garbage\n"), ("script", "#!/no/such/interpreter\n")):
        (rootfs / name).write_text(text)
        (rootfs / name).chmod(0o755)


def test_a_life(engine: Engine, busybox_rootfs: Path) -> None:
    result = engine.run(command=["sh", "-c", "cat; exit 3"], rootfs=busybox_rootfs, input=b"hi")
    assert (result.stdout, result.exit.code) == (b"hi", 3)
    # the second one gets the finished system call filter of the first
    box = engine.create(command=["sleep", "1000"], rootfs=busybox_rootfs, overlay=True)
    box.start()
    box.pause()
    assert box.inspect().status is Status.PAUSED
    box.unpause()
    assert box.exec(["sh", "-c", "sleep 1000 & sleep 1000"], timeout=0.3).exit.reason is (
        ExitReason.TIMEOUT
    )
    assert len(box.top()) == 1
    box.write_file("/new", b"new")
    assert box.exec(["cat", "/new"]).stdout == b"new"
    assert box.stop(timeout=10).reason is ExitReason.STOP_ESCALATED
    box.remove()


def test_the_same_errors(engine: Engine, busybox_rootfs: Path) -> None:
    spoil(busybox_rootfs)
    for command, kind in (
        ("nope", ProgramNotFound),
        ("/no/such", ProgramNotFound),
        ("/etc", ProgramNotExecutable),
        ("/etc/passwd", ProgramNotExecutable),
    ):
        with pytest.raises(kind, match=command):
            engine.run(command=[command], rootfs=busybox_rootfs)


def test_the_same_errors_of_execs(engine: Engine, busybox_rootfs: Path) -> None:
    spoil(busybox_rootfs)
    box: Any = engine.create(command=["sleep", "1000"], rootfs=busybox_rootfs)
    box.start()
    for command, code in (
        ("nope", 127),
        ("/no/such", 127),
        ("/script", 127),
        ("/etc", 126),
        ("/etc/passwd", 126),
        ("/garbage", 126),
    ):
        with pytest.raises((ProgramNotFound, ProgramNotExecutable)) as caught:
            box.exec([command])
        assert caught.value.exit_code == code, command
    for code in (0, 1, 125, 126, 127, 255):
        assert box.exec(["sh", "-c", f"echo words >&2; exit {code}"]).exit.code == code
    # Under conmon it has begun before execve(2) refuses, which shows at its end.
    for tty in (False, True):
        with pytest.raises(ProgramNotExecutable):
            box.popen(["/garbage"], detach=True, tty=tty).wait()
        assert box.popen(["sh", "-c", "exit 5"], detach=True, tty=tty).wait().code == 5
    box.stop(timeout=0)


def test_limits_of_what_runs(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    needs("memory, cpu and pids", layout, layout == "v1")
    box: Any = engine.create(
        command=["sleep", "1000"], rootfs=busybox_rootfs, memory="64m", pids_limit=100
    )
    box.start()

    def says(controller: str, name: str) -> str:
        return Path(f"/sys/fs/cgroup/{controller}{box.inspect().cgroup_path}/{name}").read_text()

    for memory, cpus, pids in ((100, 0.5, 50), (32, 1.5, 60), (96, 0, -1)):
        box.update(memory=f"{memory}m", cpus=cpus, pids_limit=pids, memory_swappiness=memory)
        box.update(cpu_shares=500 + memory)
        assert int(says("memory", "memory.limit_in_bytes")) == memory << 20
        assert int(says("memory", "memory.memsw.limit_in_bytes")) == memory << 21
        assert int(says("memory", "memory.swappiness")) == memory
        assert int(says("cpu", "cpu.cfs_quota_us")) == (cpus * 100000 or -1)
        assert int(says("cpu", "cpu.shares")) == 500 + memory
        assert says("pids", "pids.max").strip() == (str(pids) if pids > 0 else "max")
    box.stop(timeout=0)
