"""Hooks of OCI hooks directories are really run, by the runtime, at each stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hostkit import Cli
from hostlife import SLEEP, make, started
from longshore import Engine, ExitReason, LongshoreError, OperationTimeout, Status

STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


class Hooks:
    """A hooks directory whose hooks write down their stage and what they were told."""

    def __init__(self, top: Path, rootfs: Path) -> None:
        self.directory = top / "hooks.d"
        self.directory.mkdir()
        self.log = top / "hooks.log"
        self.script = top / "hook"
        # The first word is the stage. What runs in the container's root has only its own files.
        text = f'#!/bin/sh\n{{ echo "$1 ${{MARK-}}"; cat; echo; }} >>{self.log}\n'
        self.script.write_text(text)
        self.script.chmod(0o755)
        inside = rootfs / "hook"
        inside.write_text('#!/bin/sh\n{ echo "$1 ${MARK-}"; cat; echo; } >>/hooks.log\n')
        inside.chmod(0o755)
        self.inside_log = rootfs / "hooks.log"

    def add(self, stage: str, *, name: str = "", fail: str = "", **changes: Any) -> None:
        program = "/hook" if stage == "startContainer" else str(self.script)
        hook = {"path": program, "args": ["hook", stage], "env": [f"MARK={name}"]}
        if fail:
            hook = {"path": "/bin/sh", "args": ["sh", "-c", fail]}
        content = {
            "version": "1.0.0",
            "hook": hook,
            "when": {"always": True},
            "stages": [stage],
            **changes,
        }
        (self.directory / f"{name or stage}.json").write_text(json.dumps(content))

    def ran(self) -> list[tuple[str, dict[str, Any]]]:
        """Return (stage and mark, state) of every hook that has run so far, in order."""
        found = []
        for log in (self.log, self.inside_log):
            lines = log.read_text().split("\n") if log.exists() else []
            head = ""
            body = ""
            for line in lines:
                if not head:
                    head = line.strip()
                    continue
                body += line
                if body.endswith("}"):
                    try:
                        state = json.loads(body)
                    except ValueError:
                        continue
                    found.append((head, state))
                    head = body = ""
                    continue
        return found

    def stages(self) -> list[str]:
        return [head.split()[0] for head, _ in self.ran()]


@pytest.fixture
def hooks(short_tmp: Path, busybox_rootfs: Path) -> Hooks:
    return Hooks(short_tmp, busybox_rootfs)


def with_hooks(dirs: tuple[Path, Path], runtime: str, hooks: Hooks) -> Engine:
    return Engine(root=dirs[0], run_root=dirs[1], runtime=runtime, hooks_dirs=[hooks.directory])


def test_every_stage(
    dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, hooks: Hooks
) -> None:
    engine = with_hooks(dirs, runtime, hooks)
    for stage in STAGES:
        hooks.add(stage)
    box = make(engine, busybox_rootfs, SLEEP, annotations={"a.b": "c"})
    assert hooks.ran() == []
    box.start()
    before = {head.split()[0]: state for head, state in hooks.ran()}
    assert set(before) == set(STAGES) - {"poststop"}
    for stage, state in before.items():
        assert state["id"] == box.id, stage
        assert state["annotations"]["a.b"] == "c"
    # (crun 1.8 says / in later stages, and "created" in poststart)
    assert before["createRuntime"]["bundle"] == box.inspect().bundle_path
    # they are the container's, and not those of a second process in it
    assert box.exec(["true"]).exit.ok
    assert len(hooks.ran()) == 5
    box.stop(timeout=0)  # which returns at its death; what is left is taken away meanwhile
    box.remove()
    after = [(head, state) for head, state in hooks.ran() if head.startswith("poststop")]
    assert len(after) == 1 and after[0][1]["id"] == box.id
    assert after[0][1]["status"] == "stopped"
    # and at each start anew
    box = started(engine, busybox_rootfs, "true")
    box.wait(30)
    box.start()
    box.wait(30)
    box.remove()
    assert hooks.stages().count("poststop") == 3
    assert hooks.stages().count("createRuntime") == 3


@pytest.mark.parametrize("way", ["run", "force", "exits"])
def test_poststop_runs_whatever_way_it_ends(
    dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, hooks: Hooks, way: str
) -> None:
    engine = with_hooks(dirs, runtime, hooks)
    hooks.add("poststop")
    if way == "run":
        assert engine.run(command=["true"], rootfs=busybox_rootfs).exit.ok
    elif way == "force":
        started(engine, busybox_rootfs, SLEEP).remove(force=True)
    else:
        # Nobody waits: conmon's exit command cleans up, in a process that knows of no directory.
        box = started(engine, busybox_rootfs, "true", remove=True)
        plain = Engine(root=dirs[0], run_root=dirs[1])
        assert box.wait(30, condition="removed")
        assert plain.list(all=True) == []
    assert hooks.stages() == ["poststop"]


def test_order_and_conditions(
    dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, hooks: Hooks
) -> None:
    engine = with_hooks(dirs, runtime, hooks)
    for name, when in (
        ("20-command", {"commands": ["^sh$"]}),
        ("10-other-command", {"commands": ["^bash$"]}),
        ("05-annotation", {"annotations": {r"^com\.example\.gpu$": "^yes"}}),
        ("01-binds", {"hasBindMounts": True}),
        ("30-never", {"always": False}),
    ):
        hooks.add("createRuntime", name=name, when=when)

    def marks() -> list[str]:
        found = [head.split()[1] for head, _ in hooks.ran()]
        hooks.log.unlink(missing_ok=True)
        return found

    def run(**options: Any) -> list[str]:
        assert engine.run(command=["sh", "-c", ":"], rootfs=busybox_rootfs, **options).exit.ok
        return marks()

    assert run() == ["20-command"]
    assert run(annotations={"com.example.gpu": "yes please"}) == ["05-annotation", "20-command"]
    assert run(volumes=["/etc:/mnt"]) == ["01-binds", "20-command"]
    assert engine.run(command=["true"], rootfs=busybox_rootfs).exit.ok
    assert marks() == []


@pytest.mark.parametrize("stage", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_is_a_start_that_fails(
    dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, hooks: Hooks, stage: str
) -> None:
    engine = with_hooks(dirs, runtime, hooks)
    hooks.add(stage, fail="echo what went wrong >&2; exit 3")
    box = make(engine, busybox_rootfs, SLEEP)
    with pytest.raises(LongshoreError, match="hook") as caught:
        box.start()
    assert caught.value.exit_code == 125
    found = box.inspect()
    assert found.status is Status.EXITED or found.status is Status.CREATED
    assert found.exits[-1].reason is ExitReason.START_FAILED
    (hooks.directory / f"{stage}.json").unlink()
    box.start()  # nothing is left of it
    box.remove(force=True)


@pytest.mark.parametrize("stage", ["createRuntime", "poststart"])
def test_a_hook_that_hangs_ends_with_the_start(
    dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, hooks: Hooks, stage: str
) -> None:
    settings = with_hooks(dirs, runtime, hooks).settings.replace(create_timeout=2.0)
    engine = Engine(settings=settings, runtime=runtime)
    hooks.add(stage, fail="exec sleep 1000")
    box = make(engine, busybox_rootfs, SLEEP)
    with pytest.raises(OperationTimeout):
        box.start()
    box.remove()  # the leak check would find the hook


def test_hooks_dir_of_the_command_line(cli: Cli, busybox_rootfs: Path, hooks: Hooks) -> None:
    hooks.add("createRuntime")
    weak = hooks.directory.parent / "weak"
    weak.mkdir()
    (weak / "createRuntime.json").write_text("overridden")
    asked = ["run", "--rm", "--rootfs", str(busybox_rootfs), "true"]
    cli("--hooks-dir", str(weak), "--hooks-dir", str(hooks.directory), *asked)
    assert hooks.stages() == ["createRuntime"]
    done = cli("--hooks-dir", str(weak), *asked, code=125)
    assert f"hook {weak}/createRuntime.json is not JSON" in done.stderr
    done = cli("--hooks-dir", "no/such", *asked, code=125)
    assert "no/such is not there" in done.stderr
    assert cli("ps", "-aq").stdout == ""


def test_hooks_dir_of_containers_conf(
    cli: Cli, busybox_rootfs: Path, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks.add("poststop")
    conf = hooks.directory.parent / "containers.conf"
    conf.write_text(f'[engine]\nhooks_dir = ["{hooks.directory}"]\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(conf))
    cli("run", "--rm", "--rootfs", str(busybox_rootfs), "true")
    assert hooks.stages() == ["poststop"]
