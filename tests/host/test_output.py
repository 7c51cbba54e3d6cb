"""bytes_exact: what a container prints arrives, all of it and nothing else; so does its input."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hostlife import make, ready, started
from longshore import Engine

SIZE = 20_000_000


@pytest.fixture(params=[SIZE, pytest.param(100_000_000, marks=pytest.mark.soak)])
def data(request: pytest.FixtureRequest, busybox_rootfs: Path) -> bytes:
    """Random bytes, in the root as /data: every byte, lines of every length, no last newline."""
    data = os.urandom(request.param - 1) + b"\0"
    (busybox_rootfs / "data").write_bytes(data)
    return data


def digest(*chunks: bytes) -> str:
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
    return found.hexdigest()


def test_captured(engine: Engine, busybox_rootfs: Path, data: bytes) -> None:
    result = engine.run(command=["cat", "/data"], rootfs=busybox_rootfs)
    assert (len(result.stdout), result.stderr) == (len(data), b"")
    assert digest(result.stdout) == digest(data)


def test_read_and_followed(engine: Engine, busybox_rootfs: Path, data: bytes) -> None:
    box = make(engine, busybox_rootfs, "cat /data")
    followed: list[bytes] = []
    whole: list[bytes] = []
    box.start()
    output = threading.Thread(target=lambda: whole.extend(d for _, d in box.output()))
    output.start()
    for record in box.logs(follow=True):  # ends by itself
        followed.append(record.data)
    output.join()
    assert digest(*followed) == digest(*whole) == digest(data)
    box.wait(30)
    assert digest(*(record.data for record in box.logs())) == digest(data)


def test_two_streams_keep_apart(engine: Engine, busybox_rootfs: Path) -> None:
    script = "for i in $(seq 500); do echo out $i; echo err $i >&2; done; printf end"
    result = engine.run(command=["sh", "-c", script], rootfs=busybox_rootfs)
    assert result.stdout == b"".join(b"out %d\n" % i for i in range(1, 501)) + b"end"
    assert result.stderr == b"".join(b"err %d\n" % i for i in range(1, 501))


def echo(engine: Engine, rootfs: Path, number: int) -> bool:
    result = engine.run(command=["echo", str(number)], rootfs=rootfs)
    return result.stdout == b"%d\n" % number and result.exit.ok


def test_quick_echos(engine: Engine, busybox_rootfs: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda n: echo(engine, busybox_rootfs, n), range(40)))


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_thousand_quick_echos(engine: Engine, busybox_rootfs: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda n: echo(engine, busybox_rootfs, n), range(1000)))


def test_input(engine: Engine, busybox_rootfs: Path) -> None:
    data = os.urandom(5_000_000)
    result = engine.run(command=["cat"], rootfs=busybox_rootfs, input=data)
    assert digest(result.stdout) == digest(data)
    assert result.exit.ok
    assert engine.run(command=["cat"], rootfs=busybox_rootfs, input=b"").stdout == b""


def test_input_that_nobody_reads(engine: Engine, busybox_rootfs: Path) -> None:
    for script in ("exit 3", "exec <&-; exit 3", "head -c 10 >/dev/null; exit 3"):
        command = ["sh", "-c", script]
        result = engine.run(command=command, rootfs=busybox_rootfs, input=bytes(1_000_000))
        assert result.returncode == 3


def test_input_meets_its_deadline(engine: Engine, busybox_rootfs: Path) -> None:
    command = ["sleep", "1000"]
    result = engine.run(command=command, rootfs=busybox_rootfs, input=bytes(5_000_000), timeout=0.5)
    assert result.exit.reason.value == "timeout"


def test_without_input_there_is_none(engine: Engine, busybox_rootfs: Path) -> None:
    assert engine.run(command=["cat"], rootfs=busybox_rootfs).stdout == b""


def test_following_sees_each_line_at_once(engine: Engine, busybox_rootfs: Path) -> None:
    """Each line is asked for with an input that is only given once the one before was seen."""
    script = "while read x; do echo got $x; done"
    box = started(engine, busybox_rootfs, "echo ready; " + script, interactive=True)
    ready(box)
    reader, writer = os.pipe()
    feeder = threading.Thread(target=box.feed, args=(reader,))
    feeder.start()
    records = box.logs(follow=True)
    assert next(records).data == b"ready\n"
    for number in range(5):
        os.write(writer, b"%d\n" % number)
        assert next(records).data == b"got %d\n" % number
    os.close(writer)
    assert list(records) == []
    feeder.join()
    os.close(reader)
    assert box.wait(30).ok


def test_tail_and_times(engine: Engine, busybox_rootfs: Path) -> None:
    box = started(engine, busybox_rootfs, "for i in 1 2 3 4 5; do echo $i; done; printf 6")
    box.wait(30)
    records = list(box.logs())
    assert [r.data for r in records] == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"6"]
    assert records[-1].partial
    assert list(box.logs(tail=2)) == records[-2:]
    assert list(box.logs(tail=0)) == []
    assert list(box.logs(tail=-1)) == records
    since = records[3].time_ns
    assert list(box.logs(since_ns=since)) == [r for r in records if r.time_ns >= since]
    assert list(box.logs(until_ns=since)) == [r for r in records if r.time_ns <= since]


def test_a_log_goes_on_with_the_next_run(engine: Engine, busybox_rootfs: Path) -> None:
    box = make(engine, busybox_rootfs, "echo $(cat /proc/sys/kernel/random/uuid)")
    for _ in range(2):
        box.start()
        box.wait(30)
    assert len(list(box.logs())) == 2
