"""What a container sees, and what it does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from hostkit import ROOT, needs, which
from hostlife import SLEEP, make, ready, started
from longshore import Engine
from longshore.errors import HostUnsupported, InvalidArgument
from longshore.oci.privilege import CAPABILITIES, DEFAULT_CAPABILITIES

SECCOMP = ROOT / "tests/data/containers-common/seccomp.json"


def says(engine: Engine, rootfs: Path, script: str, **options: Any) -> list[str]:
    result = engine.run(command=["sh", "-c", script], rootfs=rootfs, **options)
    assert result.exit.ok, (result.exit, result.stderr)
    return result.text.splitlines()


def test_no_descriptor_of_ours(engine: Engine, busybox_rootfs: Path) -> None:
    with open("/dev/null") as file:
        os.set_inheritable(file.fileno(), True)  # the caller's fault; not the container's
        for options in ({}, {"overlay": True}, {"init": True} if which("catatonit") else {}):
            fds = says(engine, busybox_rootfs, "echo /proc/self/fd/*; ls /proc/self/fd", **options)
            assert fds[1:] == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


def test_nothing_of_the_environment(
    engine: Engine, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("LISTEN_FDNAMES", "x")
    monkeypatch.setenv("TMPDIR", "/tmp")
    result = engine.run(
        command=["env"], rootfs=busybox_rootfs, env={"A": "1", "N": "a b"}, hostname="box"
    )
    names = {line.partition("=")[0] for line in result.text.splitlines() if "=" in line}
    assert names <= {"PATH", "HOME", "HOSTNAME", "A", "N", "container", "TERM"}
    assert "A=1\n" in result.text and "N=a b\n" in result.text
    assert says(engine, busybox_rootfs, "echo $SECRET", env=["SECRET"]) == ["x"]


def test_names_and_numbers(engine: Engine, busybox_rootfs: Path) -> None:
    script = "hostname; echo $$; ls -d /proc/[0-9]* | wc -l; id -u; pwd; umask"
    found = says(engine, busybox_rootfs, script, hostname="box", umask="0027", workdir="/tmp")
    assert found[:2] == ["box", "1"]
    assert int(found[2]) <= 4
    assert found[3:] == ["0", "/tmp", "0027"]
    box = make(engine, busybox_rootfs, "hostname")
    box.start()
    box.wait(30)
    assert [record.data for record in box.logs()] == [box.id[:12].encode() + b"\n"]


def test_user(engine: Engine, busybox_rootfs: Path) -> None:
    busybox_rootfs.chmod(0o755)
    script = "id -u; id -g; id -G"
    assert says(engine, busybox_rootfs, script, user="user") == ["1000", "1000", "1000 2000"]
    assert says(engine, busybox_rootfs, script, user="7:8")[:2] == ["7", "8"]
    found = says(engine, busybox_rootfs, script, user="user", group_add=["3000"])
    assert set(found[2].split()) >= {"1000", "3000"}
    assert says(engine, busybox_rootfs, "grep CapEff /proc/self/status", user="user") == [
        "CapEff:\t0000000000000000"
    ]


def mask(names: tuple[str, ...]) -> str:
    return f"{sum(1 << CAPABILITIES.index(name) for name in names):016x}"


def test_capabilities(engine: Engine, busybox_rootfs: Path) -> None:
    script = "grep -E 'Cap(Eff|Bnd)' /proc/self/status | cut -f 2"
    default = mask(DEFAULT_CAPABILITIES)
    assert says(engine, busybox_rootfs, script) == [default] * 2
    assert says(engine, busybox_rootfs, script, cap_drop=["all"]) == ["0" * 16] * 2
    few = mask(("CAP_CHOWN", "CAP_NET_RAW"))
    options = {"cap_drop": ["all"], "cap_add": ["chown", "net_raw"]}
    assert says(engine, busybox_rootfs, script, **options) == [few] * 2


def test_seccomp_and_no_new_privileges(engine: Engine, busybox_rootfs: Path) -> None:
    script = "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | cut -f 2"
    profile = f"seccomp={SECCOMP}"
    assert says(engine, busybox_rootfs, script, security_opt=[profile]) == ["0", "2"]
    options = ["seccomp=unconfined", "no-new-privileges"]
    assert says(engine, busybox_rootfs, script, security_opt=options) == ["1", "0"]
    # the default is a profile, too
    assert says(engine, busybox_rootfs, script) == ["0", "2"]


def test_masked_and_read_only_paths(engine: Engine, busybox_rootfs: Path) -> None:
    script = "cat /proc/kcore 2>/dev/null | wc -c; ls /sys/firmware 2>/dev/null | wc -l"
    assert says(engine, busybox_rootfs, script) == ["0", "0"]
    for path in ("/proc/sys/kernel/domainname", "/sys/fs/x"):
        script = f"(echo x >{path}) 2>&1; true"
        assert "Read-only file system" in says(engine, busybox_rootfs, script)[0]


def test_privileged(engine: Engine, busybox_rootfs: Path) -> None:
    script = "[ -e /dev/kmsg ] && echo devices; grep ' /sys ' /proc/mounts | cut -d ' ' -f 4"
    found = says(engine, busybox_rootfs, script, privileged=True)
    assert found[-1].startswith("rw")


def test_read_only_root(engine: Engine, busybox_rootfs: Path) -> None:
    script = "(echo x >/x) 2>&1; for d in /tmp /run /var/tmp; do echo x >$d/x && echo $d; done"
    found = says(engine, busybox_rootfs, script, read_only=True)
    assert "Read-only" in found[0]
    assert found[1:] == ["/tmp", "/run", "/var/tmp"]
    assert list((busybox_rootfs / "tmp").iterdir()) == []
    script = "(echo x >/tmp/x) 2>&1; true"
    found = says(engine, busybox_rootfs, script, read_only=True, read_only_tmpfs=False)
    assert "Read-only" in found[0]


def test_mounts(engine: Engine, busybox_rootfs: Path, short_tmp: Path) -> None:
    source = short_tmp / "source"
    source.mkdir()
    (source / "file").write_text("x\n")
    script = "cat /rw/file; echo y >/rw/new; (echo z >/ro/new2) 2>&1; df -m /t | tail -1"
    found = says(
        engine,
        busybox_rootfs,
        script,
        volumes=[f"{source}:/rw", f"{source}:/ro:ro"],
        tmpfs={"/t": "size=3m"},
    )
    assert found[0] == "x"
    assert "Read-only" in found[1]
    assert found[2].split()[1] == "3"
    assert sorted(p.name for p in source.iterdir()) == ["file", "new"]
    shutil.rmtree(source)
    script = "df -k /dev/shm | tail -1"
    assert says(engine, busybox_rootfs, script, shm_size="8m")[0].split()[1] == "8192"


def test_ulimits(engine: Engine, busybox_rootfs: Path) -> None:
    script = "ulimit -n; ulimit -Hn; ulimit -c"
    found = says(engine, busybox_rootfs, script, ulimits=["nofile=100:200", "core=0"])
    assert found == ["100", "200", "0"]


def test_limits_in_the_cgroup(engine: Engine, busybox_rootfs: Path, layout: str) -> None:
    options: dict[str, Any] = {
        "memory": "64m",
        "cpus": 0.5,
        "cpu_shares": 512,
        "cpuset_cpus": "0",
        "pids_limit": 50,
    }
    if layout == "v2":
        have = Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
        names = {"memory": "memory", "cpus": "cpu", "cpuset_cpus": "cpuset", "pids_limit": "pids"}
        for option, controller in names.items():
            if controller not in have:  # never ignored
                with pytest.raises(HostUnsupported, match=controller):
                    says(engine, busybox_rootfs, "true", **{option: options[option]})
        return
    box = started(engine, busybox_rootfs, SLEEP, **options)
    path = box.inspect().cgroup_path

    def value(controller: str, file: str) -> str:
        return Path(f"/sys/fs/cgroup/{controller}{path}/{file}").read_text().strip()

    assert value("memory", "memory.limit_in_bytes") == str(64 << 20)
    quota = int(value("cpu", "cpu.cfs_quota_us"))
    assert quota / int(value("cpu", "cpu.cfs_period_us")) == 0.5
    assert value("cpu", "cpu.shares") == "512"
    assert value("cpuset", "cpuset.cpus") == "0"
    assert value("pids", "pids.max") == "50"
    assert path.startswith("/longshore/")
    box.remove(force=True)


def test_sysctls(engine: Engine, busybox_rootfs: Path) -> None:
    script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start"
    sysctls = {"kernel.shm_rmid_forced": "1", "net.ipv4.ip_unprivileged_port_start": "80"}
    assert says(engine, busybox_rootfs, script, sysctls=sysctls) == ["1", "80"]
    with pytest.raises(InvalidArgument):
        make(engine, busybox_rootfs, "true", sysctls={"kernel.panic": "1"})


@pytest.mark.root
def test_devices(engine: Engine, busybox_rootfs: Path) -> None:
    found = says(engine, busybox_rootfs, "ls /dev")
    assert {"null", "zero", "full", "random", "urandom", "tty", "shm"} <= set(found)
    assert not {"kmsg", "mem", "sda", "vda", "fuse"} & set(found)
    script = "head -c 3 /dev/mine | wc -c"
    assert says(engine, busybox_rootfs, script, devices=["/dev/zero:/dev/mine:r"]) == ["3"]
    # what is not asked for cannot be made either
    script = "mknod /tmp/kmsg c 1 11 && (head -c 1 </tmp/kmsg) 2>&1; true"
    found = says(engine, busybox_rootfs, script, cap_add=["mknod"])
    assert "not permitted" in found[0]


def test_init(engine: Engine, busybox_rootfs: Path) -> None:
    needs("catatonit", which("catatonit"))
    script = "cat /proc/1/comm; echo $$; orphan=$(sh -c 'sleep 0.01 >&2 & echo $!'); n=0; "
    script += "while [ -e /proc/$orphan ] && [ $n -lt 1000 ]; do sleep 0.01; n=$((n + 1)); done; "
    script += "grep -l 'State:.Z' /proc/[0-9]*/status | wc -l"
    found = says(engine, busybox_rootfs, script, init=True)
    assert found[0] in ("catatonit", "longshore-init")
    assert found[1] != "1"
    assert found[2] == "0"
    box = ready(started(engine, busybox_rootfs, "echo ready; " + SLEEP, init=True))
    info = box.stop(1000)  # it passes the signal on
    assert info and info.code == 143


def test_network(engine: Engine, busybox_rootfs: Path) -> None:
    script = "ls /sys/class/net; ip -o addr show lo | grep -c 127.0.0.1"
    assert says(engine, busybox_rootfs, script, network="none") == ["lo", "1"]
    assert says(engine, busybox_rootfs, "readlink /proc/self/ns/net", network="host") == [
        os.readlink("/proc/self/ns/net")
    ]
    assert says(engine, busybox_rootfs, "readlink /proc/self/ns/net") != [
        os.readlink("/proc/self/ns/net")
    ]


KINDS = {"network": "net", "pid": "pid", "ipc": "ipc", "uts": "uts"}


@pytest.mark.parametrize("kind", KINDS)
def test_sharing_namespaces(kind: str, engine: Engine, busybox_rootfs: Path) -> None:
    first = started(engine, busybox_rootfs, SLEEP, name="first")
    pid = first.inspect().pid
    theirs = os.readlink(f"/proc/{pid}/ns/{KINDS[kind]}")
    script = f"readlink /proc/self/ns/{KINDS[kind]}"
    ours = os.readlink(f"/proc/self/ns/{KINDS[kind]}")
    assert ours != theirs
    for mode, expected in (
        ("container:first", theirs),
        (f"container:{first.id}", theirs),
        (f"ns:/proc/{pid}/ns/{KINDS[kind]}", theirs),
        ("host", ours),
    ):
        assert says(engine, busybox_rootfs, script, **{kind: mode}) == [expected]
    assert says(engine, busybox_rootfs, script)[0] not in (ours, theirs)
    first.remove(force=True)


def test_overlay(engine: Engine, busybox_rootfs: Path) -> None:
    before = sorted(p.relative_to(busybox_rootfs) for p in busybox_rootfs.rglob("*"))
    script = "cat /kept 2>/dev/null; echo x >>/kept; rm -f /bin/ls; echo y >/etc/passwd"
    box = make(engine, busybox_rootfs, script, overlay=True)
    for _ in range(3):
        box.start()
        assert box.wait(30).ok
    assert b"".join(record.data for record in box.logs()) == b"x\nx\nx\n"
    assert sorted(p.relative_to(busybox_rootfs) for p in busybox_rootfs.rglob("*")) == before
    assert "root" in (busybox_rootfs / "etc/passwd").read_text()
    box.remove()


def test_overlay_of_an_awkward_path(engine: Engine, busybox_rootfs: Path) -> None:
    awkward = busybox_rootfs.rename(busybox_rootfs.with_name("a,b:c d\\e"))
    assert says(engine, awkward, "echo x >/x; cat /x", overlay=True) == ["x"]
    assert not (awkward / "x").exists()


def test_the_spec_can_be_changed(engine: Engine, busybox_rootfs: Path) -> None:
    def change(spec: Any) -> None:
        spec["process"]["env"].append("CHANGED=1")

    assert says(engine, busybox_rootfs, "echo $CHANGED", spec=change) == ["1"]
    patch = {"process": {"cwd": "/tmp"}}
    assert says(engine, busybox_rootfs, "pwd", spec_patch=patch) == ["/tmp"]
