"""Attached to a container: what is seen, from when on, from which source, and until when."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import pytest

from hostlife import eventually, make, printed, ready, started
from longshore import Attachment, Engine, InvalidArgument, ProgramNotFound, Status

KINDS: dict[str, dict[str, object]] = {
    "log": {},
    "no log": {"log_driver": "none"},
    "rotated": {"log_opt": ["max-size=20k"]},
}
kinds = pytest.mark.parametrize("kind", KINDS)


def outputs(attached: Attachment) -> tuple[bytes, bytes]:
    """Read to the end; return both outputs."""
    found = {"stdout": b"", "stderr": b""}
    for stream, data in attached:
        found[stream] += data
    return found["stdout"], found["stderr"]


@kinds
def test_from_the_first_byte_to_the_last(engine: Engine, busybox_rootfs: Path, kind: str) -> None:
    for _ in range(5):
        box = make(engine, busybox_rootfs, "echo out; echo err >&2; exit 3", **KINDS[kind])
        with box.attach(start=True) as attached:
            assert outputs(attached) == (b"out\n", b"err\n")
        assert box.wait(10).code == 3
        box.remove()


@kinds
def test_all_of_much(engine: Engine, busybox_rootfs: Path, kind: str) -> None:
    box = make(engine, busybox_rootfs, "seq 1 300000; seq 5 >&2", **KINDS[kind])
    with box.attended(), box.attach(start=True, when_full="block", buffer=1000) as attached:
        out, err = outputs(attached)
        assert out == b"".join(b"%d\n" % n for n in range(1, 300001))
        assert err == b"1\n2\n3\n4\n5\n"
        assert attached.dropped == 0
        assert box.wait(10).ok


@kinds
def test_a_container_that_is_gone_before_it_is_read(
    engine: Engine, busybox_rootfs: Path, kind: str
) -> None:
    box = make(engine, busybox_rootfs, "echo out", remove=True, **KINDS[kind])
    with box.attach(start=True) as attached:
        box.wait(10, condition="removed")
        assert outputs(attached) == (b"out\n", b"")


@kinds
def test_from_now_on(engine: Engine, busybox_rootfs: Path, kind: str) -> None:
    script = "echo before; read line; echo $line; printf unfinished"
    box = make(engine, busybox_rootfs, script, interactive=True, **KINDS[kind])
    with box.attach(start=True, stdin=True) as first:
        assert next(first) == ("stdout", b"before\n")
        with box.attach(stdin=True) as second:
            first.write(b"after\n")
            assert outputs(second) == (b"after\nunfinished", b"")
        assert outputs(first) == (b"after\nunfinished", b"")
    assert box.wait(10).ok


def test_each_start_shows_its_own(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "cat /proc/sys/kernel/random/uuid; printf end")
    for _ in range(3):
        with box.attach(start=True) as attached:
            seen, _ = outputs(attached)
        assert seen.endswith(b"\nend")
        assert len(seen) == 40
        box.wait(10)
    with box.attach(start=True, logs=True) as attached:
        whole, _ = outputs(attached)
    assert len(whole) == 160
    assert whole == printed(box)


def test_one_stream(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "echo out; echo err >&2")
    with box.attach(start=True, stdout=False) as attached:
        assert outputs(attached) == (b"", b"err\n")
    with box.attach(start=True, stdout=False, stderr=False) as attached:
        assert outputs(attached) == (b"", b"")
    box.wait(10)


@kinds
def test_closing_ends_who_reads(engine: Engine, busybox_rootfs: Path, kind: str) -> None:
    box = make(engine, busybox_rootfs, "echo ready; exec sleep 1000", **KINDS[kind])
    attached = box.attach(start=True)
    assert next(attached) == ("stdout", b"ready\n")
    timer = threading.Timer(0.2, attached.close)
    timer.start()
    began = time.monotonic()
    assert list(attached) == []
    assert time.monotonic() - began < 5
    timer.join()
    attached.close()
    assert list(attached) == []
    with pytest.raises(ValueError, match="closed"):
        attached.write(b"x")
    attached.close_stdin()
    assert box.status is Status.RUNNING
    box.remove(force=True)


def test_a_forgotten_one_warns(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, "exec sleep 1000", log_driver="none")
    with pytest.warns(ResourceWarning, match="unclosed attachment"):
        box.attach()
        gc.collect()
    box.remove(force=True)


@kinds
def test_a_start_that_fails(engine: Engine, busybox_rootfs: Path, kind: str) -> None:
    options = {"rootfs": busybox_rootfs, "interactive": True, **KINDS[kind]}
    box = engine.create(command=["/no/such/program"], **options)  # type: ignore[arg-type]
    with pytest.raises(ProgramNotFound):
        box.attach(start=True, stdin=True)
    assert box.status is Status.CREATED


def test_starting_what_runs_attaches(engine: Engine, busybox_rootfs: Path) -> None:
    box = ready(started(engine, busybox_rootfs, "echo ready; cat", interactive=True))
    with box.attach(start=True, stdin=True) as attached:
        attached.write(b"hello")
        attached.close_stdin()
        assert outputs(attached) == (b"hello", b"")
    assert box.wait(10).ok


def test_what_makes_no_sense(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, "exec sleep 1000", log_driver="none")
    with pytest.raises(InvalidArgument, match="no standard input"):
        box.attach(stdin=True)
    with pytest.raises(InvalidArgument, match="keeps no log"):
        box.attach(logs=True)
    with pytest.raises(InvalidArgument, match="when_full"):
        box.attach(when_full="explode")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="buffer"):
        box.attach(buffer=0)
    box.remove(force=True)


def test_a_reader_is_not_let_where_its_leaving_would_end_the_input(
    engine: Engine, busybox_rootfs: Path
) -> None:
    options = {"interactive": True, "log_driver": "none"}
    box = started(engine, busybox_rootfs, "cat; sleep 1000", **options)
    with pytest.raises(InvalidArgument, match="conmon would end its standard input"):
        box.attach()
    box.remove(force=True)
    script = "until [ -e /go ]; do sleep 0.05; done; echo hi"
    box = started(engine, busybox_rootfs, script, tty=True, **options)
    with box.attach() as attached:
        box.exec(["touch", "/go"])
        assert outputs(attached) == (b"hi\r\n", b"")
    eventually(lambda: box.status is Status.EXITED)
