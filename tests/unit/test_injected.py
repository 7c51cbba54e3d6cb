"""What files of the host add: which directories are read when, and how early an error comes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from longshore import Engine, HostUnsupported, InvalidArgument
from longshore.config import Settings
from longshore.engine import injected
from longshore.options import normalize

HOOK = {
    "version": "1.0.0",
    "hook": {"path": "/bin/true"},
    "when": {"commands": ["^/run/longshore-init$"]},
    "stages": ["poststop"],
}
BINDS = {**HOOK, "when": {"hasBindMounts": True}}
DEVICE = {
    "cdiVersion": "0.6.0",
    "kind": "a.b/c",
    "devices": [{"name": "d", "containerEdits": {"env": ["A=1"]}}],
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for part in ("hooks", "cdi"):
        (tmp_path / part).mkdir()
    return Settings(
        root=str(tmp_path / "root"),
        run_root=str(tmp_path / "run"),
        hooks_dirs=(str(tmp_path / "hooks"),),
        cdi_spec_dirs=(str(tmp_path / "cdi"),),
    )


def found(settings: Settings, command: str = "true", **options: Any) -> Any:
    config = normalize(None, ["true"], {"rootfs": "/", **options}, name="box")
    return injected.hooks(settings, config, command=command, annotations={})


def test_the_command_is_what_is_executed(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "hooks/a.json").write_text(json.dumps(HOOK))
    assert found(settings) == {}
    assert found(settings, "/run/longshore-init") == {"poststop": [{"path": "/bin/true"}]}


def test_only_mounts_that_were_asked_for_are_bind_mounts(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "hooks/a.json").write_text(json.dumps(BINDS))
    assert found(settings) == found(settings, tmpfs=["/t"]) == {}
    assert found(settings, volumes=["/etc:/x"]) == {"poststop": [{"path": "/bin/true"}]}


@pytest.mark.parametrize(("uid", "hooks"), [(0, ["1", "2"]), (1000, [])])
def test_the_usual_directories_are_roots(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    hooks: list[str],
) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        hook = {"path": "/bin/true", "args": [name]}
        content = json.dumps({**HOOK, "hook": hook, "when": {"always": True}})
        (tmp_path / name / f"{name}.json").write_text(content)
    usual = (str(tmp_path / "1"), str(tmp_path / "gone"), str(tmp_path / "2"))
    monkeypatch.setattr(injected, "DEFAULT_HOOKS_DIRS", usual)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    chosen = found(settings.replace(hooks_dirs=()))
    assert [hook["args"][0] for hook in chosen.get("poststop", ())] == hooks


def test_they_are_errors_before_anything_is_touched(settings: Settings, tmp_path: Path) -> None:
    engine = Engine(settings=settings)
    asked: dict[str, Any] = {"command": ["true"], "rootfs": "/"}
    with pytest.raises(InvalidArgument, match="no CDI device a"):
        engine.create(**asked, devices=["a.b/c=d"])
    with pytest.raises(InvalidArgument, match="no CDI device nvidia"):
        engine.create(**asked, gpus="all")
    (tmp_path / "hooks/bad.json").write_text("{}")
    with pytest.raises(InvalidArgument, match=r"bad\.json"):
        engine.create(**asked)
    with pytest.raises(InvalidArgument, match="gone is not there"):
        Engine(settings=settings, hooks_dirs=[tmp_path / "gone"]).create(**asked)
    assert not (tmp_path / "root").exists() and not (tmp_path / "run").exists()
    (tmp_path / "hooks/bad.json").unlink()
    (tmp_path / "cdi/a.json").write_text(json.dumps(DEVICE))
    box = engine.create(**asked, devices=["a.b/c=d"])
    assert box.inspect().config.cdi_devices == ("a.b/c=d",)


def test_directories_of_an_engine(settings: Settings, tmp_path: Path) -> None:
    engine = Engine(settings=settings, hooks_dirs=[tmp_path / "x"], cdi_spec_dirs=["y"])
    assert engine.settings.hooks_dirs == (str(tmp_path / "x"),)
    assert engine.settings.cdi_spec_dirs == (str(Path.cwd() / "y"),)


@pytest.mark.parametrize(
    "options", [{"spec_patch": {"linux": {"intelRdt": {"closID": "x"}}}}, {"devices": ["a.b/c=d"]}]
)
def test_intel_rdt_needs_resctrl(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    edits = {"intelRdt": {"closID": "x"}}
    rdt = {**DEVICE, "devices": [{"name": "d", "containerEdits": edits}]}
    (tmp_path / "cdi/a.json").write_text(json.dumps(rdt))
    engine = Engine(settings=settings)
    for there in (False, True):
        monkeypatch.setattr(injected, "_has_resctrl", lambda there=there: there)
        if there:
            engine.create(command=["true"], rootfs="/", **options)
        else:
            with pytest.raises(HostUnsupported, match="intelRdt"):
                engine.create(command=["true"], rootfs="/", **options)


def test_whether_resctrl_is_mounted_is_read_from_the_kernel() -> None:
    assert injected._has_resctrl() is (" - resctrl " in Path("/proc/self/mountinfo").read_text())
