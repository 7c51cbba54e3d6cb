"""A failed start says in which phase that was; it leaves an exit START_FAILED and nothing else."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hostkit
from hostlife import Fatal, in_fork, make
from longshore import Container, Engine, ExitReason, Trace
from longshore.errors import (
    HostUnsupported,
    LongshoreError,
    MonitorGone,
    OperationTimeout,
    ProgramNotExecutable,
    ProgramNotFound,
    RuntimeFailed,
)
from longshore.lifecycle import Status

Dirs = tuple[Path, Path]


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


class Place:
    """What a failing start is made from: directories, a root, a runtime that works."""

    def __init__(self, dirs: Dirs, rootfs: Path, tmp: Path, runtime: str) -> None:
        self.dirs = dirs
        self.rootfs = rootfs
        self.tmp = tmp
        self.runtime = runtime

    def engine(self, **options: Any) -> Engine:
        return Engine(root=self.dirs[0], run_root=self.dirs[1], runtime=self.runtime, **options)

    def wrapped(self, text: str) -> str:
        """Return a runtime that does this first."""
        program = hostkit.which(self.runtime)
        return script(self.tmp / "wrapped", f'{text}\nexec {program} "$@"')


@pytest.fixture
def place(dirs: Dirs, busybox_rootfs: Path, short_tmp: Path, runtime: str) -> Place:
    return Place(dirs, busybox_rootfs, short_tmp, runtime)


def _no_program(place: Place) -> Container:
    return place.engine().create(name="box", command=["nothing"], rootfs=place.rootfs)


def _not_executable(place: Place) -> Container:
    (place.rootfs / "bin/text").write_text("no program")
    return place.engine().create(name="box", command=["/bin/text"], rootfs=place.rootfs)


def _no_source(place: Place) -> Container:
    (place.tmp / "source").touch()
    volumes = [f"{place.tmp / 'source'}:/mnt"]
    box = make(place.engine(), place.rootfs, "true", name="box", volumes=volumes)
    (place.tmp / "source").unlink()
    return box


def _no_root(place: Place) -> Container:
    box = make(place.engine(), place.rootfs, "true", name="box", overlay=True)
    place.rootfs.rename(place.tmp / "moved")
    return box


def _no_user(place: Place) -> Container:
    box = make(place.engine(), place.rootfs, "true", name="box", user="user")
    (place.rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    return box


def _no_conmon(place: Place) -> Container:
    return make(place.engine(conmon="/no/conmon"), place.rootfs, "true", name="box")


def _conmon_is_text(place: Place) -> Container:
    (place.tmp / "text").write_text("no program")
    (place.tmp / "text").chmod(0o755)
    return make(place.engine(conmon=str(place.tmp / "text")), place.rootfs, "true", name="box")


def _conmon_is_silent(place: Place) -> Container:
    conmon = script(place.tmp / "conmon", "echo 'too old' >&2; exit 1")
    return make(place.engine(conmon=conmon), place.rootfs, "true", name="box")


def _runtime_hangs(place: Place) -> Container:
    settings = place.engine().settings.replace(create_timeout=0.3)
    program = place.wrapped('for a; do [ "$a" = create ] && exec sleep 1000; done')
    return make(Engine(settings=settings), place.rootfs, "true", name="box", runtime=program)


def _start_refused(place: Place) -> Container:
    program = place.wrapped('for a; do [ "$a" = start ] && echo shy >&2 && exit 1; done')
    return make(place.engine(), place.rootfs, "true", name="box", runtime=program)


def _no_pidfile(place: Place) -> Container:
    directory = place.tmp / "gone"
    directory.mkdir()
    box = make(place.engine(), place.rootfs, "true", name="box", pidfile=str(directory / "pid"))
    directory.rmdir()
    return box


CREATE, START = "cannot create container box: ", "cannot start container box: "
FAILURES: dict[Callable[[Place], Container], tuple[type[LongshoreError], int, str]] = {
    _no_program: (ProgramNotFound, 127, f"{CREATE}RUNTIME: .*nothing"),
    _not_executable: (ProgramNotExecutable, 126, f"{CREATE}RUNTIME: .*/bin/text"),
    _no_source: (RuntimeFailed, 125, f"{CREATE}RUNTIME: .*source"),
    _no_root: (LongshoreError, 125, f"{CREATE}mounting its root: .*rootfs"),
    _no_user: (LongshoreError, 125, f"{CREATE}building its specification: .*user"),
    _no_conmon: (HostUnsupported, 125, f"{CREATE}finding its programs: .*/no/conmon"),
    _conmon_is_text: (ProgramNotExecutable, 126, f"{CREATE}starting conmon: .*text"),
    _conmon_is_silent: (MonitorGone, 125, f"{CREATE}conmon ended .*too old"),
    _runtime_hangs: (OperationTimeout, 125, rf"{CREATE}it was not created within 0\.3 s"),
    _no_pidfile: (LongshoreError, 125, f"{CREATE}writing its pid files: .*gone"),
    _start_refused: (RuntimeFailed, 125, f"{START}wrapped: shy"),
}


@pytest.mark.parametrize("prepare", FAILURES, ids=lambda prepare: prepare.__name__[1:])
def test_a_failed_start(place: Place, prepare: Callable[[Place], Container]) -> None:
    kind, code, words = FAILURES[prepare]
    if prepare is _conmon_is_text and os.geteuid() != 0:
        # nsenter(1) gives to a shell what the kernel does not execute
        kind, code, words = MonitorGone, 125, f"{CREATE}conmon ended .*text"
    host = hostkit.Host()
    box = prepare(place)
    with pytest.raises(kind, match="^" + words.replace("RUNTIME", place.runtime)) as caught:
        box.start()
    error = caught.value
    assert error.exit_code == code
    left = host.left_after(hostkit.PATIENCE)
    assert not left, left
    found = box.inspect()
    assert (found.status, found.error) == (Status.CREATED, str(error))  # it never ran
    (info,) = found.exits
    assert found.exit == info == box.wait(30)
    assert (info.code, info.reason, info.signal) == (code, ExitReason.START_FAILED, None)
    assert (info.message, info.started_ns) == (str(error), None)
    assert info.finished_ns is not None
    box.remove()  # without force
    assert place.engine().exit_of(box.id) == info


def test_one_that_ran_before_stays_exited(place: Place) -> None:
    program = place.wrapped(f"[ -e {place.tmp}/go ] || {{ echo not now >&2; exit 1; }}")
    box = make(place.engine(), place.rootfs, "exit 3", name="box", runtime=program)
    for go in (False, True, False):
        if go:
            (place.tmp / "go").touch()
            box.start()
            assert box.wait(30).code == 3
            box.cleanup()
        else:
            (place.tmp / "go").unlink(missing_ok=True)
            with pytest.raises(RuntimeFailed, match="not now"):
                box.start()
    found = box.inspect()
    assert found.status is Status.EXITED
    reasons = [info.reason for info in found.exits]
    assert reasons == [ExitReason.START_FAILED, ExitReason.EXITED, ExitReason.START_FAILED]
    assert box.wait(30) == found.exits[-1]
    (place.tmp / "go").touch()
    box.start()
    assert box.wait(30).code == 3
    assert box.inspect().error == ""
    box.remove(force=True)


@pytest.mark.parametrize("phase", ["directories", "root", "runtime create", "runtime start"])
def test_a_start_that_is_cut_short_has_not_failed(
    engine: Engine, busybox_rootfs: Path, phase: str
) -> None:
    class Interrupted(Trace):
        def mark(self, name: str) -> None:
            if name == phase:
                raise KeyboardInterrupt

    host = hostkit.Host()
    box = make(engine, busybox_rootfs, "exec sleep 1000", overlay=True)
    with pytest.raises(KeyboardInterrupt):
        box.start(trace=Interrupted())
    left = host.left_after(hostkit.PATIENCE)
    assert not left, left
    found = box.inspect()
    assert (found.status, found.exits, found.error) == (Status.CREATED, (), "interrupted")
    box.remove()


def test_the_reason_survives_a_taking_back_that_is_cut_short(
    engine: Engine, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longshore.engine import finishing

    box = engine.create(command=["nothing"], rootfs=busybox_rootfs)

    def fail(*_: object) -> None:
        raise LongshoreError("the kernel is busy")

    with monkeypatch.context() as patch:
        patch.setattr(finishing, "demolish", fail)
        with pytest.raises(ProgramNotFound) as caught:
            box.start()
    assert "and cleaning up failed: the kernel is busy" in caught.value.__notes__
    box.cleanup()  # whoever comes next takes it back
    found = box.inspect()
    assert (found.status, found.error) == (Status.CREATED, str(caught.value))
    assert [info.reason for info in found.exits] == [ExitReason.START_FAILED]
    box.remove()


@pytest.mark.root
def test_a_full_disk_does_not_keep_a_start_from_being_taken_back(
    engine: Engine, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longshore.store.records import Locked

    host = hostkit.Host()
    box = make(engine, busybox_rootfs, "exec sleep 1000", name="box", overlay=True)

    class Full(Trace):
        def mark(self, phase: str) -> None:
            if phase == "runtime start":
                monkeypatch.setattr(Locked, "save", refuse)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left") as caught:
        box.start(trace=Full())
    monkeypatch.undo()
    assert len(caught.value.__notes__) == 2
    left = host.left_after(hostkit.PATIENCE)
    assert not left, left
    box.cleanup()
    assert box.inspect().status is Status.CREATED
    box.start()  # needs no repair
    box.remove(force=True)


def test_the_command_line_shows_it(cli: hostkit.Cli, busybox_rootfs: Path, runtime: str) -> None:
    cli("create", "--name", "box", "--rootfs", str(busybox_rootfs), "nothing")
    done = cli("start", "box", code=127)
    assert done.stderr.startswith(f"Error: cannot create container box: {runtime}: ")
    listed = cli("ps", "-a", "--format", "{{.Names}} {{.Status}} {{.ExitCode}}").stdout
    assert listed == "box Created 127\n"
    shown = cli("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "box")
    assert shown.stdout.startswith("created 127 cannot create container box: ")
    reason = cli("inspect", "-f", "{{.State.Exit.Reason}}", "box").stdout
    assert reason == "start_failed\n"
    cli("rm", "box")
    for command, code in (("nothing", 127), ("/etc", 126)):
        for options in ([], ["-d"]):
            cli("run", "--rm", *options, "--rootfs", str(busybox_rootfs), command, code=code)
    assert cli("ps", "-a", "-q").stdout == ""


def test_a_killed_starter_leaves_no_exit(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "true", name="box")
    assert in_fork(lambda: box.start(trace=Fatal(3))) == -signal.SIGKILL
    box.cleanup()
    found = box.inspect()
    assert (found.status, found.exits) == (Status.CREATED, ())
    assert found.error == "its start was interrupted"
    box.remove()
