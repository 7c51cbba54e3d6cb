"""``generate systemd``: which command line a unit has, and which cannot be repeated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_standin import inspection

from conftest import Shell
from longshore.cli import generate
from longshore.cli.generate import program

MADE = ("longshore", "--runtime", "runc", "run", "-dit", "--rm", "--name", "box", "-e", "A",
        "-e", "B=2,3", "--cap-add", 'x,"y"', "-v", "/a:/b", "--sdnotify=ignore", "--cidfile=c",
        "--rootfs", "./tree:O", "sh", "-c", "echo $A")  # fmt: skip
OPTIONS = {"create_command": MADE, "rootfs": "/srv/tree", "overlay": True, "env": {"A": "1"}}


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(generate, "program", lambda argv0: ("/bin/longshore",))


def lines(shell: Shell, *words: str) -> list[str]:
    done = shell("generate", "systemd", "--no-header", *words)
    assert (done.code, done.err) == (0, ""), done.err
    return done.out.splitlines()


def started(found: list[str]) -> str:
    """Return the command of ExecStart, on one line."""
    at = next(n for n, line in enumerate(found) if line.startswith("ExecStart="))
    words = [found[at].removeprefix("ExecStart=")]
    while words[-1].endswith("\\"):
        at += 1
        words[-1] = words[-1].removesuffix(" \\")
        words.append(found[at].strip())
    return " ".join(words)


def test_the_command_that_made_it_is_repeated(shell: Shell) -> None:
    shell.engine.found["box"] = inspection("box", tty=True, interactive=True, **OPTIONS)
    assert started(lines(shell, "--new", "box")) == (
        "/bin/longshore --runtime runc run --cidfile=%t/%n.ctr-id --cgroups=no-conmon --rm "
        "--sdnotify=conmon -d --replace --interactive --tty --name box --env A=1 --env B=2,3 "
        '--cap-add x --cap-add y --volume /a:/b --rootfs /srv/tree:O sh -c "echo $$A"'
    )


def test_a_program_that_says_ready_still_does(shell: Shell) -> None:
    made = ("longshore", "create", "--sdnotify=container", "--rootfs", "/srv", "x")
    shell.engine.found["box"] = inspection(
        "box", create_command=made, rootfs="/srv", sdnotify="container"
    )
    command = started(lines(shell, "--new", "box"))
    assert "--sdnotify=container" in command
    assert "--replace" not in command  # its name was made up, and will be again


@pytest.mark.parametrize(
    "made",
    [
        ("longshore", "container", "run", "--rootfs", "t", "--", "-x"),
        ("longshore", "run", "--rootfs", "--", "t", "-x"),
    ],
)
def test_other_ways_to_write_it(shell: Shell, made: tuple[str, ...]) -> None:
    shell.engine.found["box"] = inspection("box", create_command=made, rootfs="/srv")
    assert started(lines(shell, "--new", "box")).endswith("--rootfs /srv -- -x")


@pytest.mark.parametrize(
    "flag",
    [("--env-file", "e"), ("-v", "./a:/b"), ("--init-path", "x"), ("--spec-patch", "p.json")],
)
def test_what_is_relative_to_somewhere(shell: Shell, flag: tuple[str, str]) -> None:
    made = ("longshore", "run", *flag, "--rootfs", "/srv", "x")
    shell.engine.found["box"] = inspection("box", create_command=made, rootfs="/srv")
    done = shell("generate", "systemd", "--new", "box")
    assert done.code == 125
    assert "is relative to where box was made\nhint: make the container with" in done.err


def test_what_cannot_be(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.engine.found["box"] = inspection("box")
    done = shell("generate", "systemd", "--new", "box")
    assert "made by a program" in done.err
    shell.engine.found["box"] = inspection("box", remove=True)
    done = shell("generate", "systemd", "box")
    assert "(--rm), and cannot be started again\nhint: --new" in done.err
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    shell.engine.found["box"] = inspection("box")
    done = shell("generate", "systemd", "box")
    assert "a user's service for container box, whose conmon has a cgroup of its own" in done.err
    shell.engine.found["box"] = inspection("box", cgroups="no-conmon")
    assert shell("generate", "systemd", "box").code == 0
    assert "invalid value" in shell("generate", "systemd", "--restart-policy", "x", "box").err
    assert shell("generate", "systemd", "nosuch").code == 125


def test_a_container_that_exists(shell: Shell) -> None:
    shell.engine.found["box"] = one = inspection("box", stop_timeout=3.0, network="host")
    found = lines(shell, "box")
    assert found[:4] == [
        "[Unit]",
        f"Description=Longshore container-{one.id}.service",
        "Wants=network-online.target",
        "After=network-online.target",
    ]
    assert "RequiresMountsFor=/r /s" in found
    assert f"ExecStart=/bin/longshore start {one.id}" in found
    assert f"PIDFile=/s/containers/{one.id}/conmon.pid" in found
    assert f"ExecStop=/bin/longshore stop -t 3 {one.id}" in found


def test_what_flags_say(shell: Shell) -> None:
    shell.engine.found["box"] = inspection("box")
    found = lines(
        shell, "-n", "-t", "5", "--restart-sec", "2", "--start-timeout", "9", "--restart-policy",
        "always", "--container-prefix", "c", "--separator", "_", "--after", "a", "--after", "b",
        "--wants", "w", "--requires", "r", "-e", "X=1 2", "box",
    )  # fmt: skip
    assert "Description=Longshore c_box.service" in found
    for line in ("After=a b", "Wants=w", "Requires=r", 'Environment="X=1 2"', "Restart=always",
                 "RestartSec=2", "TimeoutStartSec=9", "TimeoutStopSec=65",
                 "ExecStart=/bin/longshore start box"):  # fmt: skip
        assert line in found
    assert "Description=Longshore box.service" in lines(shell, "-n", "--container-prefix=", "box")


def test_global_options_go_along(shell: Shell, tmp_path: Path) -> None:
    shell.engine.found["box"] = inspection("box")
    done = shell("--root", "x", "--runtime", "runc", "--log-level", "debug", "generate", "systemd",
                 "-n", "box")  # fmt: skip
    assert "ExecStart=/bin/longshore --root /r --runtime runc start box\n" in done.out


def test_files(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shell.engine.found["box"] = inspection("box")
    done = shell("generate", "systemd", "-n", "--files", "box")
    path = tmp_path / "container-box.service"
    assert done.out == f"{path}\n"
    text = path.read_text()
    assert text.startswith("# container-box.service\n# made by Longshore ")
    done = shell("generate", "systemd", "-n", "--format", "json", "--no-header", "box")
    assert json.loads(done.out)["container-box"] + "\n" == text.split("\n\n", 1)[1]
    done = shell("generate", "systemd", "-nf", "--format", "json", "box")
    assert json.loads(done.out) == {"container-box": str(path)}
    path.unlink()
    path.mkdir()
    assert "cannot write" in shell("generate", "systemd", "-n", "--files", "box").err


def test_how_this_program_is_called() -> None:
    assert program("/bin/sh") == ("/bin/sh",)
    assert program("sh")[0].endswith("/sh")
    assert program("/x/__main__.py")[1:] == ("-m", "longshore")
