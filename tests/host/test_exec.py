"""`Container.exec`: a second process to its end, straight through the runtime."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostkit import needs
from hostlife import SLEEP, eventually, ready, started
from longshore import Container, Engine
from longshore.engine import execution, trees
from longshore.errors import (
    ContainerFailed,
    HostUnsupported,
    InvalidArgument,
    NoSuchContainer,
    ProgramNotExecutable,
    ProgramNotFound,
    RuntimeFailed,
    WrongState,
)
from longshore.models import ExitReason, RunResult

MIB = 1 << 20


@pytest.fixture(autouse=True)
def open_root(busybox_rootfs: Path) -> None:
    """Let everybody into the root, not only root."""
    busybox_rootfs.chmod(0o755)


@pytest.fixture
def box(engine: Engine, busybox_rootfs: Path) -> Iterator[Container]:
    container = started(engine, busybox_rootfs, SLEEP, name="box")
    yield container
    container.remove(force=True, missing_ok=True)


def sh(box: Container, script: str, **options: Any) -> RunResult:
    return box.exec(["sh", "-c", script], **options)


def left(box: Container) -> list[str]:
    """What execs have left: their files and their cgroups."""
    machinery = box._machinery
    found = [n for n in os.listdir(machinery.paths(box.id).run) if n.startswith("exec-")]
    run = machinery.store.peek(box.id).run
    assert run is not None
    for hierarchy in machinery.cgroup_layout.hierarchies:
        found += [str(p) for p in Path(f"{hierarchy.mount}{run.cgroup}/container").glob("exec-*")]
    return found


# --- what comes back ---------------------------------------------------------------------------


def test_both_outputs_and_the_exit(box: Container) -> None:
    before = time.time_ns()
    done = sh(box, "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert (done.exit.code, done.exit.reason, done.exit.signal) == (3, ExitReason.EXITED, None)
    assert done.exit.started_ns is not None and done.exit.finished_ns is not None
    assert before <= done.exit.started_ns <= done.exit.finished_ns <= time.time_ns()
    assert not done.truncated
    assert left(box) == []


def test_a_programs_own_code_is_its_own(box: Container) -> None:
    for code in (0, 1, 2, 125, 126, 127, 128, 137, 255):
        done = sh(box, f"exit {code}")
        assert done.exit.code == code
        assert done.stderr == b""


def test_a_signal(box: Container) -> None:
    for number in (15, 9, 6):
        done = sh(box, f"kill -{number} $$")
        assert (done.exit.code, done.exit.signal) == (128 + number, number)
        assert done.exit.reason is ExitReason.SIGNALED


def test_check(box: Container) -> None:
    with pytest.raises(ContainerFailed, match="sh failed \\(exit code 3\\): sorry") as caught:
        sh(box, "echo out; echo sorry >&2; exit 3", check=True)
    result = caught.value.result
    assert (result.stdout, result.stderr, result.exit.code) == (b"out\n", b"sorry\n", 3)
    assert sh(box, "echo fine", check=True).text == "fine\n"


def test_bytes_exact(box: Container) -> None:
    """What is captured is what was written, on both streams at the same time."""
    script = (
        "dd if=/dev/urandom of=/tmp/data bs=1M count=32 2>/dev/null; md5sum /tmp/data;"
        "cat /tmp/data >&2"
    )
    done = sh(box, script)
    assert len(done.stderr) == 32 * MIB
    assert hashlib.md5(done.stderr).hexdigest() == done.text.split()[0]


def test_max_output(box: Container) -> None:
    script = "head -c 300000 /dev/zero; head -c 200000 /dev/zero >&2"
    for limit in (0, 1, 65536, 65537):
        done = sh(box, script, max_output=limit)
        assert (len(done.stdout), len(done.stderr)) == (limit, limit)
        assert (done.stdout_dropped, done.stderr_dropped) == (300000 - limit, 200000 - limit)
        assert done.truncated
        assert done.exit.ok


def test_what_fits_exactly_is_not_truncated(box: Container) -> None:
    done = sh(box, "printf 12345", max_output=5)
    assert (done.stdout, done.stdout_dropped, done.truncated) == (b"12345", 0, False)


# --- stdin -------------------------------------------------------------------------------------


def test_stdin_input(box: Container) -> None:
    data = os.urandom(20 * MIB)
    done = box.exec(["cat"], input=data)
    assert hashlib.md5(done.stdout).digest() == hashlib.md5(data).digest()


def test_stdin_none_is_nothing(box: Container, runtime: str) -> None:
    done = sh(box, "wc -c; readlink /proc/self/fd/0").text.split()
    assert done[0] == "0"
    if runtime == "crun":  # nothing stands in between
        assert done[1] == "/dev/null"


def test_stdin_empty_is_an_end(box: Container) -> None:
    assert box.exec(["wc", "-c"], input=b"").text == "0\n"


def test_stdin_that_nobody_reads(box: Container) -> None:
    began = time.monotonic()
    assert box.exec(["true"], input=b"x" * (20 * MIB)).exit.ok
    assert sh(box, "head -c 5", input=b"y" * (20 * MIB)).text == "yyyyy"
    assert time.monotonic() - began < 10


@pytest.mark.soak
def test_stdin_of_a_gigabyte(box: Container) -> None:
    """Bounded memory: nothing of it is kept but the input itself."""
    data = bytes(1 << 30)
    done = box.exec(["md5sum"], input=data)
    assert done.text.split()[0] == hashlib.md5(data).hexdigest()


# --- who it is ---------------------------------------------------------------------------------


def status(box: Container, **options: Any) -> dict[str, str]:
    """Return /proc/self/status as seen inside."""
    text = box.exec(["cat", "/proc/self/status"], **options).text
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }


@pytest.mark.root
def test_as_the_container_itself(engine: Engine, busybox_rootfs: Path, runtime: str) -> None:
    box = started(
        engine, busybox_rootfs, f"echo ready; {SLEEP}", user="user", workdir="/tmp",
        env={"A": "1"}, umask="027", cap_drop=["CHOWN"], group_add=["2000"],
        security_opt=["no-new-privileges"],
    )  # fmt: skip
    ready(box)
    pid = box.inspect().pid
    own = {
        key: value.strip()
        for key, _, value in (
            line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
    }
    seen = status(box)
    if runtime == "runc":
        # runc 1.1 does not apply process.user.umask to an exec: to be taken out when it does
        assert seen.pop("Umask") != own.pop("Umask")
        own["Umask"] = seen["Umask"] = ""
    same = ("Uid", "Gid", "Groups", "Umask", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    for key in (*same, "NoNewPrivs", "Seccomp"):
        assert seen[key] == own[key], key
    assert box.exec(["pwd"]).text == "/tmp\n"
    inside = box.exec(["env"]).text.splitlines()
    outside = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    assert set(outside) - set(inside) <= {"PWD=/tmp", "SHLVL=1"}  # of its shell
    assert set(inside) <= set(outside)
    box.remove(force=True)


def test_another_user(box: Container) -> None:
    seen = status(box, user="user")
    assert seen["Uid"].split() == ["1000"] * 4
    assert seen["Groups"].split() == ["1000", "2000"]
    assert seen["CapEff"] == seen["CapAmb"] == "0" * 16
    assert box.exec(["sh", "-c", "echo $HOME"], user="user").text == "/home\n"
    assert box.exec(["sh", "-c", "echo $HOME"], user="user", env={"HOME": "/x"}).text == "/x\n"
    assert status(box, user="7:9")["Gid"].split() == ["9"] * 4
    with pytest.raises(
        InvalidArgument, match="there is no 'nobody' in the container's /etc/passwd"
    ):
        box.exec(["true"], user="nobody")


def test_a_user_of_files_that_were_made_later(box: Container) -> None:
    sh(box, "echo late:x:4711:0::/late:/bin/sh >> /etc/passwd")
    assert box.exec(["id", "-u"], user="late").text == "4711\n"


def test_env(box: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_ME", "mine")
    done = box.exec(["sh", "-c", 'echo "$A|$FROM_ME|$container"'], env=["A=a b", "FROM_ME"])
    assert done.text == "a b|mine|longshore\n"


def test_workdir(box: Container) -> None:
    assert box.exec(["pwd"], workdir="/var/tmp").text == "/var/tmp\n"


def test_capabilities(box: Container) -> None:
    plain = status(box)
    added = status(box, cap_add=["NET_ADMIN"])
    bit = 1 << 12
    assert not int(plain["CapEff"], 16) & bit
    assert int(added["CapEff"], 16) == int(plain["CapEff"], 16) | bit
    user = status(box, user="user", cap_add=["NET_ADMIN"])
    assert int(user["CapEff"], 16) == int(user["CapAmb"], 16) == bit
    own = next(
        line.split()[1]
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapBnd")
    )
    assert status(box, privileged=True)["CapEff"] == own
    assert status(box, no_new_privileges=True)["NoNewPrivs"] == "1"


def test_a_capability_that_cannot_be_had(box: Container) -> None:
    missing = int(status(box, privileged=True)["CapBnd"], 16)
    needs("a process without CAP_SYS_RESOURCE", hex(missing), not missing & 1 << 24)
    with pytest.raises(HostUnsupported, match="CAP_SYS_RESOURCE"):
        box.exec(["true"], cap_add=["SYS_RESOURCE"])


def test_preserve_fds(box: Container) -> None:
    """The caller's descriptors are 3, 4, … inside, and no other is there."""
    reader, writer = os.pipe()
    other = os.open("/dev/null", os.O_RDONLY)
    try:
        done = sh(box, "echo through >&4; ls /proc/self/fd", preserve_fds=[other, writer])
        assert os.read(reader, 100) == b"through\n"
        # 5 is ls's own, of the directory
        assert done.text.split() == ["0", "1", "2", "3", "4", "5"]
    finally:
        for fd in (reader, writer, other):
            os.close(fd)


# --- error_matrix ------------------------------------------------------------------------------


def not_programs(rootfs: Path) -> None:
    for name, text, mode in (
        ("plain", "hi\n", 0o644),
        ("text", "hi\n", 0o755),
        ("script", "#!/no/such/interpreter\n", 0o755),
    ):
        (rootfs / name).write_text(text)
        (rootfs / name).chmod(mode)
    (rootfs / "foreign").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xff\xff" + bytes(100))
    (rootfs / "foreign").chmod(0o755)


NOT_FOUND = ("nope", "/no/such", "./nope", "/script")
NOT_EXECUTABLE = ("/plain", "/etc", "/text", "/foreign")


@pytest.mark.parametrize("way", ["exec", "popen"])
def test_error_matrix_of_programs(engine: Engine, busybox_rootfs: Path, way: str) -> None:
    not_programs(busybox_rootfs)
    box = started(engine, busybox_rootfs, SLEEP, name="box")
    for command in (*NOT_FOUND, *NOT_EXECUTABLE):
        kind = ProgramNotFound if command in NOT_FOUND else ProgramNotExecutable
        with pytest.raises(kind, match=r"cannot run a process in container box: .*") as caught:
            if way == "exec":
                box.exec([command])
            else:
                with box.popen([command]) as process:
                    assert process.stderr is not None and process.stdout is not None
                    assert process.stderr.read() == b""
                    assert process.stdout.read() == b""
        assert type(caught.value) is kind, command
        assert caught.value.exit_code == (127 if command in NOT_FOUND else 126)
        assert command.lstrip("./") in str(caught.value)
        assert caught.value.hint
    assert left(box) == []
    box.remove(force=True)


@pytest.mark.root
def test_error_matrix_without_permission(engine: Engine, busybox_rootfs: Path) -> None:
    (busybox_rootfs / "secret").mkdir(mode=0o700)
    (busybox_rootfs / "secret/program").write_text("#!/bin/sh\n")
    (busybox_rootfs / "secret/program").chmod(0o755)
    box = started(engine, busybox_rootfs, SLEEP)
    with pytest.raises(ProgramNotExecutable):
        box.exec(["/secret/program"], user="user")
    box.remove(force=True)


def test_error_matrix_of_too_many_words(box: Container) -> None:
    """The kernel's own limit for one argument is 128 KiB."""
    with pytest.raises(RuntimeFailed, match=r"(?i)argument list too long") as caught:
        box.exec(["true", "x" * 140_000])
    assert type(caught.value) is RuntimeFailed
    assert "standard input" in (caught.value.hint or "")


def test_error_matrix_of_a_directory(box: Container) -> None:
    for workdir in ("/no/such", "/etc/passwd"):
        with pytest.raises(RuntimeFailed) as caught:
            box.exec(["true"], workdir=workdir)
        assert type(caught.value) is RuntimeFailed
        assert caught.value.hint == "the working directory is looked up inside the container"


def test_what_a_program_says_is_not_taken_for_a_failure(box: Container) -> None:
    for words in ("exec /bin/sh: exec format error", "exec /bin/true: x"):
        done = sh(box, f"echo '{words}' >&2; exit 1")
        assert (done.exit.code, done.stderr) == (1, f"{words}\n".encode())
        with box.popen(["sh", "-c", f"echo '{words}' >&2; exit 1"]) as process:
            assert process.stderr is not None
            assert process.stderr.read() == f"{words}\n".encode()
        assert process.returncode == 1
    done = sh(box, """echo '{"level":"error","msg":"no"}' >&2; exit 255""")
    assert done.exit.code == 255


def test_paused(box: Container) -> None:
    box.pause()
    began = time.monotonic()
    with pytest.raises(WrongState, match="cannot exec container box: it is paused") as caught:
        box.exec(["true"])
    assert time.monotonic() - began < 0.5
    assert "unpause" in (caught.value.hint or "")
    with pytest.raises(WrongState):
        box.popen(["true"])
    box.unpause()
    assert box.exec(["true"]).exit.ok


def test_what_does_not_run(engine: Engine, busybox_rootfs: Path) -> None:
    box = engine.create(command=["true"], rootfs=busybox_rootfs)
    with pytest.raises(WrongState, match="it is created"):
        box.exec(["true"])
    box.start()
    box.wait()
    with pytest.raises(WrongState, match=r"it is (stopped|exited)"):
        box.exec(["true"])
    box.remove(force=True)
    with pytest.raises(NoSuchContainer):
        box.exec(["true"])


def test_wrong_options(box: Container) -> None:
    with pytest.raises(InvalidArgument, match="is one text"):
        box.exec("ls -l")
    with pytest.raises(InvalidArgument, match="'usr' is not an option of exec") as caught:
        box.exec(["true"], usr="root")  # type: ignore[call-arg]
    assert "user" in (caught.value.hint or "")
    with pytest.raises(InvalidArgument, match="not bytes"):
        box.exec(["cat"], input="text")  # type: ignore[arg-type]


# --- what it used ------------------------------------------------------------------------------


def test_usage_after_exit_of_a_short_exec(box: Container, layout: str) -> None:
    usage = box.exec(["true"]).exit.usage
    assert usage.cpu_user is not None and usage.cpu_system is not None
    assert 0 < usage.cpu_user + usage.cpu_system < 1
    if layout == "v1":
        assert usage.memory_peak
        assert usage.pids_peak is None or usage.pids_peak >= 1


def test_usage_after_exit_is_that_of_the_exec_alone(box: Container, layout: str) -> None:
    burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    one = sh(box, burn).exit.usage
    two = sh(box, f"{burn}; {burn}; ({burn})").exit.usage
    idle = sh(box, "true").exit.usage
    times = [(u.cpu_user or 0) + (u.cpu_system or 0) for u in (idle, one, two)]
    assert times[0] < times[1] / 2
    assert 1.5 < times[2] / times[1] < 6
    if layout == "v1":
        memory = sh(box, "head -c 50000000 /dev/zero | tail >/dev/null").exit.usage.memory_peak
        assert memory is not None and memory > 45_000_000


def test_oom_in_an_exec(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if layout == "v2" and "memory" not in controllers.read_text().split():
        with pytest.raises(HostUnsupported, match="memory"):
            started(engine, busybox_rootfs, SLEEP, memory="48m")
        return  # the controllers are in the v1 tree of the machine below
    box = started(engine, busybox_rootfs, SLEEP, memory="48m")
    done = box.exec(["sh", "-c", "echo so far; exec tail /dev/zero"])
    assert done.exit.reason is ExitReason.OOM_KILLED
    assert (done.exit.oom_killed, done.exit.code, done.stdout) == (True, 137, b"so far\n")
    other = box.exec(["sh", "-c", "kill -9 $$"])
    assert (other.exit.reason, other.exit.oom_killed) == (ExitReason.SIGNALED, False)
    assert box.exec(["true"]).exit.ok
    box.remove(force=True)


# --- what it leaves ----------------------------------------------------------------------------


def test_leftovers_are_the_containers_and_hold_nobody_up(box: Container) -> None:
    began = time.monotonic()
    done = sh(box, "sleep 300 & echo begun; exit 4")
    assert time.monotonic() - began < 3
    assert (done.stdout, done.exit.code, done.exit.reason) == (b"begun\n", 4, ExitReason.EXITED)
    assert left(box) == []
    assert "sleep 300" in box.exec(["ps"]).text


def test_leftovers_that_print_for_ever(box: Container) -> None:
    began = time.monotonic()
    done = sh(box, "(while :; do echo more; done) & echo begun >&2; sleep 0.2; exit 0")
    assert time.monotonic() - began < 5
    assert done.exit.ok
    assert done.stderr == b"begun\n"


def test_output_at_the_end_is_whole_with_leftovers(box: Container) -> None:
    """What was written before the end has all come, though the pipes do not end."""
    done = sh(box, "sleep 300 & head -c 1000000 /dev/zero; echo last")
    assert len(done.stdout) == 1000005
    assert done.stdout.endswith(b"\0last\n")


@pytest.mark.parametrize("end", ["stop", "kill", "remove", "init"])
def test_the_container_ends_under_an_exec(engine: Engine, busybox_rootfs: Path, end: str) -> None:
    box = started(engine, busybox_rootfs, "trap 'exit 0' TERM; while :; do sleep 0.05; done")
    with box.popen(["sh", "-c", "echo ready; sleep 1000"]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if end == "stop":
            box.stop(5)
        elif end == "remove":
            box.remove(force=True)
        elif end == "kill":
            box.kill("KILL")
        else:
            pid = box.inspect().pid
            assert pid is not None
            os.kill(pid, 9)
        info = process.wait(10)
    assert (info.code, info.reason, info.message) == (137, ExitReason.KILLED, "its container ended")
    box.remove(force=True, missing_ok=True)


def test_the_flag_of_the_runtime_is_asked_for_once(box: Container, dirs: tuple[Path, Path]) -> None:
    from longshore.runtime import features

    features._known.clear()
    box.exec(["true"])
    kept = list((dirs[1] / "cache/filters").glob("flag-*"))
    assert len(kept) == 1
    features._known.clear()
    stamp = kept[0].stat().st_mtime_ns
    assert box.exec(["true"]).exit.ok
    assert kept[0].stat().st_mtime_ns == stamp


def test_execs_are_side_by_side(box: Container) -> None:
    """No exec waits for another, and no lock is held while one runs."""
    with box.popen(["sleep", "300"]) as slow:
        assert box.exec(["true"], timeout=10).exit.ok
        box.rename("other")
        assert slow.poll() is None
        slow.kill()
    eventually(lambda: left(box) == [])


def test_stdin_of_a_program_that_ends_while_others_hold_it(box: Container) -> None:
    """What is larger than the pipe is being written when the program ends."""
    script = "sleep 1000 <&0 >/dev/null 2>&1 & read x; exit 3"
    with box.popen(["sh", "-c", script], stdin=True) as process:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        with pytest.raises(BrokenPipeError):
            process.stdin.write(bytes(1 << 20))
        process.stdin.close()
        assert process.wait(30).code == 3


class _Place:
    """A placement that waits until a shell is at the gate, and is then interrupted."""

    def place_monitor(self, pid: int, name: str) -> str:
        del name
        eventually(Path(f"/proc/{pid}/task/{pid}/children").read_text)  # flock(1)
        raise KeyboardInterrupt


def own_children() -> set[str]:
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for one in lists for pid in one.read_text().split()}


@pytest.mark.parametrize("fails", ["spawn", "placing"])
def test_a_gate_that_nobody_comes_through(box: Container, fails: str) -> None:
    """Who is interrupted while systemd moves the runtime leaves none that goes on."""
    gates: list[trees.Gate] = []

    def of(machinery: object, record: object, tree: trees.Tree) -> trees.Gate:
        del machinery, record
        gates.append(trees.Gate(_Place(), tree))  # type: ignore[arg-type]
        return gates[-1]

    def spawn(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before, children = set(os.listdir("/proc/self/fd")), own_children()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trees.Gate, "of", of)
        if fails == "spawn":
            patch.setattr(execution, "spawn", spawn)
            patch.setattr(execution, "spawn_numbered", spawn)
        box.popen(["sh", "-c", f"touch /begun; {SLEEP}"])
    (gate,) = gates
    assert set(os.listdir("/proc/self/fd")) == before
    assert own_children() <= children  # reaped
    Path(gate._path).unlink(missing_ok=True)  # a user's goes with its exec; root has none
    assert left(box) == []
    assert box.exec(["test", "-e", "/begun"]).exit.code == 1
