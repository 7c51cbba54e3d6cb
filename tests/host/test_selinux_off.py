"""SELinux costs nothing where it is not active, and what asks for it is taken as by podman."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hostkit import ROOT, needs
from longshore import Engine
from longshore.linux.selinux import SELinux

_WATCHED = """
import json, sys
seen = []
sys.addaudithook(lambda event, args: event in ("open", "import") and seen.append(str(args[0])))
import longshore.cli
code = longshore.cli.main(json.loads(sys.argv[1]))
json.dump({"code": code, "seen": seen}, open(sys.argv[2], "w"))
"""


@pytest.fixture(autouse=True)
def off() -> None:
    needs("a host without SELinux", "it is active", not SELinux().active())


@pytest.mark.parametrize("asked", [(), ("--security-opt", "label=type:spc_t", "-v", "DATA:/d:Z")])
def test_nothing_is_imported_and_nothing_read(
    engine: Engine, busybox_rootfs: Path, short_tmp: Path, runtime: str, asked: tuple[str, ...]
) -> None:
    data = short_tmp / "data"
    data.mkdir()
    words = [word.replace("DATA", str(data)) for word in asked]
    places = ("--root", engine.settings.root, "--runroot", engine.settings.run_root)
    argv = [
        *places,
        "--runtime",
        runtime,
        "run",
        "--rm",
        *words,
        "--rootfs",
        f"{busybox_rootfs}:O",
        "true",
    ]
    answer = short_tmp / "answer"
    done = subprocess.run(
        [sys.executable, "-S", "-c", _WATCHED, json.dumps(argv), answer],
        env={"PATH": "/usr/bin:/usr/sbin:/bin:/sbin", "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    told = "has no SELinux label: SELinux is not active here"
    assert (told in done.stderr) == bool(asked)
    found = json.loads(answer.read_text())
    assert found["code"] == 0
    assert any("config.json" in path for path in found["seen"]), "the hook saw what was opened"
    files = ("/sys/fs/selinux", "/etc/selinux", "/attr/", "lxc_contexts", "containers/selinux")
    modules = ("linux.selinux", "linux/selinux", "confinement", "oci.labels", "store.levels")
    # what is asked for by name is looked at, to be told of
    ours = (*files, *(modules if not asked else ("linux.selinux", "linux/selinux")))
    assert [path for path in found["seen"] if any(word in path for word in ours)] == []
    assert not (Path(engine.settings.root) / "levels").exists()


def test_a_container_has_no_labels(engine: Engine, busybox_rootfs: Path, short_tmp: Path) -> None:
    box = engine.create(
        command=["sleep", "1000"],
        rootfs=busybox_rootfs,
        security_opt=["label=disable", "label=filetype:x_t"],
        volumes=[f"{short_tmp}:/d:z"],
    )
    box.start()
    spec = json.loads(Path(box.inspect().bundle_path, "config.json").read_text())
    assert "selinuxLabel" not in spec["process"]
    assert "mountLabel" not in spec["linux"]
    options = {m["destination"]: m["options"] for m in spec["mounts"]}["/d"]
    assert "z" not in options
    assert box.inspect().process_label == box.inspect().mount_label == ""
    box.remove(force=True)
