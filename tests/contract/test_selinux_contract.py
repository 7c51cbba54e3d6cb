"""What is taken for granted of SELinux: of the stand-in, and of the kernel where it is active.

`make selinux` runs this in a machine where it is.
"""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from longshore.errors import InvalidArgument
from longshore.linux.selinux import Label, SELinux
from peers.selinux import ScriptedSELinux

KINDS = ["scripted", *(["kernel"] if SELinux().active() else [])]


@pytest.fixture(params=KINDS)
def selinux(request: pytest.FixtureRequest, tmp_path: Path) -> SELinux:
    return ScriptedSELinux(tmp_path) if request.param == "scripted" else SELinux()


def _exec_label(selinux: SELinux) -> str:
    return selinux._attribute("thread-self", "exec")


def _label_of_a_child(selinux: SELinux) -> str:
    """Return the label that a program gets which this thread starts now."""
    if isinstance(selinux, ScriptedSELinux):
        path = selinux.attr / "exec"  # what the kernel would look at
        given = subprocess.run(["cat", path], capture_output=True, check=True).stdout
        return given.decode() or selinux.current()
    done = subprocess.run(["cat", "/proc/self/attr/current"], capture_output=True, check=True)
    return done.stdout.rstrip(b"\0\n").decode()


def test_it_is_active(selinux: SELinux) -> None:
    assert selinux.active()


def test_the_own_label_has_parts(selinux: SELinux) -> None:
    label = Label.parse(selinux.current())
    assert str(label) == selinux.current()
    assert label.user and label.role and label.type


def test_level_s0_without_categories(selinux: SELinux) -> None:
    own = Label.parse(selinux.current())
    assert own.level not in ("", "s0"), "the suite has to be run with categories"
    lowered = selinux.without_categories()
    assert lowered == str(own.replace(level="s0"))


def test_a_program_runs_with_the_label_and_it_is_put_back(selinux: SELinux) -> None:
    label = selinux.without_categories()
    before = _exec_label(selinux)
    with selinux.executing_as(label):
        assert _exec_label(selinux) == label
        assert _label_of_a_child(selinux) == label
    assert _exec_label(selinux) == before == ""
    assert _label_of_a_child(selinux) == selinux.current()


def test_it_is_put_back_after_an_error(selinux: SELinux) -> None:
    with (
        pytest.raises(FileNotFoundError),
        selinux.executing_as(selinux.without_categories()),
    ):
        subprocess.run(["/no/such/program"], check=False)
    assert _exec_label(selinux) == ""


def test_an_earlier_label_comes_back(selinux: SELinux) -> None:
    own = selinux.current()
    with selinux.executing_as(own):
        with selinux.executing_as(selinux.without_categories()):
            pass
        assert _exec_label(selinux) == own


def test_other_threads_are_not_touched(selinux: SELinux) -> None:
    if isinstance(selinux, ScriptedSELinux):
        assert selinux._proc  # the kernel's thread-self is a thread's own; a stand-in has one
        return
    inside, done = threading.Event(), threading.Event()
    seen: list[str] = []

    def other() -> None:
        inside.wait(30)
        seen.append(_label_of_a_child(selinux))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with selinux.executing_as(selinux.without_categories()):
        inside.set()
        done.wait(60)
    thread.join()
    assert seen == [selinux.current()]


def test_what_containers_are_to_have(selinux: SELinux) -> None:
    contexts = selinux.container_contexts()
    assert Label.parse(contexts["process"]).level == "s0"
    assert Label.parse(contexts["file"]).role == "object_r"


def test_known_labels(selinux: SELinux) -> None:
    contexts = selinux.container_contexts()
    selinux.check(contexts["process"])
    if not isinstance(selinux, ScriptedSELinux):
        with pytest.raises(InvalidArgument, match="has no label"):
            selinux.check("system_u:system_r:nobody_knows_t:s0")


def test_the_label_of_a_process_that_is_gone(selinux: SELinux) -> None:
    assert selinux.of_process(1 << 23) == ""
