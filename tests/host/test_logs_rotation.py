"""logs_rotation: logs are rotated by size and count, and whoever follows loses nothing."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hostkit import Cli
from hostlife import await_end, eventually, make, ready, started
from longshore import Container, Engine, LogRecord

LINES = 20_000
COUNT = f"i=0; while [ $i -lt {LINES} ]; do echo $i; i=$((i+1)); done"
LIMIT = 64 << 10
SLACK = 128 << 10  # what conmon writes until it hears that it is enough, on a busy machine
OPTIONS = {"max-size": "64k", "max-file": "5"}


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % n for n in range(count))


def data(records: list[LogRecord]) -> bytes:
    assert not any(record.gap for record in records)
    return b"".join(record.data for record in records)


def files_of(box: Container) -> list[Path]:
    home = Path(box.inspect().log_path).parent
    return sorted(home.glob("ctr.log*"))


def lock_of(dirs: tuple[Path, Path]) -> Path:
    return dirs[1] / "supervisor.lock"


def found(dirs: tuple[Path, Path]) -> list[int]:
    """Return the supervisors of a run directory. Looks at no lock: that could send one away."""
    pids = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            argv = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"-S" in argv and str(dirs[1]).encode() in argv and b"-c" in argv[:5]:
            pids.append(int(pid))
    return pids


def supervisor(dirs: tuple[Path, Path]) -> int:
    """Return the pid of the one supervisor, as soon as there is one that is at work."""
    eventually(lambda: [*map(str, found(dirs))] == lock_of(dirs).read_text().split()[:1])
    (pid,) = found(dirs)
    return pid


def gone(dirs: tuple[Path, Path]) -> bool:
    return not found(dirs)


def test_every_line_once_and_in_order(
    engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    box = make(engine, busybox_rootfs, f"echo ready; read x; {COUNT}", log_opt=OPTIONS,
               interactive=True)  # fmt: skip
    box.start()
    assert found(dirs), "it is there before the program begins"
    ready(box)
    thread = threading.Thread(target=box.feed, args=(b"go\n",))
    thread.start()
    seen = [*box.logs(follow=True)]
    thread.join()
    assert data(seen) == b"ready\n" + numbers(LINES)
    assert box.wait(30).ok
    eventually(lambda: gone(dirs), 1.0)
    assert 1 < len(files_of(box)) <= 5
    kept = data([*box.logs()])
    assert (b"ready\n" + numbers(LINES)).endswith(kept)  # all of it, where rotations came late
    assert len(kept) > 4 * LIMIT // 55 * 6
    home = Path(box.inspect().log_path).parent
    box.remove()
    assert not home.exists()


def steady(engine: Engine, rootfs: Path, **log_opt: str) -> Container:
    """Start a container that prints a number every millisecond or so, and much around it."""
    filler = "x" * 200
    script = f"i=0; while [ $i -lt 4000 ]; do echo {filler} $i; i=$((i+1)); usleep 300; done"
    return started(engine, rootfs, script, log_opt=log_opt)


def check_steady(records: list[LogRecord]) -> None:
    lines = data(records).splitlines()
    assert [int(line.split()[1]) for line in lines] == list(range(4000))


def test_a_supervisor_that_is_killed_is_replaced(
    engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    box = steady(engine, busybox_rootfs, **OPTIONS)
    seen: list[LogRecord] = []
    follower = threading.Thread(target=lambda: seen.extend(box.logs(follow=True)))
    follower.start()
    killed = set()
    for _ in range(4):
        before = sum(1 for _ in files_of(box))
        pid = supervisor(dirs)
        os.kill(pid, signal.SIGKILL)
        await_end(pid)
        killed.add(pid)
        next(box.logs(follow=True))  # whoever follows sees to it that there is one
        assert before
        eventually(lambda: not gone(dirs))
    assert len(killed) == 4
    follower.join()
    check_steady(seen)
    assert box.wait(30).ok
    assert 3 <= len(files_of(box)) <= 5
    eventually(lambda: gone(dirs), 1.0)
    box.remove()


def test_a_rotation_that_was_cut_short_is_finished(
    engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    script = "echo one; read x; echo two; read x; echo three; read x"
    box = started(engine, busybox_rootfs, script, interactive=True, log_opt=OPTIONS)
    ready(box)
    log = Path(box.inspect().log_path)
    pid = supervisor(dirs)
    os.kill(pid, signal.SIGKILL)
    await_end(pid)
    old = log.with_name("ctr.log.1")
    log.rename(old)  # and conmon was not told
    reader, writer = os.pipe()
    feeder = threading.Thread(target=box.feed, args=(reader,))
    feeder.start()
    os.write(writer, b"\n")
    eventually(lambda: b"two" in old.read_bytes())
    records = box.logs(follow=True)  # it has the next supervisor made
    assert [next(records).data, next(records).data] == [b"one\n", b"two\n"]
    eventually(log.exists)
    os.write(writer, b"\n")
    assert next(records).data == b"three\n"
    assert b"three" in log.read_bytes() and b"two" not in log.read_bytes()
    os.write(writer, b"\n")
    assert list(records) == []
    os.close(writer)
    feeder.join()
    os.close(reader)
    box.wait(30)
    box.remove()


def test_two_files_are_kept_without_a_count(
    engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    box = steady(engine, busybox_rootfs, **{"max-size": "64k"})
    seen: list[LogRecord] = []
    log = Path(box.inspect().log_path)
    largest = 0
    for record in box.logs(follow=True):
        seen.append(record)
        with contextlib.suppress(FileNotFoundError):  # just now
            largest = max(largest, log.stat().st_size)
    check_steady(seen)
    assert largest < LIMIT + SLACK
    assert box.wait(30).ok
    assert len(files_of(box)) == 2  # the last words may be in the old one
    assert len(data([*box.logs()])) < 2 * (LIMIT + SLACK)
    eventually(lambda: gone(dirs), 1.0)
    box.remove()


def test_one_supervisor_for_all_and_none_afterwards(
    engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    plain = started(engine, busybox_rootfs, "sleep 1000")
    assert gone(dirs) and not lock_of(dirs).exists()
    boxes = [make(engine, busybox_rootfs, "echo ready; sleep 1000", log_opt=OPTIONS)
             for _ in range(6)]  # fmt: skip
    threads = [threading.Thread(target=box.start) for box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pid = supervisor(dirs)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)} == {"/dev/null"}
    assert os.getsid(pid) != os.getsid(0)
    # the monitors', or under systemd a scope of its own
    places = re.compile("/conmon|/longshore-supervisor-")
    eventually(lambda: places.search(Path(f"/proc/{pid}/cgroup").read_text()))
    for box in boxes[1:]:
        box.remove(force=True)
    assert supervisor(dirs) == pid
    boxes[0].stop(0)
    eventually(lambda: gone(dirs), 1.0)
    boxes[0].start()  # and there is another one
    assert supervisor(dirs) != pid
    boxes[0].remove(force=True)
    eventually(lambda: gone(dirs), 1.0)
    plain.remove(force=True)


def test_what_a_reboot_left(engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path) -> None:
    """Stale files, and numbers left out: they are older, and are thrown away first."""
    box = make(engine, busybox_rootfs, COUNT, log_opt=OPTIONS)
    dirs[1].mkdir(exist_ok=True)
    lock_of(dirs).write_text("1 0.0 supervise")
    log = Path(box.inspect().log_path)
    stamp = b"2026-11-23T22:43:52.331253555+00:00 stdout F "
    for name, text in (("ctr.log.7", b"older"), ("ctr.log.2", b"old"), ("ctr.log", b"last")):
        log.with_name(name).write_bytes(stamp + text + b"\n")
    log.with_name("ctr.log.tmp").write_bytes(b"half a line")
    assert data([*box.logs()]) == b"older\nold\nlast\n"
    box.start()
    assert data([*box.logs(follow=True)]).endswith(numbers(LINES))
    assert box.wait(30).ok
    eventually(lambda: gone(dirs), 1.0)
    # how often it was rotated, and what is left of the old ones, depends on how busy the host was
    kept = sorted(path.name for path in log.parent.glob("ctr.log*"))
    assert len(kept) <= int(OPTIONS["max-file"])
    assert b"old\n" in data([*box.logs()]) or "ctr.log.7" not in kept
    box.remove()


def test_a_follower_that_stops_is_not_waited_for_for_ever(
    engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    """Of what it has not read at most 16 MiB are kept for it, and then it is told."""
    script = "echo ready; read x; yes | head -n 800000"  # 37 MB of log
    box = started(engine, busybox_rootfs, script, interactive=True,
                  log_opt={"max-size": "1m", "max-file": "2"})  # fmt: skip
    records = box.logs(follow=True)
    assert next(records).data == b"ready\n"
    box.feed(b"go\n")
    assert box.wait(60).ok
    sizes = sum(path.stat().st_size for path in files_of(box))
    assert sizes < (16 << 20) + 4 * (1 << 20)
    rest = [*records]
    assert sum(r.gap for r in rest) == 1
    assert 0 < sum(r.data == b"y\n" for r in rest) < 800_000
    box.remove()


def test_a_cursor_of_another_process(
    engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    box = steady(engine, busybox_rootfs, **OPTIONS)
    pieces: list[LogRecord] = []
    cursor = ""
    while (left := 4000 - sum(not r.partial for r in pieces)) > 0:
        part = []
        for record in box.logs(follow=left > 500 and len(pieces) % 3 == 0, after=cursor):
            part.append(record)
            if len(part) >= 450:
                break
        pieces += part
        cursor = part[-1].cursor if part else cursor
    check_steady(pieces)
    assert box.wait(30).ok
    assert [*box.logs(after=cursor)] == []
    code = (
        "import sys; from longshore import Engine; root, run, box, after = sys.argv[1:]\n"
        "for r in Engine(root=root, run_root=run).get(box).logs(after=after):\n"
        "    sys.stdout.buffer.write(r.data)"
    )
    argv = [sys.executable, "-c", code, *map(str, dirs), box.id, pieces[-100].cursor]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert done.stdout == data(pieces[-99:])
    first = [*box.logs(after=pieces[0].cursor)]
    assert first[0].gap and first[1:] == [*box.logs()]
    assert [*box.logs(after=pieces[0].cursor, follow=True)][1:] == [*box.logs()]
    box.remove()


def test_logs_of_several_are_followed(
    cli: Cli, engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    script = "i=0; while [ $i -lt 300 ]; do printf '%s ' a b c; echo $i; i=$((i+1)); done"
    boxes = [
        started(engine, busybox_rootfs, f"read x; {script}", name=name, interactive=True,
                log_opt={"max-size": "4k", "max-file": "3"})
        for name in ("one", "two")
    ]  # fmt: skip
    feeders = [threading.Thread(target=box.feed, args=(b"go\n",)) for box in boxes]
    for feeder in feeders:
        feeder.start()
    followed = cli("logs", "-f", "--names", "one", "two").stdout.splitlines()
    for feeder, box in zip(feeders, boxes, strict=True):
        feeder.join()
        assert box.wait(30).ok
        lines = [line for line in followed if line.startswith(f"{box.name} ")]
        numbers = [int(line.split()[-1]) for line in lines]
        assert numbers == list(range(numbers[0], 300))
        assert {line.rpartition(" ")[0] for line in lines} == {f"{box.name} a b c"}
    assert len(followed) == sum(line.startswith(("one ", "two ")) for line in followed)
    eventually(lambda: gone(dirs), 1.0)
    merged = cli("logs", "-t", "one", "two").stdout.splitlines()
    stamps = [line.split()[1] for line in merged]
    assert stamps == sorted(stamps)
    assert {line.split()[0] for line in merged} == {box.id[:12] for box in boxes}
    for box in boxes:
        box.remove()


def test_the_log_of_an_exec_session(
    engine: Engine, dirs: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    box = started(engine, busybox_rootfs, "sleep 1000", log_opt=OPTIONS)
    script = f"while [ ! -e /go ]; do usleep 10000; done; {COUNT}"
    process = box.popen(["sh", "-c", script], detach=True)
    (busybox_rootfs / "go").touch()
    seen = process.stdout.read()
    process.wait(30)
    assert seen == numbers(LINES)
    assert len([*dirs[0].glob("containers/*/execs/*/exec.log*")]) > 2
    box.remove(force=True)
    eventually(lambda: gone(dirs), 1.0)


@pytest.mark.parametrize("lines", [2000, 5001])
def test_what_was_said_last_is_there(engine: Engine, busybox_rootfs: Path, lines: int) -> None:
    """max-file is 1: the log begins anew, and its writer ends, at any moment."""
    script = f"seq 1 {lines}"
    for _ in range(4):
        box = make(engine, busybox_rootfs, script, log_opt={"max-size": "10k"})
        box.start()
        assert box.wait(30).ok
        whole = b"".join(record.data for record in box.logs())
        found = [int(word) for word in whole.partition(b"\n")[2].split()]  # the first may be cut
        assert found == [*range(found[0], lines + 1)]
        box.remove()
