"""sd_notify: services of a real systemd whose work is done in a container."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hostkit
from hostlife import await_end, eventually, printed
from longshore import Container, Engine
from longshore.errors import NoSuchContainer

Dirs = tuple[Path, Path]
AS_ROOT = pytest.mark.user("root")
UNITS = Path("/run/systemd/system")
GENERATORS = Path("/run/systemd/system-generators")
GENERATOR = "longshore.cli.generator"
FILES = Path("/run/containers/systemd")
SERVER = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid()) == "1", os.environ
listening = socket.socket(fileno=3)
words = os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"], os.environ["HOSTNAME"]
while True:
    client, _ = listening.accept()
    client.sendall(" ".join(words).encode())
    client.close()
"""
# It says that it is up, is ready when a file tells it, and ends well when it is told to.
SAYS_READY = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("up", flush=True)
with open("/flag") as flag:
    flag.readline()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
    one.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
"""


def systemctl(*words: str, ok: bool = True) -> str:
    done = subprocess.run(
        ["systemctl", *words], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0 or not ok, done.stderr
    return done.stdout.strip()


def show(unit: str, name: str) -> str:
    return systemctl("show", "--value", f"--property={name}", unit)


class Units:
    """Unit files of one test, and how longshore is called in them."""

    def __init__(self, dirs: Dirs, runtime: str) -> None:
        self.argv = [str(Path(sys.executable).with_name("longshore"))]
        self.argv += ["--root", str(dirs[0]), "--runroot", str(dirs[1]), "--runtime", runtime]
        self.program = shlex.join(self.argv)
        self.files: list[Path] = []

    def write(self, name: str, text: str, place: Path = UNITS) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.files.append(place / name)
        self.files[-1].write_text(text)

    def service(self, name: str, *lines: str) -> None:
        """Write a service and let systemd read it."""
        self.write(f"{name}.service", "[Service]\n" + "".join(f"{line}\n" for line in lines))
        systemctl("daemon-reload")

    def generate(self, *words: str) -> str:
        """Install what `generate systemd` prints; return the unit's name."""
        done = subprocess.run(
            [*self.argv, "generate", "systemd", "--files", *words],
            cwd=UNITS, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        path = Path(done.stdout.strip())
        self.files.append(path)
        systemctl("daemon-reload")
        return path.name


@pytest.fixture
def units(dirs: Dirs, runtime: str) -> Iterator[Units]:
    UNITS.mkdir(exist_ok=True)
    found = Units(dirs, runtime)
    yield found
    names = [path.name for path in found.files if path.suffix in (".service", ".socket", ".target")]
    names += [f"{path.stem}.service" for path in found.files if path.suffix == ".container"]
    systemctl("stop", *names, ok=False)
    failed = systemctl("list-units", "--failed", "--plain", "--no-legend")
    for path in found.files:
        path.unlink()
    systemctl("daemon-reload")
    systemctl("reset-failed", *names, ok=False)
    assert not failed
    listing = ("list-units", "--all", "--plain", "--no-legend", "longshore-*.scope")
    eventually(lambda: not systemctl(*listing), 60)  # what conmon calls at the end takes a moment


def monitor(box: Container) -> int:
    pid = box.inspect().monitor_pid
    assert pid is not None
    return pid


# --- sockets ----------------------------------------------------------------------------------

WAYS = {
    "notify": ("Type=notify\nNotifyAccess=all", "run -d --sdnotify=conmon --cgroups=no-conmon"),
    "attached": ("Type=exec", "run"),
}


@AS_ROOT
@pytest.mark.parametrize("way", WAYS)
def test_a_socket_starts_the_container_that_answers(
    units: Units, engine: Engine, short_tmp: Path, way: str
) -> None:
    kind, run = WAYS[way]
    path = short_tmp / "web"
    units.write("lstest.socket", f"[Socket]\nListenStream={path}\nFileDescriptorName=web\n")
    server = short_tmp / "server.py"
    server.write_text(SERVER)
    units.service(
        "lstest",
        kind,
        f"ExecStart={units.program} {run} --rm --replace --name lstest --rootfs /:O "
        f"-v {server}:/server.py /usr/bin/python3 -I -S /server.py",
        f"ExecStop={units.program} stop --ignore lstest",
        f"ExecStopPost={units.program} rm -f --ignore lstest",
        "SuccessExitStatus=143 137",
    )
    systemctl("start", "lstest.socket")

    def ask() -> list[str]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(path))
            return client.recv(100).decode().split()

    assert show("lstest.service", "ActiveState") == "inactive"
    answers = [ask(), ask()]
    box = engine.get("lstest")
    assert answers == [["1", "web", box.id[:12]]] * 2
    eventually(lambda: show("lstest.service", "ActiveState") == "active", 60)
    systemctl("stop", "lstest.service")
    with pytest.raises(NoSuchContainer):
        box.inspect()
    again = ask()  # systemd has kept the socket
    assert again[:2] == ["1", "web"] and again[2] != box.id[:12]
    systemctl("stop", "lstest.socket", "lstest.service")


# --- READY ------------------------------------------------------------------------------------


@pytest.fixture
def waiting(units: Units, short_tmp: Path) -> Path:
    """A service of Type=notify whose program is ready when something is written to this fifo."""
    flag, program = short_tmp / "flag", short_tmp / "program.py"
    os.mkfifo(flag)
    program.write_text(SAYS_READY)
    run = f"{units.program} run -d --rm --replace --name lstest --rootfs /:O"
    units.service(
        "lstest",
        "Type=notify",
        "NotifyAccess=all",
        "Restart=on-failure",
        f"ExecStart={run} -v {flag}:/flag -v {program}:/program.py "
        "/usr/bin/python3 -I -S /program.py",
        f"ExecStop={units.program} stop --ignore lstest",
        f"ExecStopPost={units.program} rm -f --ignore lstest",
    )
    return flag


@AS_ROOT
def test_it_is_active_when_its_program_is_ready(
    units: Units, engine: Engine, waiting: Path
) -> None:
    systemctl("start", "--no-block", "lstest")
    box: list[Container] = []

    def is_up() -> bool:
        with contextlib.suppress(NoSuchContainer):
            box[:] = [engine.get("lstest")]
            return printed(box[0]) == b"up\n"
        return False

    eventually(is_up, 60)
    # the program runs, `run -d` has ended or is about to, and nobody has said READY
    eventually(lambda: show("lstest", "MainPID") == str(monitor(box[0])), 60)
    assert show("lstest", "ActiveState") == "activating"
    waiting.write_text("\n")
    systemctl("start", "lstest")  # waits for the job that is under way
    assert show("lstest", "ActiveState") == "active"
    assert show("lstest", "MainPID") == str(monitor(box[0]))
    systemctl("stop", "lstest")
    assert show("lstest", "Result") == "success"
    assert show("lstest", "ExecMainStatus") == "0"  # its own
    with pytest.raises(NoSuchContainer):
        box[0].inspect()


@AS_ROOT
def test_conmon_is_killed_and_another_container_takes_over(
    units: Units, engine: Engine, waiting: Path
) -> None:
    systemctl("start", "--no-block", "lstest")
    waiting.write_text("\n")
    systemctl("start", "lstest")
    first = engine.get("lstest")
    init = first.inspect().pid
    assert init is not None
    os.kill(monitor(first), signal.SIGKILL)
    await_end(init, 60)  # ExecStopPost ends what conmon has left
    waiting.write_text("\n")
    eventually(lambda: show("lstest", "ActiveState") == "active", 60)
    assert show("lstest", "NRestarts") == "1"
    second = engine.get("lstest")
    assert second.id != first.id
    systemctl("restart", "--no-block", "lstest")
    await_end(monitor(second), 60)
    waiting.write_text("\n")
    eventually(lambda: show("lstest", "ActiveState") == "active", 60)
    assert engine.get("lstest").id != second.id
    systemctl("stop", "lstest")
    assert engine.list(all=True) == []


@AS_ROOT
def test_a_container_s_failure_is_the_service_s(units: Units, engine: Engine) -> None:
    run = f"{units.program} run -d --rm --sdnotify=conmon --rootfs /:O"
    units.service("lstest", "Type=notify", "NotifyAccess=all", f"ExecStart={run} sh -c 'exit 3'")
    systemctl("start", "lstest", ok=False)
    eventually(lambda: show("lstest", "ActiveState") == "failed", 60)
    assert (show("lstest", "Result"), show("lstest", "ExecMainStatus")) == ("exit-code", "3")
    assert engine.list(all=True) == []
    systemctl("reset-failed", "lstest")


@AS_ROOT
def test_a_start_that_fails_is_the_service_s_too(units: Units, engine: Engine) -> None:
    run = f"{units.program} run -d --rm --sdnotify=conmon --rootfs /:O"
    units.service("lstest", "Type=notify", "NotifyAccess=all", f"ExecStart={run} /nosuch")
    systemctl("start", "lstest", ok=False)
    assert show("lstest", "ExecMainStatus") == "127"
    systemctl("reset-failed", "lstest")


# --- generate systemd -------------------------------------------------------------------------


def verified(unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@AS_ROOT
def test_a_unit_of_a_container_that_exists(
    units: Units, engine: Engine, cli: hostkit.Cli, busybox_rootfs: Path
) -> None:
    cli("create", "--name", "lsbox", "--rootfs", str(busybox_rootfs), "sleep", "1000")
    box = engine.get("lsbox")
    unit = units.generate("--name", "--restart-sec", "0", "lsbox")
    assert unit == "container-lsbox.service"
    verified(unit)
    systemctl("start", unit)
    assert show(unit, "MainPID") == str(monitor(box))
    # the program is killed, as for want of memory; then conmon is
    for number, victim in enumerate((box.inspect().pid, None), start=1):
        os.kill(victim or monitor(box), signal.SIGKILL)
        eventually(lambda n=number: show(unit, "NRestarts") == str(n), 60)  # type: ignore[misc]
        eventually(lambda: show(unit, "ActiveState") == "active", 60)
        assert show(unit, "MainPID") == str(monitor(box))
    systemctl("stop", unit)  # sleep as process 1 has to be killed
    assert (show(unit, "ActiveState"), show(unit, "Result")) == ("inactive", "success")
    assert box.inspect().pid is None
    box.remove()


@AS_ROOT
def test_a_unit_that_makes_its_container(
    units: Units, engine: Engine, cli: hostkit.Cli, busybox_rootfs: Path
) -> None:
    said = "100% of $HOME \"and\" 'more'"
    cli("create", "--name", "lsbox", "-e", f"SAID={said}", "--label", "a=b c", "--rootfs",
        str(busybox_rootfs), "sh", "-c", 'echo "$SAID"; exec sleep 1000')  # fmt: skip
    unit = units.generate("--name", "--new", "--restart-sec", "0", "lsbox")
    verified(unit)
    before = engine.get("lsbox").id
    systemctl("start", unit)  # it takes the name over
    box = engine.get("lsbox")
    assert box.id != before
    assert box.inspect().config.labels == {"a": "b c"}
    eventually(lambda: printed(box).decode() == f"{said}\n")
    assert show(unit, "MainPID") == str(monitor(box))
    cgroup = Path(f"/proc/{monitor(box)}/cgroup").read_text()
    assert cgroup.strip().endswith(f"/{unit}")
    os.kill(monitor(box), signal.SIGKILL)
    eventually(lambda: show(unit, "NRestarts") == "1", 60)
    eventually(lambda: show(unit, "ActiveState") == "active", 60)
    assert engine.get("lsbox").id != box.id
    systemctl("stop", unit)
    assert (show(unit, "ActiveState"), show(unit, "Result")) == ("inactive", "success")
    assert engine.list(all=True) == []


# --- Quadlet ----------------------------------------------------------------------------------


@pytest.fixture
def quadlets(units: Units) -> Units:
    """The generator, called by systemd; podman's is not."""
    GENERATORS.mkdir(exist_ok=True)
    peer = GENERATORS / "podman-system-generator"
    peer.symlink_to("/dev/null")
    units.files.append(peer)
    subprocess.run(
        [sys.executable, "-m", GENERATOR, "--install", str(GENERATORS),
         "--program", units.program],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    units.files.append(GENERATORS / "longshore-generator")
    return units


@AS_ROOT
def test_a_file_is_a_service_at_boot(quadlets: Units, engine: Engine, busybox_rootfs: Path) -> None:
    units = quadlets
    units.write("lstest.target", "[Unit]\nDescription=what a boot wants\n")
    units.write("lsbad.container", "[Container]\nRootfs=/srv\nBogus=1\n", FILES)
    units.write(
        "lstest.container",
        "[Unit]\nDescription=a test\n\n"
        f"[Container]\nRootfs={busybox_rootfs}\nExec=sh -c 'echo \"$A $B %N\"; exec sleep 1000'\n"
        'Environment=A=1 "B=two words"\nAddCapability=NET_ADMIN\nReadOnly=yes\n'
        "Volume=./lstest.container.d:/mnt:ro\n\n"
        "[Service]\nRestart=on-failure\nRestartSec=0\n\n[Install]\nWantedBy=lstest.target\n",
        FILES,
    )
    dropin = FILES / "lstest.container.d"
    units.write("10-label.conf", "[Container]\nLabel=from=dropin\n", dropin)
    systemctl("daemon-reload")
    assert show("lsbad.service", "LoadState") == "not-found"
    assert systemctl("is-enabled", "lstest.service") == "generated"
    verified("/run/systemd/generator/lstest.service")
    # what a power cut leaves of the name, and what it would not
    units.write("lstest.cid", "none\n", Path("/run"))
    engine.create(command=["true"], rootfs=busybox_rootfs, name="systemd-lstest")
    systemctl("start", "lstest.target")
    eventually(lambda: show("lstest.service", "ActiveState") == "active", 60)
    box = engine.get("systemd-lstest")
    eventually(lambda: printed(box) == b"1 two words lstest\n", 60)
    config = box.inspect().config
    assert config.labels == {"from": "dropin"}
    assert [(m.source, m.target) for m in config.mounts] == [(str(dropin), "/mnt")]
    assert (config.cap_add, config.read_only) == (("CAP_NET_ADMIN",), True)
    assert show("lstest.service", "MainPID") == str(monitor(box))
    pid = box.inspect().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: show("lstest.service", "NRestarts") == "1", 60)
    eventually(lambda: show("lstest.service", "ActiveState") == "active", 60)
    systemctl("stop", "lstest.service")
    assert show("lstest.service", "Result") == "success"
    assert engine.list(all=True) == []
    (Path("/run") / "lstest.cid").touch()  # for the fixture
    dropin_file = dropin / "10-label.conf"
    assert dropin_file.exists()


@AS_ROOT
def test_podman_s_generator_reads_the_same_files(units: Units) -> None:
    del units
    done = subprocess.run(
        [sys.executable, "-m", GENERATOR, "--install", "/nowhere"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 125
    assert "/podman-system-generator reads the same files" in done.stderr
    assert "ln -s /dev/null /etc/systemd/system-generators/" in done.stderr
    assert not Path("/nowhere").exists()


# --- docs/systemd.md ----------------------------------------------------------------------------


def examples() -> dict[str, str]:
    """Return the files that the page shows, by their paths."""
    page = (hostkit.ROOT / "docs/systemd.md").read_text()
    blocks = re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", page, re.M | re.S)
    return dict(blocks)


@AS_ROOT
def test_the_page_s_socket(units: Units, engine: Engine) -> None:
    shown = examples()
    units.write("web.py", shown["/srv/web.py"], Path("/srv"))
    units.write("web.socket", shown["/etc/systemd/system/web.socket"])
    text = shown["/etc/systemd/system/web.service"]
    assert text.count("/usr/local/bin/longshore") == 3
    units.write("web.service", text.replace("/usr/local/bin/longshore", units.program))
    systemctl("daemon-reload")
    for unit in ("web.socket", "web.service"):
        verified(unit)
    systemctl("start", "web.socket")
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", 8080), 60) as client:
            client.settimeout(60)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.makefile().read().endswith("\nhello from a container\n")
    first = engine.get("web")
    os.kill(monitor(first), signal.SIGKILL)
    eventually(lambda: show("web.service", "NRestarts") == "1", 60)
    eventually(lambda: show("web.service", "ActiveState") == "active", 60)
    assert engine.get("web").id != first.id
    systemctl("stop", "web.socket", "web.service")
    assert show("web.service", "Result") == "success"
    assert engine.list(all=True) == []


@AS_ROOT
def test_the_page_s_file(quadlets: Units, engine: Engine) -> None:
    text = examples()["/etc/containers/systemd/hello.container"]
    quadlets.write("hello.container", text, FILES)
    systemctl("daemon-reload")
    wants = Path("/run/systemd/generator/multi-user.target.wants/hello.service")
    assert wants.is_symlink()
    systemctl("start", "hello")
    box = engine.get("systemd-hello")
    eventually(lambda: printed(box) == b"hello hello\n", 60)
    env = box.inspect().config.env
    assert (env["WHO"], env["GREETING"]) == ("world", "good day")
    systemctl("stop", "hello")
    assert show("hello", "Result") == "success"
    assert engine.list(all=True) == []


# --- a user's own systemd -----------------------------------------------------------------------


@pytest.mark.user("tester")
def test_a_user_s_file_is_a_unit_of_theirs() -> None:
    """Running it comes with running without root."""
    places = [Path.home() / ".config/containers/systemd", Path("/run/systemd/user-generators")]
    installed = places[1] / "longshore-generator"
    peer = places[1] / "podman-user-generator"
    sudo, generator = ["sudo", "--preserve-env=PATH"], [sys.executable, "-m", GENERATOR]
    call = functools.partial(subprocess.run, capture_output=True, text=True, timeout=60)
    places[0].mkdir(parents=True)
    file = places[0] / "lstest.container"
    file.write_text("[Container]\nRootfs=/:O\nExec=true\n[Install]\nWantedBy=default.target\n")
    try:
        call([*sudo, "mkdir", "-p", places[1]], check=True)
        call([*sudo, "ln", "-s", "/dev/null", peer], check=True)
        words = ["--user", "--install", places[1], "--program", "/opt/venv/bin/longshore"]
        call([*sudo, *generator, *words], check=True)
        call(["systemctl", "--user", "daemon-reload"], check=True)
        shown = call(["systemctl", "--user", "cat", "lstest"], check=True).stdout
        assert f"SourcePath={file}\n" in shown
        assert (
            "ExecStart=/opt/venv/bin/longshore run --name systemd-%N --cidfile=%t/%N.cid" in shown
        )
        wants = call(["systemctl", "--user", "show", "-P", "WantedBy", "lstest"], check=True)
        assert wants.stdout == "default.target\n"
        path = f"{os.environ['XDG_RUNTIME_DIR']}/systemd/generator/lstest.service"
        done = call(["systemd-analyze", "--user", "verify", path], check=False)
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        file.unlink()
        call([*sudo, "rm", "-f", installed, peer], check=True)
        call(["systemctl", "--user", "daemon-reload"], check=True)
