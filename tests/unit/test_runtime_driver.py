"""runtime/driver.py: command lines as plain values, and calls of a scripted runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from longshore.errors import ProgramNotFound, RuntimeFailed
from longshore.runtime import Runtime, RuntimeState
from peers import fake_runtime

RUNC = Runtime("runc", "/usr/sbin/runc", state_dir="/run/runtimes/runc", cache_dir="/no")


def test_global_flags() -> None:
    assert RUNC.global_args() == ("--root", "/run/runtimes/runc")
    assert RUNC.global_args("/b/oci.log") == (
        "--root", "/run/runtimes/runc", "--log-format=json", "--log=/b/oci.log",
    )  # fmt: skip
    flagged = Runtime("x", "/x", state_dir="/s", cache_dir="/no", flags=("--debug", "-v"))
    assert flagged.global_args("/l") == (
        "--root", "/s", "--debug", "-v", "--log-format=json", "--log=/l",
    )  # fmt: skip


def test_verbs() -> None:
    assert RUNC.start_args("abc") == ("start", "abc")
    assert RUNC.state_args("abc") == ("state", "abc")
    assert RUNC.kill_args("abc", 15, everyone=False) == ("kill", "abc", "15")
    assert RUNC.kill_args("abc", 9, everyone=True) == ("kill", "--all", "abc", "9")
    assert RUNC.delete_args("abc", force=False) == ("delete", "abc")
    assert RUNC.delete_args("abc", force=True) == ("delete", "--force", "abc")


def test_exec() -> None:
    assert RUNC.exec_args("abc", ["ls"], cwd="/", pid_file="/p") == (
        "exec", "--cwd=/", "--pid-file=/p", "--tty=false", "abc", "ls",
    )  # fmt: skip
    assert RUNC.exec_args(
        "abc",
        ["sh", "-c", "--user=root"],
        cwd="/w d",
        pid_file="/p",
        tty=True,
        user="1:2",
        no_new_privileges=True,
        capabilities=["CAP_CHOWN", "CAP_KILL"],
        env={"A": "1", "B": "--c=d e", "C": ""},
    ) == (
        "exec", "--cwd=/w d", "--pid-file=/p", "--tty", "--user=1:2", "--no-new-privs",
        "--cap=CAP_CHOWN", "--cap=CAP_KILL", "--env=A=1", "--env=B=--c=d e", "--env=C=",
        "abc", "sh", "-c", "--user=root",
    )  # fmt: skip


def test_an_option_of_exec_that_begins_with_a_dash_stays_a_value() -> None:
    argv = RUNC.exec_args("abc", ["ls"], cwd="-x", pid_file="-p", user="-t", env={"-e": "-v"})
    assert argv[: argv.index("abc")] == (
        "exec", "--cwd=-x", "--pid-file=-p", "--tty=false", "--user=-t", "--env=-e=-v",
    )  # fmt: skip


def test_a_described_process() -> None:
    assert RUNC.process_args("abc", "/f", pid_file="/p") == (
        "exec", "--process=/f", "--pid-file=/p", "abc",
    )  # fmt: skip
    assert RUNC.process_args("abc", "/f", pid_file="-p", cgroup="exec-1", preserve_fds=2) == (
        "exec", "--process=/f", "--pid-file=-p", "--cgroup=exec-1", "--preserve-fds=2", "abc",
    )  # fmt: skip
    assert RUNC.argv(("exec", "abc"), "/log")[-4:] == [
        "--log-format=json", "--log=/log", "exec", "abc",
    ]  # fmt: skip


def test_checkpoint() -> None:
    assert RUNC.checkpoint_args("abc", image_path="/i", work_path="/w") == (
        "checkpoint", "--image-path", "/i", "--work-path", "/w", "abc",
    )  # fmt: skip
    assert RUNC.checkpoint_args(
        "abc", image_path="/i", work_path="/w", leave_running=True, tcp_established=True
    ) == (
        "checkpoint", "--image-path", "/i", "--work-path", "/w", "--leave-running",
        "--tcp-established", "abc",
    )  # fmt: skip


# --- calls, of a runtime that does as it is told -------------------------------------------------


class Fake:
    """A scripted runtime and its driver."""

    def __init__(self, directory: Path, **verbs: dict[str, object]) -> None:
        self.peer = fake_runtime(directory, **verbs)
        self.state = str(directory / "state")
        self.driver = Runtime(
            "faker",
            self.peer.path,
            state_dir=self.state,
            cache_dir=str(directory / "cache"),
            flags=("--debug",),
        )

    @property
    def asked(self) -> list[list[str]]:
        return [entry["argv"] for entry in self.peer.journal() if "argv" in entry]


def _answer(stdout: str = "", stderr: str = "", code: int = 0) -> dict[str, object]:
    return {"stdout": stdout, "stderr": stderr, "exit": code}


def test_calls_say_what_their_values_say(tmp_path: Path) -> None:
    silent = {verb: _answer() for verb in ("start", "kill", "delete", "pause", "resume")}
    fake = Fake(tmp_path, **silent)
    own = ["--root", fake.state, "--debug"]
    fake.driver.start("abc", log="/l")
    fake.driver.kill("abc", 9, everyone=True)
    fake.driver.delete("abc")
    fake.driver.pause("abc")
    fake.driver.resume("abc")
    assert fake.asked == [
        [*own, "--log-format=json", "--log=/l", "start", "abc"],
        [*own, "kill", "--all", "abc", "9"],
        [*own, "delete", "--force", "abc"],
        [*own, "pause", "abc"],
        [*own, "resume", "abc"],
    ]


def test_state(tmp_path: Path) -> None:
    words = '{"ociVersion": "1.0.0", "id": "abc", "pid": 7, "status": "running", "bundle": "/b"}'
    fake = Fake(tmp_path, state=_answer(words))
    assert fake.driver.state("abc") == RuntimeState(status="running", pid=7, bundle="/b")


def test_the_state_of_one_that_has_ended_has_no_pid(tmp_path: Path) -> None:
    fake = Fake(tmp_path, state=_answer('{"status": "stopped"}'))
    assert fake.driver.state("abc") == RuntimeState(status="stopped", pid=0, bundle="")


@pytest.mark.parametrize("words", ["", "[]", "null", "{}", '{"status": "x", "pid": "y"}', "\xff"])
def test_an_answer_that_is_no_state(tmp_path: Path, words: str) -> None:
    fake = Fake(tmp_path, state=_answer(words))
    with pytest.raises(RuntimeFailed, match="its answer is not a state") as caught:
        fake.driver.state("abc")
    assert caught.value.argv[-2:] == ("state", "abc")
    assert caught.value.stdout == words


UNKNOWN = [
    'time="2023-01-01T00:00:00Z" level=error msg="container does not exist"',
    "error opening file `/run/crun/abc/status`: No such file or directory",
    "cannot open directory '/run/crun/abc': No such file or directory",
    "container `abc` does not exist",
]


@pytest.mark.parametrize("words", UNKNOWN)
def test_what_the_runtime_does_not_know(tmp_path: Path, words: str) -> None:
    fake = Fake(tmp_path, state=_answer("", words, 1), delete=_answer("", words, 1))
    assert fake.driver.state("abc") is None
    fake.driver.delete("abc", force=False)


@pytest.mark.parametrize("verb", ["state", "delete", "kill", "pause", "resume"])
def test_a_failure_has_everything_with_it(tmp_path: Path, verb: str) -> None:
    fake = Fake(tmp_path, **{verb: _answer("out", "it is broken", 3)})
    call = getattr(fake.driver, verb)
    with pytest.raises(RuntimeFailed) as caught:
        call("abc", 9) if verb == "kill" else call("abc")
    error = caught.value
    assert str(error) == f"cannot {verb} container abc: faker: it is broken"
    assert error.argv[:2] == (fake.peer.path, "--root")
    assert (error.returncode, error.stdout, error.stderr) == (3, "out", "it is broken")


def test_the_log_is_preferred_to_stderr(tmp_path: Path) -> None:
    fake = Fake(tmp_path, start=_answer("", "something", 1))
    log = tmp_path / "log"
    log.write_text(
        '{"level": "warning", "msg": "well"}\n'
        '{"level": "error", "msg": "executable file `x` not found in $PATH"}\n'
        '{"level": "error", "msg": "and more"}\n'
    )
    with pytest.raises(ProgramNotFound, match="executable file `x` not found") as caught:
        fake.driver.start("abc", log=str(log))
    assert caught.value.stderr == "something"


def test_what_conmon_passes_on(tmp_path: Path) -> None:
    error = RUNC.failed("words", "create", "box", log=str(tmp_path / "none"))
    assert str(error) == "cannot create container box: runc: words"
    denied = "open executable: Permission denied"
    error = RUNC.failed(denied, "create", "box", log=None, program="/bin/x")
    assert str(error) == f"cannot create container box: runc: '/bin/x': {denied}"


def test_a_failed_start_names_the_container_as_asked(tmp_path: Path) -> None:
    fake = Fake(tmp_path, start=_answer("", "no", 1))
    with pytest.raises(RuntimeFailed, match="cannot start container box: faker: no"):
        fake.driver.start("abc", log=str(tmp_path / "log"), subject="box")


@pytest.mark.parametrize(
    ("argv", "is_call"),
    [
        (["PATH", "--root", "/s", "create", "abc"], True),
        (["/usr/bin/env", "-u", "NOTIFY_SOCKET", "PATH", "create", "abc"], True),
        (["PATH", "create", "other"], False),
        (["/other", "create", "abc"], False),
        (["/usr/bin/env", "/other", "create", "abc"], False),
        (["/usr/bin/conmon", "-c", "abc", "-r", "PATH"], False),
        ([], False),
    ],
)
def test_a_call_is_recognized(argv: list[str], is_call: bool) -> None:
    argv = [RUNC.path if word == "PATH" else word for word in argv]
    assert RUNC.is_call(argv, "abc") is is_call


def test_a_runtime_that_is_not_there() -> None:
    gone = Runtime("gone", "/no/such", state_dir="/s", cache_dir="/no")
    with pytest.raises(ProgramNotFound, match="cannot run /no/such"):
        gone.kill("abc", 9)


def test_versions(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    assert isinstance(fake.driver.version(), str)
