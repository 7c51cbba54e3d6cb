"""Wrong input to the command line: one line that says what and why, a hint, 125, nothing left."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import hostkit
from hostkit import Cli, command_line, working_runtimes


@pytest.fixture
def cli(dirs: tuple[Path, Path]) -> Cli:
    """The command line with the first runtime that works: what is wrong is so with each."""
    return command_line(dirs, working_runtimes()[0])


# Flags of `run` (with {tmp} for a directory of the test's own), and words that have to be said.
FLAGS: tuple[tuple[str, str], ...] = (
    ("--nope", "unknown flag: --nope"),
    ("--memry=1g", "unknown flag: --memry"),
    ("-Z", "unknown shorthand flag: -Z"),
    ("--name=a/b", "'a/b'"),
    ("--name=-", "'-'"),
    (f"--name={'x' * 251}", "251 characters"),
    ("-e =value", "env"),
    ("--env-file={tmp}/nope", "{tmp}/nope"),
    ("-w relative", "relative"),
    ("-u a:b:c", "a:b:c"),
    ("--umask 999", "999"),
    ("--group-add=a:b", "a:b"),
    ("-m 12q", "12q"),
    ("-m 1k", "too few"),
    ("-m 32m --memory-swap 16m", "below the memory limit"),
    ("--memory-swap 1g", "no memory limit"),
    ("--cpus nine", "nine"),
    ("--cpus=-1", "-1"),
    ("--cpus 1 --cpu-quota 1000", "cpus"),
    ("--cpuset-cpus 0-", "0-"),
    ("--pids-limit many", "many"),
    ("--device-read-bps /dev/sda", "PATH:NUMBER"),
    ("--device-write-bps /dev/null:1m", "no block device"),
    ("--device-read-iops sda:5", "not absolute"),
    ("--blkio-weight-device /dev/sda:5", "between 10 and 1000"),
    ("--ulimit nofile", "nofile"),
    ("--ulimit nofile=300:200", "300"),
    ("--ulimit files=1", "files"),
    ("--cap-add flying", "flying"),
    ("--cap-add chown --cap-drop chown", "CAP_CHOWN"),
    ("--security-opt seccomp={tmp}/nope", "{tmp}/nope"),
    ("--security-opt scomp=unconfined", "scomp"),
    ("--security-opt mask=relative", "relative"),
    ("--device {tmp}/nope", "{tmp}/nope"),
    ("--device /dev/null:/dev/x:q", "q"),
    ("--sysctl kernel.panic=1", "kernel.panic"),
    ("--sysctl kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
    ("--network bridge", "bridge"),
    ("--network container:nope", "nope"),
    ("--ipc ns:{tmp}/nope", "{tmp}/nope"),
    ("--pid nowhere", "nowhere"),
    ("--uts host --hostname x", "uts is host"),
    ("--cgroupns container:", "cgroupns"),
    ("--userns auto", "auto"),
    ("-v {tmp}/nope:/x", "{tmp}/nope"),
    ("-v /etc:relative", "relative"),
    ("-v /etc:/x:rw,ro", "contradict"),
    ("-v /etc:/", "target is /"),
    ("--mount type=floppy,target=/x", "floppy"),
    ("--mount type=bind,target=/x", "source="),
    ("--mount type=tmpfs,target=/x,size=big", "big"),
    ("--tmpfs relative", "relative"),
    ("--tmpfs /x --tmpfs /x", "/x"),
    ("--shm-size big", "big"),
    ("--hostname under_score_", "under_score_"),
    ("--stop-signal NONE", "NONE"),
    ("--stop-timeout soon", "soon"),
    ("--timeout=-1", "-1"),
    ("--oom-score-adj 2000", "2000"),
    ("--cgroup-parent relative", "relative"),
    ("--cgroup-manager docker", "docker"),
    ("--log-driver syslog", "syslog"),
    ("--log-opt nope=1", "nope"),
    ("--log-driver none --log-opt path={tmp}/x", "no log"),
    ("--init-path /bin/sh", "init is not asked for"),
    ("--cidfile {tmp}", "{tmp}"),
    ("--pidfile {tmp}/nope/file", "{tmp}/nope"),
    ("--conmon-pidfile {tmp}/nope/file", "{tmp}/nope"),
    ("--runtime nope", "nope"),
    ("--runtime /etc/passwd", "/etc/passwd"),
    ("--trace=loud", "loud"),
    ("--label-file {tmp}/nope", "{tmp}/nope"),
    ("--spec-patch {tmp}/nope", "{tmp}/nope"),
    ("--read-only=maybe", "maybe"),
    ("--rootfs {tmp}/nope", "{tmp}/nope"),
    ("--rootfs /etc/passwd", "/etc/passwd"),
)


# What says by itself what would be right.
EXPLAINS_ITSELF = re.compile(
    r": it (?:is|takes|cannot be) |No such file|(?:is|are) not (?:a |between|some of)|contradict"
    r"|and has to be|at least one|is missing|because|found: |template \d+:\d+: |: (?:crun|runc): "
)


def complaint(text: str, said: str) -> str:
    """Say what is wrong with an error message, "" if nothing is."""
    lines = text.splitlines()
    if [line.partition(" ")[0] for line in lines] not in (["Error:"], ["Error:", "hint:"]):
        return f"these are not an error and a hint: {lines}"
    if said not in lines[0]:
        return f"{said!r} is not in {lines[0]!r}"
    if len(lines) < 2 and not EXPLAINS_ITSELF.search(lines[0]):
        return f"no hint: {lines[0]}"
    if max(map(len, lines)) > 300:
        return f"too long: {lines}"
    return ""


def test_wrong_flags(
    cli: Cli, dirs: tuple[Path, Path], busybox_rootfs: Path, short_tmp: Path
) -> None:
    before = hostkit.Host()
    wrong = {}
    for flags, said in FLAGS:
        given = flags.replace("{tmp}", str(short_tmp)).split()
        # the last --rootfs counts
        argv = ["run", "--rm", "--rootfs", str(busybox_rootfs), *given, "true"]
        done = cli(*argv, code=None)
        why = complaint(done.stderr, said.replace("{tmp}", str(short_tmp)))
        if done.returncode != 125 or done.stdout:
            why = f"{done.returncode}, {done.stdout!r}, {done.stderr!r}"
        if why:
            wrong[flags] = why
    assert not wrong, "\n".join(f"{flags}: {why}" for flags, why in wrong.items())
    assert cli("ps", "-aq").stdout == ""
    assert not before.left()
    for kind in ("containers", "names"):
        assert not any((dirs[0] / kind).glob("*"))


START: tuple[tuple[str, str, str, int], ...] = (
    ("-u nobody-here", "true", "nobody-here", 125),
    ("--group-add nobodies", "true", "nobodies", 125),
    ("-w /bin/busybox", "true", "/bin/busybox", 125),
    ("", "nope", "nope", 127),
    ("", "/etc/passwd", "/etc/passwd", 126),
    ("--ulimit core=-1 --ulimit nofile=999999999", "true", "", 125),
    ("--security-opt apparmor=nope", "true", "nope", 125),
)


def test_wrong_at_the_start(cli: Cli, busybox_rootfs: Path) -> None:
    """What only shows when the container is started: with --rm, nothing of it is left."""
    before = hostkit.Host()
    wrong = {}
    for flags, command, said, code in START:
        argv = ["run", "--rm", "--name", "box", *flags.split(), "--rootfs", str(busybox_rootfs)]
        done = cli(*argv, command, code=None)
        if (done.returncode, done.stdout) != (code, ""):
            wrong[f"{flags} {command}"] = f"{done.returncode}: {done.stdout}{done.stderr}"
        elif why := complaint(done.stderr, said):
            wrong[f"{flags} {command}"] = why
    assert not wrong, "\n".join(f"{flags}: {why}" for flags, why in wrong.items())
    assert cli("ps", "-aq").stdout == ""
    assert not before.left_after(hostkit.PATIENCE)


VERBS: tuple[tuple[str, str, int], ...] = (
    ("run", "nothing to run from", 125),
    ("run --rootfs /:O", "no command", 125),
    ("run alpine true", "alpine", 125),
    ("create --name", "needs an argument", 125),
    ("create --name taken --rootfs /:O true", "taken", 125),
    ("rename idle taken", "taken", 125),
    ("rename idle a/b", "a/b", 125),
    ("rename idle", "2 arguments", 125),
    ("start", "at least one name", 125),
    ("stat idle", "unknown command: stat", 125),
    ("start nope", "nope", 125),
    ("stop nope", "nope", 125),
    ("kill nope", "nope", 125),
    ("pause nope", "nope", 125),
    ("unpause nope", "nope", 125),
    ("restart nope", "nope", 125),
    ("wait nope", "nope", 125),
    ("update nope -m 64m", "nope", 125),
    ("update idle", "nothing to change", 125),
    ("update -m 1k idle", "too few", 125),
    ("update --memory-swap 64m idle", "no memory limit", 125),
    ("update --cpus 1 --cpu-quota 5000 idle", "cpus", 125),
    ("update --cpus 100000 idle", "100000 CPUs", 125),
    ("update --nope idle", "unknown flag: --nope", 125),
    ("update", "1 argument", 125),
    ("logs nope", "nope", 125),
    ("inspect nope", "nope", 125),
    ("rename nope other", "nope", 125),
    ("container cleanup nope", "nope", 125),
    ("rm nope", "nope", 1),
    ("kill idle", "idle", 125),
    ("kill -s NONE runs", "NONE", 125),
    ("pause idle", "idle", 125),
    ("unpause runs", "runs", 125),
    ("rm runs", "runs", 2),
    ("wait --condition moonlight runs", "moonlight", 125),
    ("stop -t soon runs", "soon", 125),
    ("logs --since yesteryear runs", "yesteryear", 125),
    ("logs --tail few runs", "few", 125),
    ("ps --filter nope=1", "nope", 125),
    ("ps --format {{.Nope}}", "Nope", 125),
    ("ps --sort age", "age", 125),
    ("inspect --format {{ runs", "unclosed action", 125),
    ("container exists", "1 argument", 125),
    ("container nope", "nope", 125),
    ("system prune extra", "no arguments", 125),
    ("--log-level loud ps", "loud", 125),
)


def test_wrong_verbs(cli: Cli, busybox_rootfs: Path) -> None:
    root = ["--rootfs", str(busybox_rootfs)]
    for name in ("taken", "idle"):
        cli("create", "--name", name, *root, "true")
    cli("run", "-d", "--name", "runs", *root, "sleep", "1000")
    wrong = {}
    for words, said, code in VERBS:
        done = cli(*words.split(), code=None)
        if done.returncode != code:
            wrong[words] = f"{done.returncode}: {done.stdout}{done.stderr}"
        elif why := complaint(done.stderr, said):
            wrong[words] = why
    assert not wrong, "\n".join(f"{words}: {why}" for words, why in wrong.items())
    shown = cli("inspect", "-f", "{{.Name}} {{.State.Status}}", "idle", "runs", "taken").stdout
    assert shown == "idle created\nruns running\ntaken created\n"
    cli("rm", "-f", "--all")


def test_a_name_and_a_cidfile_are_taken_once(
    cli: Cli, busybox_rootfs: Path, short_tmp: Path
) -> None:
    cidfile = short_tmp / "cid"
    argv = ["create", "--cidfile", str(cidfile), "--rootfs", str(busybox_rootfs), "true"]
    first = cli(*argv).stdout
    again = cli(*argv, code=125)
    assert complaint(again.stderr, str(cidfile)) == ""
    assert cli("ps", "-aq", "--no-trunc").stdout == first
    assert cidfile.read_text().strip() == first.strip()
    cli("rm", "--cidfile", str(cidfile))
    assert not cidfile.exists()
    run = ["run", "--rm", "--cidfile", str(cidfile), "--rootfs", str(busybox_rootfs)]
    for command, code in (("nope", 127), ("true", 0)):
        cli(*run, command, code=code)
        assert not cidfile.exists()
    # one that could not be started stays, and so does its cidfile
    run.remove("--rm")
    cli(*run, "nope", code=127)
    assert cli("rm", "--cidfile", str(cidfile)).stdout
    assert not cidfile.exists()
    assert complaint(cli("rm", "--cidfile", f"{cidfile}.not", code=None).stderr, ".not") == ""


def test_an_output_that_cannot_be_written(cli: Cli) -> None:
    with open("/dev/full", "w") as full:
        done = cli("version", code=None, capture_output=False, stdout=full, stderr=-1)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = cli("info", code=141, capture_output=False, stdout=writer, stderr=-1)
    os.close(writer)
    assert done.stderr == ""


def test_the_words_of_what_cannot_be(cli: Cli, busybox_rootfs: Path) -> None:
    """Whole messages, which people read."""
    cli("create", "--name", "made", "--rootfs", str(busybox_rootfs), "true")
    root = ["run", "--rm", "--rootfs", str(busybox_rootfs)]
    for words, error, hint in (
        (["--network", "container:made", "true"],
         ("building its specification: cannot share the network namespace of container made: "
          "it is created, and has to be running"),
         "start it first: `longshore start made`"),
        (["--rootfs", "/", "true"],
         "Error: rootfs: / is this host's own root, which cannot be a container's too",
         "overlay=True (--rootfs /:O) runs on a view of it, which leaves it untouched"),
        (["--runtime", "/etc/passwd", "true"],
         "runtime '/etc/passwd' was asked for; found: a file that cannot be executed",
         "install it, or name another with --runtime (crun, runc, or a path)"),
        (["--network", "container:nosuch", "true"],
         "Error: network: there is no container with the name or id 'nosuch'",
         "`longshore ps --all` lists the containers of this root directory"),
    ):  # fmt: skip
        done = cli(*root, *words, code=125)
        said, hinted = done.stderr.splitlines()
        assert said.endswith(error), said
        assert hinted == f"hint: {hint}"
    cli("rm", "made")
