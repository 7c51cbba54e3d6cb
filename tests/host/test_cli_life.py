"""The command line, end to end: every verb and flag by what it does in a container or on the host.

Flags that do not disturb each other share one container; what they mean in detail is tested below
the command line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import hostkit
from hostkit import ROOT, Cli, needs, which
from hostlife import await_end, eventually
from longshore.options.parse import CAPABILITIES

SECCOMP = ROOT / "tests/data/containers-common/seccomp.json"
TRAPS = (
    "trap 'echo usr1' USR1; trap 'exit 9' USR2; trap 'exit 5' TERM; echo ready; "
    "while :; do sleep 0.02; done"
)


def inside(cli: Cli, rootfs: Path, script: str, *flags: str, **options: Any) -> list[str]:
    """Run a script in a container and return the lines that it prints."""
    argv = ["run", "--rm", *flags, "--rootfs", str(rootfs), "sh", "-c", script]
    done = cli(*argv, **options)
    assert done.stderr == "", done.stderr
    return done.stdout.splitlines()


def inspect(cli: Cli, ref: str) -> Any:
    return json.loads(cli("inspect", ref).stdout)[0]


def detached(cli: Cli, rootfs: Path, script: str, *flags: str) -> str:
    """Start a container, wait until it says that it is ready, and return its id."""
    argv = ["run", "-d", *flags, "--rootfs", str(rootfs), "sh", "-c", script]
    ident = cli(*argv).stdout.strip()
    eventually(lambda: "ready" in cli("logs", ident).stdout)
    return ident


def names(cli: Cli, *flags: str) -> list[str]:
    return cli("ps", "--format", "{{.Names}}", *flags).stdout.split()


# --- run: what the process gets --------------------------------------------------------------


def test_the_process(
    cli: Cli, busybox_rootfs: Path, short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHERITED", "from the caller")
    monkeypatch.setenv("SECRET", "of the caller")
    env_file = short_tmp / "env"
    env_file.write_text("# a comment\nFROM_FILE=in a file\nGIVEN=not this\n")
    busybox_rootfs.chmod(0o755)
    found = inside(
        cli,
        busybox_rootfs,
        "echo $GIVEN,$INHERITED,$FROM_FILE,$SECRET; pwd; id -u; id -g; id -G; hostname; umask;"
        "ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj /proc/1/comm; echo $0",
        *("-e", "GIVEN=1", "--env", "INHERITED", "--env-file", str(env_file)),
        *("-w", "/var/tmp", "-u", "1000:2000", "--group-add", "3000", "--hostname", "inside"),
        *("--umask", "0027", "--ulimit", "nofile=100:200", "--ulimit", "core=0"),
        *("--oom-score-adj", "500"),
    )
    assert found[0] == "1,from the caller,in a file,"
    assert found[1:4] == ["/var/tmp", "1000", "2000"]
    assert set(found[4].split()) == {"2000", "3000"}
    assert found[5:] == ["inside", "0027", "100", "200", "0", "500", "sh", "sh"]


def test_an_entrypoint_and_an_init(cli: Cli, busybox_rootfs: Path) -> None:
    argv = ["run", "--rm", "--entrypoint", '["sh", "-c", "echo $0 $*"]']
    assert cli(*argv, "--rootfs", str(busybox_rootfs), "a", "b").stdout == "a b\n"
    needs("catatonit", which("catatonit"))
    script = "cat /proc/1/comm; [ $$ = 1 ] || echo not 1"
    assert inside(cli, busybox_rootfs, script, "--init")[1:] == ["not 1"]
    init = str(which("catatonit"))
    assert inside(cli, busybox_rootfs, script, "--init", "--init-path", init)[1:] == ["not 1"]


def test_what_is_mounted(cli: Cli, busybox_rootfs: Path, short_tmp: Path) -> None:
    source = short_tmp / "source"
    source.mkdir()
    (source / "file").write_text("of the host\n")
    script = """
        cat /rw/file; echo new >/rw/new
        for d in /ro /bound /; do touch $d/no 2>/dev/null && echo $d was written to; done
        for d in /t /t2 /dev/shm; do touch $d/x && df -k $d | tail -1 | awk '{print $2}'; done
        head -c 3 /dev/mine | wc -c
        cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start
    """
    found = inside(
        cli,
        busybox_rootfs,
        script,
        *("-v", f"{source}:/rw", "--volume", f"{source}:/ro:ro"),
        *("--mount", f"type=bind,source={source},target=/bound,ro=true"),
        *("--tmpfs", "/t:size=3m", "--mount", "type=tmpfs,target=/t2,tmpfs-size=2m"),
        *("--shm-size", "8m", "--read-only", "--device", "/dev/zero:/dev/mine:r"),
        *("--sysctl", "kernel.shm_rmid_forced=1"),
        *("--sysctl", "net.ipv4.ip_unprivileged_port_start=80"),
    )
    assert found == ["of the host", "3072", "2048", "8192", "3", "1", "80"]
    assert sorted(path.name for path in source.iterdir()) == ["file", "new"]
    assert not (busybox_rootfs / "no").exists()


def test_privileges(cli: Cli, busybox_rootfs: Path) -> None:
    script = (
        "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | cut -f 2;"
        "wc -c </etc/passwd;"
        "for m in ' /sys/firmware ' '^sysfs /sys sysfs ro'; do grep -c \"$m\" /proc/mounts; done"
    )
    caps = sum(1 << CAPABILITIES.index(name) for name in ("CAP_CHOWN", "CAP_NET_RAW"))
    least = ["--cap-drop", "all", "--cap-add", "chown,net_raw", "--security-opt"]
    least += ["no-new-privileges", "--security-opt", "seccomp=unconfined"]
    least += ["--security-opt", "label=disable", "--security-opt", "apparmor=unconfined"]
    found = inside(cli, busybox_rootfs, script, *least, "--security-opt", "mask=/etc/passwd")
    assert found == [f"{caps:016x}", "1", "0", "0", "1", "1"]
    profile = ["--security-opt", f"seccomp={SECCOMP}", "--security-opt", "unmask=/sys/firmware"]
    found = inside(cli, busybox_rootfs, script, *profile)
    assert found[1:3] == ["0", "2"]
    assert int(found[3]) > 0
    assert found[4:] == ["0", "1"]
    found = inside(cli, busybox_rootfs, f"{script}; ls /dev", "--privileged")
    assert int(found[0], 16) > caps  # all that this host has
    assert found[1:3] == ["0", "0"]
    assert found[4:6] == ["0", "0"]
    devices = {path.name for path in Path("/dev").iterdir() if path.is_char_device()}
    assert devices - {"console"} <= set(found[6:])


def test_limits(cli: Cli, busybox_rootfs: Path, layout: str) -> None:
    parent = f"/longshore-cli-{os.getpid()}"
    limits = {"-m": "64m", "--cpus": "0.5", "--pids-limit": "50"}
    limits |= {"--cpu-shares": "512", "--cpuset-cpus": "0"}
    have = "cpu cpuset memory pids"
    if layout == "v2":
        have = Path(hostkit.CGROUPS, "cgroup.controllers").read_text()
        for flag, controller in (
            ("-m", "memory"),
            ("--cpus", "cpu"),
            ("--pids-limit", "pids"),
            ("--cpu-shares", "cpu"),
            ("--cpuset-cpus", "cpuset"),
        ):
            if controller not in have.split():  # never ignored
                words = ["run", flag, limits.pop(flag), "--rootfs", str(busybox_rootfs), "true"]
                assert controller in cli(*words, code=125).stderr
                cli("rm", "--all")
    given = [word for pair in limits.items() for word in pair]
    memory = Path(hostkit.CGROUPS, "memory/memory.memsw.limit_in_bytes")
    swap = 96 << 20 if memory.exists() else None
    if swap is not None:
        given += ["--memory-swap", "96m"]
    elif "-m" in limits:  # never ignored
        words = ["run", "-m", "64m", "--memory-swap", "96m", "--rootfs", str(busybox_rootfs)]
        assert "swap accounting" in cli(*words, "true", code=125).stderr
        cli("rm", "--all")
    given += ["--cgroup-manager", "cgroupfs"]
    box = detached(cli, busybox_rootfs, TRAPS, "--cgroup-parent", parent, *given)
    state = inspect(cli, box)["State"]
    assert state["CgroupPath"].startswith(f"{parent}/")
    membership = Path(f"/proc/{state['Pid']}/cgroup").read_text()
    ours = [line for line in membership.splitlines() if (line[:2] == "0:") == (layout == "v2")]
    assert ours and all(f":{parent}/" in line for line in ours)
    if layout == "v1":
        for file, value in {
            "memory/{}/memory.limit_in_bytes": 64 << 20,
            "cpu/{}/cpu.cfs_quota_us": 50_000,
            "pids/{}/pids.max": 50,
            "cpu/{}/cpu.shares": 512,
            "cpuset/{}/cpuset.cpus": 0,
            "memory/{}/memory.memsw.limit_in_bytes": swap,
        }.items():
            if value is None:
                continue
            path = Path(hostkit.CGROUPS, file.format(state["CgroupPath"].strip("/")))
            assert int(path.read_text()) == value
    cli("rm", "-f", box)
    for top, kind in hostkit._mounts():  # a parent is its giver's
        if kind.startswith("cgroup"):
            os.rmdir(top + parent)


KINDS = {"network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"}


def test_namespaces(cli: Cli, busybox_rootfs: Path) -> None:
    def spaces(pid: object) -> list[str]:
        return [os.readlink(f"/proc/{pid}/ns/{name}") for name in (*KINDS.values(), "cgroup")]

    def seen(*flags: str) -> list[str]:
        return inside(cli, busybox_rootfs, "for n in net ipc uts pid cgroup; do "
                      "readlink /proc/self/ns/$n; done", *flags)  # fmt: skip

    first = detached(cli, busybox_rootfs, TRAPS, "--name", "first")
    pid = inspect(cli, first)["State"]["Pid"]
    ours, theirs = spaces("self"), spaces(pid)
    assert not set(ours[:4]) & set(theirs[:4])
    for mode, cgroup, expected in (
        ("container:first", "host", theirs[:4]),
        (f"container:{first[:12]}", "private", theirs[:4]),
        ("ns:/proc/{}/ns/{}", "host", theirs[:4]),
        ("host", "host", ours[:4]),
    ):
        flags = [f"--{kind}={mode.format(pid, name)}" for kind, name in KINDS.items()]
        found = seen(*flags, f"--cgroupns={cgroup}")
        assert found[:4] == expected, mode
        assert (found[4] == ours[4]) == (cgroup == "host")
    private = [f"--{kind}=private" for kind in KINDS if kind != "network"]
    found = seen(*private, "--network=none", "--cgroupns=private", "--userns=host")
    assert not set(found) & {*ours, *theirs[:4]}
    cli("rm", "-f", "first")


# --- run: streams, roots and ends ------------------------------------------------------------


def test_standard_input(cli: Cli, busybox_rootfs: Path, short_tmp: Path) -> None:
    cat = ["run", "--rm", "-i", "--rootfs", str(busybox_rootfs), "cat"]
    text = "".join(f"{number}\n" for number in range(50_000))
    assert cli(*cat, input=text).stdout == text
    (short_tmp / "file").write_text("from a file\n")
    with open(short_tmp / "file") as file:
        assert cli(*cat, stdin=file).stdout == "from a file\n"
    assert cli(*cat, stdin=subprocess.DEVNULL).stdout == ""
    # without -i there is nothing to read, whatever is behind
    cat.remove("-i")
    assert cli(*cat, input="not for you").stdout == ""


def test_output(cli: Cli, busybox_rootfs: Path) -> None:
    script = "printf 'a\\nb'; echo e >&2; exit 3"
    done = cli("run", "--rm", "--rootfs", str(busybox_rootfs), "sh", "-c", script, code=3)
    assert (done.stdout, done.stderr) == ("a\nb", "e\n")
    cli("run", "--log-driver", "none", "--name", "dumb", "--rootfs", str(busybox_rootfs), "ls")
    assert cli("logs", "dumb", code=None).stdout == ""
    cli("rm", "dumb")


def test_logs(cli: Cli, busybox_rootfs: Path, short_tmp: Path) -> None:
    path = short_tmp / "log"
    options = ["--log-opt", f"path={path}", "--log-driver", "k8s-file", "--name", "box"]
    script = "for i in 1 2 3 4; do echo line $i; done; echo error >&2; sleep 0.5; echo end"
    box = cli("run", "-d", *options, "--rootfs", str(busybox_rootfs), "sh", "-c", script)
    followed = cli("logs", "-f", "box")
    assert followed.stdout == "line 1\nline 2\nline 3\nline 4\nend\n"
    assert followed.stderr == "error\n"
    assert path.read_text().count(" F line ") == 4
    assert cli("logs", "--tail", "2", "--names", "box").stdout.splitlines()[-1] == "box end"
    stamp, _, rest = cli("logs", "-t", "--tail", "1", "box").stdout.partition(" ")
    assert rest == "end\n" and stamp.startswith("20") and "T" in stamp
    assert cli("logs", "--since", stamp, "box").stdout == "end\n"
    assert cli("logs", "--until", "2001-01-01", "box").stdout == ""
    assert cli("logs", box.stdout.strip()[:12]).stdout == followed.stdout
    cli("wait", "box")
    cli("rm", "box")
    # a small log is no small output
    small = ["--rm", "--log-opt", "max-size=10kb", "--rootfs", str(busybox_rootfs)]
    assert cli("run", *small, "sh", "-c", "yes | head -n 20000").stdout == "y\n" * 20_000


def test_roots(cli: Cli, busybox_rootfs: Path) -> None:
    script = "echo kept >/mark; ls -d /mark"
    assert inside(cli, Path(f"{busybox_rootfs}:O"), script) == ["/mark"]
    assert not (busybox_rootfs / "mark").exists()
    assert inside(cli, busybox_rootfs, script) == ["/mark"]
    assert (busybox_rootfs / "mark").read_text() == "kept\n"
    # podman's way: a switch, and the directory as the first argument
    assert cli("run", "--rm", "--rootfs", str(busybox_rootfs), "cat", "/mark").stdout == "kept\n"


def test_traces(cli: Cli, busybox_rootfs: Path) -> None:
    table = cli("run", "--rm", "--trace", "--rootfs", str(busybox_rootfs), "echo", "out")
    assert table.stdout == "out\n"
    rows = [line.split() for line in table.stderr.splitlines()]
    assert rows[-1][0] == "total" and all(row[-1] == "ms" for row in rows)
    assert {"settings", "create", "run"} <= {row[0] for row in rows}
    done = cli("run", "--rm", "--trace=json", "--rootfs", str(busybox_rootfs), "true")
    phases = json.loads(done.stderr)
    assert sum(phase["ms"] for phase in phases) > 1
    assert {"phase", "ms"} == set(phases[0])


def test_ends(cli: Cli, busybox_rootfs: Path) -> None:
    root = ["--rootfs", str(busybox_rootfs)]
    (busybox_rootfs / "text").write_text("no program")
    cli("run", "--rm", *root, "nope", code=127)
    cli("run", "--rm", *root, "/text", code=126)
    cli("run", "--rm", *root, "sh", "-c", "kill -9 $$; exit 4", code=4)  # pid 1 cannot
    cli("run", "--rm", *root, "sh", "-c", "(sleep 0.1; exit 1) & wait $!", code=1)
    began = time.monotonic()
    cli("run", "--name", "late", "--timeout", "0.3", *root, "sleep", "1000", code=137)
    assert time.monotonic() - began < 20
    assert inspect(cli, "late")["State"]["Exit"]["Reason"] == "timeout"
    cli("rm", "late")
    assert names(cli, "-a") == []
    ident = cli("run", "-d", "--rm", *root, "sh", "-c", "sleep 0.3; exit 6").stdout.strip()
    assert cli("wait", ident).stdout == "6\n"
    cli("wait", "--condition", "removed", ident)
    assert cli("wait", ident).stdout == "6\n"  # kept for a while
    cli("container", "exists", ident, code=1)


def test_signals_are_passed_on(cli: Cli, dirs: tuple[Path, Path], busybox_rootfs: Path) -> None:
    argv = cli("--version").args[:-1]
    run = [*argv, "run", "--rm", "--name", "box", "--rootfs", str(busybox_rootfs)]
    with subprocess.Popen([*run, "sh", "-c", TRAPS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"usr1\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 5
    run.insert(-2, "--sig-proxy=false")
    with subprocess.Popen([*run, "sh", "-c", TRAPS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
    assert names(cli) == ["box"]  # it goes on by itself
    cli("rm", "-f", "box")


def test_another_runtime(cli: Cli, runtime: str, busybox_rootfs: Path, short_tmp: Path) -> None:
    """By path, under a name of its own."""
    other = short_tmp / "other"
    other.write_text(f'#!/bin/sh\necho "$@" >>{short_tmp}/asked\nexec {which(runtime)} "$@"\n')
    other.chmod(0o755)
    assert inside(cli, busybox_rootfs, "echo hi", "--runtime", str(other)) == ["hi"]
    assert " create " in (short_tmp / "asked").read_text()


# --- the other verbs -------------------------------------------------------------------------


def test_a_life(cli: Cli, busybox_rootfs: Path, short_tmp: Path) -> None:
    files = {name: short_tmp / name for name in ("cidfile", "pidfile", "conmon-pidfile")}
    ident = cli(
        "create",
        *(word for name, path in files.items() for word in (f"--{name}", str(path))),
        *("--name", "life", "--label", "a=b", "-l", "c", "--annotation", "d=e"),
        *("--stop-signal", "USR2", "--stop-timeout", "30"),
        *("--rootfs", str(busybox_rootfs), "sh", "-c", TRAPS),
    ).stdout.strip()
    assert files["cidfile"].read_text().strip() == ident
    assert names(cli) == [] and names(cli, "-a", "--filter", "status=created") == ["life"]
    cli("container", "exists", "life")

    assert cli("start", "life").stdout == "life\n"
    eventually(lambda: "ready" in cli("logs", "life").stdout)
    found = inspect(cli, "life")
    state, config = found["State"], found["Config"]
    assert (found["Id"], state["Status"], state["Running"]) == (ident, "running", True)
    assert config["Labels"] == {"a": "b", "c": ""}
    assert config["Annotations"]["d"] == "e"
    assert int(files["pidfile"].read_text()) == state["Pid"]
    conmon = int(files["conmon-pidfile"].read_text())
    assert Path(f"/proc/{conmon}/comm").read_text() == "conmon\n"
    assert names(cli, "--filter", "label=a=b") == ["life"]
    assert names(cli, "--filter", "label=c") == ["life"] and names(cli, "-f", "label=a=c") == []
    assert cli("ps", "-q").stdout == f"{ident[:12]}\n"
    assert cli("ps", "-q", "--no-trunc").stdout == f"{ident}\n"
    form = '{{index .Config.Labels "a"}} {{.State.StartedAt.Year}} {{.Created.Unix}}'
    shown = cli("inspect", "-f", form, "life").stdout.split()
    assert shown[0] == "b" and abs(int(shown[2]) - time.time()) < 60
    assert int(shown[1]) == time.localtime(int(shown[2])).tm_year

    cli("kill", "-s", "USR1", "life")
    eventually(lambda: "usr1" in cli("logs", "life").stdout)

    cli("pause", "life")
    assert cli("inspect", "-f", "{{.State.Status}}", "life").stdout == "paused\n"
    before = cpu_ticks(state["Pid"])
    time.sleep(0.1)
    assert cpu_ticks(state["Pid"]) == before
    cli("unpause", "life")
    assert names(cli, "--filter", "status=running") == ["life"]

    cli("rename", "life", "other")
    cli("container", "exists", "life", code=1)
    cli("container", "exists", "other")

    assert cli("restart", "other").stdout == "other\n"
    again = inspect(cli, "other")["State"]
    assert again["Pid"] != state["Pid"]
    assert [info["Code"] for info in again["Exits"]] == [9]  # USR2, its stop signal

    eventually(lambda: cli("logs", "other").stdout.count("ready") == 2)
    waiting = subprocess.Popen([*cli("--version").args[:-1], "wait", "other"], stdout=-1)
    assert cli("stop", "other").stdout == "other\n"
    assert waiting.communicate(timeout=10)[0] == b"9\n"
    assert cli("stop", "other").stdout == "other\n"  # which is no error
    assert inspect(cli, "other")["State"]["Exit"]["Reason"] == "stopped"
    assert "Exited (9)" in cli("ps", "-a").stdout

    cli("start", "other")
    assert "runs" in cli("rm", "other", code=2).stderr or names(cli) == ["other"]
    cli("stop", "-t", "0", "other")
    assert inspect(cli, "other")["State"]["ExitCode"] == 137
    cli("start", "other")
    cli("kill", "other")
    assert cli("wait", "other").stdout == "137\n"
    assert cli("rm", "other").stdout == "other\n"
    cli("container", "exists", "other", code=1)


def cpu_ticks(pid: int) -> int:
    """Return how much CPU time a process and its children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def test_several_at_once(cli: Cli, busybox_rootfs: Path) -> None:
    for name in ("a", "b", "c"):
        detached(cli, busybox_rootfs, TRAPS, "--name", name, "--label", f"is={name}")
    assert names(cli, "--sort", "names") == ["a", "b", "c"]
    cli("pause", "a", "b")
    assert sorted(names(cli, "-a", "--filter", "status=paused")) == ["a", "b"]
    assert len(cli("unpause", "--all").stdout.split()) == 2
    done = cli("stop", "a", "nope", "b", code=125)  # one that fails keeps no other from it
    assert done.stdout.split() == ["a", "b"] and "nope" in done.stderr
    assert names(cli, "-a", "--filter", "label=is=c") == ["c"]
    cli("kill", "--all")
    assert cli("wait", "a", "b", "c").stdout.split() == ["5", "5", "137"]
    assert len(cli("start", "--all").stdout.split()) == 3
    assert cli("rm", "-f", "-t", "0", "--all").stdout.count("\n") == 3
    assert cli("ps", "-aq").stdout == ""


def test_prune(cli: Cli, busybox_rootfs: Path) -> None:
    detached(cli, busybox_rootfs, TRAPS, "--name", "runs")
    root = ["--rootfs", str(busybox_rootfs), "true"]
    for name in ("old", "older"):
        cli("run", "--name", name, "--label", f"name={name}", *root)
    done = cli("system", "prune", input="n\n")
    assert "[y/N]" in done.stdout and len(names(cli, "-a")) == 3
    cli("container", "prune", "-f", "--filter", "label=name=old")
    assert sorted(names(cli, "-a")) == ["older", "runs"]
    ident = cli("inspect", "-f", "{{.Id}}", "older").stdout.strip()
    assert ident in cli("system", "prune", "--force").stdout
    assert names(cli, "-a") == ["runs"]
    assert cli("system", "prune", "-f").stdout == ""
    cli("rm", "-f", "runs")


def test_cleanup(cli: Cli, busybox_rootfs: Path) -> None:
    """For when it could not happen by itself."""
    box = detached(cli, Path(f"{busybox_rootfs}:O"), TRAPS, "--name", "box")
    state = inspect(cli, box)["State"]
    assert any(box in line for line in Path("/proc/self/mounts").read_text().splitlines())
    for pid in (state["ConmonPid"], state["Pid"]):
        os.kill(pid, signal.SIGKILL)
        await_end(pid)
    assert cli("container", "cleanup", "box").stdout == "box\n"
    assert not any(box in line for line in Path("/proc/self/mounts").read_text().splitlines())
    assert inspect(cli, box)["State"]["Exit"]["Reason"] == "monitor_lost"
    cli("container", "cleanup", "--rm", "--all")
    cli("container", "exists", "box", code=1)


def test_the_host(cli: Cli, runtime: str, dirs: tuple[Path, Path], layout: str) -> None:
    info = json.loads(cli("info", "--format", "json").stdout)
    assert info["host"]["cgroupVersion"] == layout
    assert info["host"]["kernel"] == os.uname().release
    assert info["host"]["ociRuntime"]["name"] == runtime
    assert info["store"]["graphRoot"] == str(dirs[0])
    assert "cgroupVersion: " + layout in cli("info").stdout
    version = json.loads(cli("version", "--format", "json").stdout)["Client"]
    assert runtime in {found["Name"] for found in version["Runtimes"]}
    assert version["PythonVersion"] == ".".join(map(str, sys.version_info[:3]))
    shown = dict(line.split(None, 1) for line in cli("version").stdout.splitlines())
    assert shown["Version:"] == version["Version"] and str(which(runtime)) in shown[f"{runtime}:"]
    assert cli("--version").stdout == f"longshore version {version['Version']}\n"
    doctor = cli("doctor", code=None)
    assert "conmon" in doctor.stdout
    assert doctor.returncode == int("MISSING" in doctor.stdout)
