"""failed_create: whatever fails, it is said well, nothing is left, and the name is free."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

import hostkit
from hostlife import SLEEP, await_end, eventually, make
from longshore import Engine
from longshore.errors import (
    HostUnsupported,
    InvalidArgument,
    LongshoreError,
    MonitorGone,
    NameInUse,
    OperationTimeout,
    ProgramNotExecutable,
    ProgramNotFound,
    RuntimeFailed,
    StoreError,
)
from longshore.lifecycle import Status
from longshore.linux.mounts import mount, unmount

Dirs = tuple[Path, Path]


def fails(
    engine: Engine, dirs: Dirs, kind: type[LongshoreError], words: str, **options: Any
) -> LongshoreError:
    """Start a container that cannot be started, and run it; see that nothing is left of either."""
    host = hostkit.Host()
    options = {"command": ["true"], **options}
    box = engine.create(name="box", **options)
    with pytest.raises(kind, match=words) as caught:
        box.start()
    left = host.left_after(hostkit.PATIENCE)
    assert not left, left
    found = box.inspect()
    assert (found.status, found.pid, found.error) == (Status.CREATED, None, str(caught.value))
    assert [info.code for info in found.exits] == [caught.value.exit_code]
    box.remove()  # without force
    with pytest.raises(kind, match=words):
        engine.run(name="box", **options)
    assert engine.inspect_all() == []
    eventually(lambda: not hostkit._files(*dirs), hostkit.PATIENCE)
    return caught.value


def test_no_such_command(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    for command in ("/bin/nothing", "nothing"):
        error = fails(
            engine, dirs, ProgramNotFound, command, command=[command], rootfs=busybox_rootfs
        )
        assert error.exit_code == 127
        assert error.hint


def test_not_executable(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    (busybox_rootfs / "bin/text").write_text("no program")
    for command in ("/bin/text", "/etc"):
        error = fails(
            engine, dirs, ProgramNotExecutable, command, command=[command], rootfs=busybox_rootfs
        )
        assert error.exit_code == 126


def test_overlay_is_unmounted(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    fails(
        engine,
        dirs,
        ProgramNotFound,
        "nothing",
        command=["nothing"],
        rootfs=busybox_rootfs,
        overlay=True,
    )


def test_a_mount_that_the_runtime_refuses(
    engine: Engine, busybox_rootfs: Path, dirs: Dirs, short_tmp: Path
) -> None:
    source = short_tmp / "source"
    source.write_text("a file")
    host = hostkit.Host()
    box = make(engine, busybox_rootfs, "true", volumes=[f"{source}:/mnt"], name="box")
    source.unlink()  # it was there when it was checked
    with pytest.raises(RuntimeFailed):
        box.start()
    assert not host.left_after(hostkit.PATIENCE)
    box.remove()
    with pytest.raises(InvalidArgument, match="source"):
        make(engine, busybox_rootfs, "true", volumes=[f"{source}:/mnt"], name="box")
    assert engine.inspect_all() == []


def test_a_root_that_is_gone(engine: Engine, busybox_rootfs: Path) -> None:
    for overlay in (False, True):
        box = make(engine, busybox_rootfs, "true", overlay=overlay)
        moved = busybox_rootfs.rename(busybox_rootfs.with_name("moved"))
        with pytest.raises((LongshoreError, OSError)):
            box.start()
        assert box.inspect().status is Status.CREATED
        moved.rename(busybox_rootfs)
        box.start()
        assert box.wait(30).ok
        box.remove()


def test_name_in_use(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    box = make(engine, busybox_rootfs, "true", name="box")
    before = hostkit._files(*dirs)
    for create in (engine.create, engine.run):
        with pytest.raises(NameInUse, match="'box' is in use") as caught:
            create(command=["true"], rootfs=busybox_rootfs, name="box")
        assert box.id[:12] in str(caught.value)
    assert hostkit._files(*dirs) == before
    box.remove()
    make(engine, busybox_rootfs, "true", name="box")


def test_bad_options_touch_nothing(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    bad: list[dict[str, Any]] = [
        {"name": "-x"},
        {"name": "../x"},
        {"env": {"A": "1\0"}},
        {"memory": "lots"},
        {"cap_add": ["CAP_NONE"]},
        {"stop_signal": "SIGNONE"},
        {"volumes": ["/nowhere/at/all:/mnt"]},
        {"tmpfs": ["relative"]},
        {"network": "container:nobody\0"},
    ]
    for options in bad:
        with pytest.raises(InvalidArgument):
            engine.create(command=["true"], rootfs=busybox_rootfs, **options)
    for rootfs in ("relative", "/nowhere", "/etc/passwd"):
        with pytest.raises(InvalidArgument):
            engine.create(command=["true"], rootfs=rootfs)
    assert not hostkit._files(*dirs)


# --- the programs around a container -----------------------------------------------------------


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_no_such_runtime(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    with pytest.raises(LongshoreError, match="OCI runtime 'none'"):
        make(engine, busybox_rootfs, "true", runtime="none")
    assert engine.inspect_all() == []


def test_the_runtime_went_away(
    engine: Engine, busybox_rootfs: Path, dirs: Dirs, short_tmp: Path, runtime: str
) -> None:
    program = short_tmp / "run-it"
    script(program, f'exec {hostkit.which(runtime)} "$@"')
    box = make(engine, busybox_rootfs, "exec sleep 1000", runtime=str(program))
    program.unlink()
    with pytest.raises(LongshoreError, match="run-it"):
        box.start()
    assert box.inspect().status is Status.CREATED
    script(program, f'exec {hostkit.which(runtime)} "$@"')
    box.start()
    assert box.inspect().runtime_path == str(program)
    program.unlink()
    assert [found.status for found in engine.inspect_all()] == [Status.RUNNING]
    assert box.inspect().pid is not None
    box.remove(force=True)


def test_a_runtime_that_fails(
    engine: Engine, busybox_rootfs: Path, dirs: Dirs, short_tmp: Path
) -> None:
    program = script(short_tmp / "fails", "echo it is broken >&2; exit 3")
    fails(engine, dirs, LongshoreError, "it is broken", rootfs=busybox_rootfs, runtime=program)


def test_a_runtime_that_fails_at_start(
    engine: Engine, busybox_rootfs: Path, dirs: Dirs, short_tmp: Path, runtime: str
) -> None:
    text = 'for a; do [ "$a" = start ] && echo it is shy >&2 && exit 1; done; '
    program = script(short_tmp / "shy", f'{text}exec {hostkit.which(runtime)} "$@"')
    fails(
        engine,
        dirs,
        RuntimeFailed,
        "it is shy",
        rootfs=busybox_rootfs,
        runtime=program,
        overlay=True,
    )


def test_a_runtime_that_hangs(
    dirs: Dirs, busybox_rootfs: Path, short_tmp: Path, runtime: str
) -> None:
    from longshore import config

    settings = config.load(root=str(dirs[0]), run_root=str(dirs[1]))
    engine = Engine(settings=settings.replace(create_timeout=0.3), runtime=runtime)
    text = 'for a; do [ "$a" = create ] && exec sleep 1000; done; '
    program = script(short_tmp / "slow", f'{text}exec {hostkit.which(runtime)} "$@"')
    error = fails(engine, dirs, OperationTimeout, "0.3 s", rootfs=busybox_rootfs, runtime=program)
    assert isinstance(error, TimeoutError)


@pytest.mark.parametrize(
    ("conmon", "kind", "words"),
    [
        ("exit 3", MonitorGone, "said why"),
        ("echo too old >&2; exit 1", MonitorGone, "too old"),
        ("echo nonsense >/proc/self/fd/$_OCI_SYNCPIPE", LongshoreError, "nonsense"),
        ("kill -9 $$", MonitorGone, "said why"),
    ],
)
def test_a_conmon_that_fails(
    conmon: str,
    kind: type[LongshoreError],
    words: str,
    dirs: Dirs,
    busybox_rootfs: Path,
    short_tmp: Path,
    runtime: str,
) -> None:
    program = script(short_tmp / "conmon", conmon)
    engine = Engine(root=dirs[0], run_root=dirs[1], runtime=runtime, conmon=program)
    fails(engine, dirs, kind, words, rootfs=busybox_rootfs, overlay=True)


def test_a_runtime_that_is_none(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    words = "before it had told the container's pid: neither it nor the runtime /bin/true said why"
    error = fails(engine, dirs, MonitorGone, words, rootfs=busybox_rootfs, runtime="/bin/true")
    assert error.hint is not None and "is /bin/true an OCI runtime?" in error.hint
    with pytest.raises(HostUnsupported, match=r"'/etc/passwd'.*found: a file that cannot be exec"):
        engine.create(command=["true"], rootfs=busybox_rootfs, runtime="/etc/passwd")
    with pytest.raises(HostUnsupported, match=r"'/etc'.*found: a directory"):
        engine.create(command=["true"], rootfs=busybox_rootfs, runtime="/etc")


@pytest.mark.root
def test_no_conmon(dirs: Dirs, busybox_rootfs: Path, runtime: str, short_tmp: Path) -> None:
    engine = Engine(root=dirs[0], run_root=dirs[1], runtime=runtime, conmon="/nowhere/conmon")
    error = fails(engine, dirs, LongshoreError, "/nowhere/conmon", rootfs=busybox_rootfs)
    assert "install" in (error.hint or "")
    (short_tmp / "text").write_text("no program")
    os.chmod(short_tmp / "text", 0o755)
    engine = Engine(root=dirs[0], run_root=dirs[1], runtime=runtime, conmon=str(short_tmp / "text"))
    fails(engine, dirs, ProgramNotExecutable, "text", rootfs=busybox_rootfs)


def test_sharing_with_nobody(engine: Engine, busybox_rootfs: Path, dirs: Dirs) -> None:
    from longshore.errors import WrongState

    other = make(engine, busybox_rootfs, "true", name="other")
    box = make(engine, busybox_rootfs, "true", name="box", ipc="container:other")
    with pytest.raises(WrongState, match="other"):
        box.start()
    assert box.inspect().status is Status.CREATED
    box.remove()
    other.remove()


def fill(path: Path) -> None:
    """Take all the room that is left where a file is."""
    with open(path, "ab", 0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


@pytest.mark.root
def test_a_full_disk_can_be_emptied(short_tmp: Path, busybox_rootfs: Path, runtime: str) -> None:
    """Records lie where there is no room left: what fails says so, and `rm -f` makes room."""
    root = short_tmp / "small"
    root.mkdir()
    mount("small", str(root), "tmpfs", 0, "size=512k")
    try:
        engine = Engine(root=root / "root", run_root=short_tmp / "run", runtime=runtime)
        box = make(engine, busybox_rootfs, SLEEP, name="box")
        box.start()
        monitor = box.inspect().monitor_pid
        box.stop(0)
        assert monitor is not None
        await_end(monitor)  # nothing of it makes room any more
        fill(root / "filler")
        with pytest.raises(StoreError, match="No space left"):
            make(engine, busybox_rootfs, SLEEP, name="another")
        fill(root / "filler")
        with pytest.raises(LongshoreError, match="No space left"):
            box.start()
        assert box.status is Status.EXITED
        box.remove(force=True)
        assert engine.list(all=True) == []
    finally:
        unmount(str(root))


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": 3},
        {"input": "text"},
        {"input": 3},
        {"timeout": "soon"},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"spec": 3},
        {"spec": lambda spec: 3},
        {"spec": lambda spec: {**spec, "process": None}},
        {"spec": lambda spec: {**spec, "process": {**spec["process"], "args": "x"}}},
        {"spec": lambda spec: {**spec, "annotations": {"a": object()}}},
        {"spec_patch": {"process": None}},
        {"spec_patch": {"linux": {"cgroupsPath": "/elsewhere"}}},
        {"spec_patch": {"process": {"env": "A=1"}}},
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_anything_is_there(
    engine: Engine, busybox_rootfs: Path, wrong: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"command": ["true"], "rootfs": busybox_rootfs, **wrong}
    with pytest.raises(InvalidArgument):
        engine.run(**options)
    if not {"input", "timeout"} & {*wrong}:
        with pytest.raises(InvalidArgument):
            engine.create(**options)
    assert engine.list(all=True) == []


def test_create_finds_what_only_the_host_knows(engine: Engine, busybox_rootfs: Path) -> None:
    for wrong in (
        {"security_opt": ["apparmor=nosuch"]},
        {"cpuset_cpus": "4000"},
        {"ulimits": ["nofile=1099511627776"]},
        {"user": "nobody-knows"},
        {"devices": ["/dev/nosuch"]},
    ):
        with pytest.raises((InvalidArgument, HostUnsupported)):
            make(engine, busybox_rootfs, "true", **wrong)
    assert engine.list(all=True) == []


@pytest.mark.root
def test_a_slice_is_systemds(engine: Engine, busybox_rootfs: Path) -> None:
    """A path that ends so is a path, whose parent is the caller's; a name alone is no place."""
    with pytest.raises(InvalidArgument, match="systemd slice"):
        make(engine, busybox_rootfs, SLEEP, cgroup_parent="longshore-test.slice",
             cgroup_manager="cgroupfs")  # fmt: skip
    box = make(engine, busybox_rootfs, SLEEP, cgroup_parent="/longshore-test.slice",
               cgroup_manager="cgroupfs")  # fmt: skip
    box.start()
    run = engine._machinery.store.peek(box.id).run
    assert run is not None
    assert run.cgroup == f"/longshore-test.slice/{box.id}"
    machinery = engine._machinery
    box.remove(force=True)
    for hierarchy in machinery.cgroup_layout.hierarchies:
        parent = Path(f"{hierarchy.mount}/longshore-test.slice")
        assert [p for p in parent.iterdir() if p.is_dir()] == []
        parent.rmdir()


def test_lengths_of_time(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "trap 'exit 5' TERM; echo ready; while :; do sleep 1; done")
    box.start()
    for wrong in (-1, float("nan"), float("inf"), "x"):
        for call in (box.stop, box.wait, box.restart):
            with pytest.raises(InvalidArgument):
                call(timeout=wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument):
            box.wait_status(Status.EXITED, timeout=wrong)  # type: ignore[arg-type]
    assert box.status is Status.RUNNING
    box.remove(force=True)
