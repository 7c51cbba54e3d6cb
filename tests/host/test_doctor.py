"""doctor: what it says of a runtime is what the runtime does; and runtimes by configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostkit import RUNTIMES, command_line, other_runtimes, runtime_path, runtime_trouble, which
from longshore import Engine
from longshore.engine.host import Finding
from longshore.errors import ProgramNotExecutable, ProgramNotFound


@pytest.fixture
def conf(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only containers.conf; it names what scripts/runtimes has made."""
    path = short_tmp / "containers.conf"
    made = {name: runtime_path(name) for name in other_runtimes()}
    rows = "".join(f'"{name}" = ["{place}"]\n' for name, place in made.items())
    path.write_text(f"[engine.runtimes]\n{rows}")
    monkeypatch.setenv("CONTAINERS_CONF", str(path))
    return path


def findings(dirs: tuple[Path, Path]) -> dict[str, Finding]:
    return {one.name: one for one in Engine(root=dirs[0], run_root=dirs[1]).doctor()}


def test_what_works_is_found_by_trying(conf: Path, dirs: tuple[Path, Path]) -> None:
    del conf
    found = findings(dirs)
    for name in (*filter(which, RUNTIMES), *other_runtimes()):
        flags = ("--network=none", "--overlay2=none") if name.startswith("runsc") else ()
        trouble = runtime_trouble(name, flags)
        one = found[f"runtime {name}"]
        assert one.ok == (not trouble), one
        if trouble:
            assert one.limits[0].what == "containers" and one.limits[0].hint == one.hint
            assert one.limits[0].why in trouble
        assert any(word.startswith("runtime-spec ") for word in one.features)
        sandboxed = "a sandbox" in one.features
        assert sandboxed == name.startswith("runsc")
        assert sandboxed or "a cgroup for an exec" in one.features
        refused = any(limit.what == "update while it runs" for limit in one.limits)
        assert trouble or ("update" in one.features) is not refused, one


def test_the_command(conf: Path, dirs: tuple[Path, Path]) -> None:
    del conf
    cli = command_line(dirs, "runc")
    shown = cli("doctor", code=None)
    assert shown.returncode == int("MISSING" in shown.stdout)
    rows = json.loads(cli("doctor", "--format", "json", code=None).stdout)
    assert shown.returncode == int(any(r["Essential"] and not r["OK"] for r in rows))
    names = {row["Name"] for row in rows}
    assert {
        "kernel", "conmon", "runtime runc", "cgroups", "cgroup controllers", "seccomp profile",
        "criu", "subordinate ids", "security modules",
    } <= names  # fmt: skip
    for row in rows:
        assert row["OK"] or row["Hint"], row
        for limit in row["Limits"]:
            assert limit["What"] and limit["Why"]
            assert limit["What"] in shown.stdout


def test_a_runtime_by_another_name(
    conf: Path, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    """A name of the user's own; nothing that Longshore does depends on it."""
    runc = which("runc")
    conf.write_text(
        f'[engine]\nruntime = "mine"\n[engine.runtimes]\nmine = ["/no/such", "{runc}"]\n'
    )
    engine = Engine(root=dirs[0], run_root=dirs[1])
    box = engine.create(command=["sleep", "1000"], rootfs=busybox_rootfs)
    box.start()
    assert (box.inspect().runtime_name, box.inspect().runtime_path) == ("mine", runc)
    assert box.exec(["sh", "-c", "exit 7"]).exit.code == 7
    with pytest.raises(ProgramNotFound):
        box.exec(["nope"])
    box.stop(timeout=0)
    box.remove()
    assert engine.run(command=["true"], rootfs=busybox_rootfs).exit.ok
    assert findings(dirs)["runtime mine"].ok


def test_a_runtime_that_writes_no_json(
    conf: Path, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    runc = which("runc")
    conf.write_text(
        '[engine]\nruntime = "mine"\nruntime_supports_json = ["crun"]\n'
        f'[engine.runtimes]\nmine = ["{runc}"]\n'
    )
    engine = Engine(root=dirs[0], run_root=dirs[1])
    for command, kind in (("nope", ProgramNotFound), ("/etc", ProgramNotExecutable)):
        with pytest.raises(kind):
            engine.run(command=[command], rootfs=busybox_rootfs)
    box = engine.create(command=["sleep", "1000"], rootfs=busybox_rootfs)
    box.start()
    assert box.exec(["sh", "-c", "exit 7"]).exit.code == 7
    # A known limit, which doctor tells: its failure is not told from its program's.
    assert box.exec(["nope"]).exit.code == 255
    limits = findings(dirs)["runtime mine"].limits
    assert any("runtime_supports_json" in limit.why for limit in limits)
    box.remove(force=True)
