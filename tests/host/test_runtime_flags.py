"""Global flags really reach the runtime, in every call for a container."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostkit import Cli
from hostlife import SLEEP, make
from longshore import Engine

# A runtime that writes down how it is called, and is otherwise the one behind it.
WRAPPER = """#!/bin/sh
echo "$*" >>{log}
exec {runtime} "$@"
"""


@pytest.fixture
def calls(short_tmp: Path, runtime: str) -> tuple[Path, Path]:
    """A runtime that logs its calls, and the log."""
    from hostkit import which

    program, log = short_tmp / "oci", short_tmp / "calls"
    program.write_text(WRAPPER.format(log=log, runtime=which(runtime)))
    program.chmod(0o755)
    return program, log


def test_every_call_has_it(
    dirs: tuple[Path, Path], calls: tuple[Path, Path], busybox_rootfs: Path
) -> None:
    program, log = calls
    engine = Engine(root=dirs[0], run_root=dirs[1], runtime=str(program), runtime_flags=["debug"])
    box = make(engine, busybox_rootfs, SLEEP)
    box.start()
    assert box.exec(["true"]).exit.ok
    # somebody who was not told of it, and conmon's exit command, which knows the record only
    other = Engine(root=dirs[0], run_root=dirs[1])
    other.get(box.id).pause()
    other.get(box.id).unpause()
    other.get(box.id).kill("KILL")
    box.wait(30)
    box.remove()
    lines = [line for line in log.read_text().splitlines() if "--help" not in line]
    assert {"create", "start", "exec", "kill", "delete"} <= {
        word for line in lines for word in line.split()
    }
    assert [line for line in lines if " --debug " not in line] == []


def test_the_command_line_and_containers_conf(
    cli: Cli,
    busybox_rootfs: Path,
    dirs: tuple[Path, Path],
    runtime: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rootfs = ["--rootfs", str(busybox_rootfs), "true"]

    def levels(ref: str) -> set[str]:
        found = next(dirs[1].glob(f"containers/{ref}*/oci.log"))
        return {json.loads(line)["level"] for line in found.read_text().splitlines()}

    made = cli("--runtime-flag", "debug", "create", *rootfs).stdout.strip()
    cli("--runtime-flag", "debug", "start", "-a", made)
    if runtime == "runc":
        assert "debug" in levels(made)
    cli("rm", made)
    done = cli("--runtime-flag", "nosuch=1", "create", *rootfs, code=125)
    assert f"{runtime} has no flag --nosuch" in done.stderr
    done = cli("--runtime-flag", "--debug", "create", *rootfs, code=125)
    assert "hint: without it: debug" in done.stderr
    conf = dirs[0].parent / "containers.conf"
    conf.write_text(f'[engine.runtimes_flags]\n{runtime} = ["debug"]\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(conf))
    made = cli("run", "-d", *rootfs[:-1], "sleep", "1000").stdout.strip()
    if runtime == "runc":
        assert "debug" in levels(made)
    cli("rm", "-f", "-t", "0", made)
    conf.write_text(f'[engine.runtimes_flags]\n{runtime} = ["nosuch"]\n')
    done = cli("create", *rootfs, code=125)
    assert f"{runtime} has no flag --nosuch" in done.stderr
    assert cli("ps", "-aq").stdout == ""
