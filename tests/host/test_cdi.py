"""CDI devices in real containers: device file, variable, mount, hook, groups; JSON and YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hostkit import Cli
from hostlife import SLEEP, make
from longshore import Engine, HostUnsupported, InvalidArgument

KIND = "longshore.example/null"
NAME = f"{KIND}=one"

YAML = """\
cdiVersion: "0.7.0"
kind: longshore.example/null
containerEdits:
  env:
  - FROM_FILE=yes
devices:
- name: one
  containerEdits:
    env:
    - FROM_DEVICE=one
    deviceNodes:
    - path: /dev/cdi/null
      hostPath: /dev/null
      fileMode: 432
      permissions: rw
    mounts:
    - hostPath: {shared}
      containerPath: /opt/vendor
      options: [ro, nosuid, nodev, rbind, rprivate]
    hooks:
    - hookName: createRuntime
      path: /bin/sh
      args: [sh, -c, "cat >>{log}"]
    - hookName: poststop
      path: /bin/sh
      args: [sh, -c, "echo stopped >>{log}"]
    additionalGids: [0, 4711]
- name: two
  containerEdits:
    env: [FROM_TWO=2]
    deviceNodes:
    - {{path: /dev/cdi/zero, hostPath: /dev/zero}}
"""


class Vendor:
    """A directory of CDI files, and what they refer to."""

    def __init__(self, top: Path, form: str) -> None:
        import yaml

        self.directory = top / "cdi"
        self.directory.mkdir()
        self.log = top / "cdi.log"
        shared = top / "shared"
        shared.mkdir()
        (shared / "library").write_text("of the vendor\n")
        text = YAML.format(shared=shared, log=self.log)
        content = text if form == "yaml" else json.dumps(yaml.safe_load(text))
        self.file = self.directory / f"vendor.{form}"
        self.file.write_text(content)


@pytest.fixture(params=["json", "yaml"])
def vendor(short_tmp: Path, request: pytest.FixtureRequest) -> Vendor:
    return Vendor(short_tmp, request.param)


@pytest.fixture
def yaml_vendor(short_tmp: Path) -> Vendor:
    return Vendor(short_tmp, "yaml")


def engine_of(dirs: tuple[Path, Path], runtime: str, vendor: Vendor) -> Engine:
    return Engine(root=dirs[0], run_root=dirs[1], runtime=runtime, cdi_spec_dirs=[vendor.directory])


LOOK = """\
echo $FROM_FILE $FROM_DEVICE $FROM_TWO
stat -c '%F %a %u:%g %t:%T' /dev/cdi/null
echo x >/dev/cdi/null && echo written
cat /dev/cdi/null && echo read
cat /opt/vendor/library
(echo x >/opt/vendor/library) 2>&1 | grep -o Read-only
id -G
"""


def test_all_that_a_device_can_change(
    dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, vendor: Vendor
) -> None:
    engine = engine_of(dirs, runtime, vendor)
    busybox_rootfs.chmod(0o755)
    box = make(engine, busybox_rootfs, f"{LOOK}{SLEEP}", devices=[NAME], user="7:8")
    assert not vendor.log.exists()
    box.start()
    records = box.logs(follow=True)
    lines = [next(records).data.decode().rstrip("\n") for _ in range(7)]
    records.close()  # type: ignore[attr-defined]  # a generator
    assert lines[0] == "yes one"
    # its owner is the container's user, where the file does not say another
    assert lines[1] == "character special file 660 7:8 1:3"
    assert lines[2:6] == ["written", "read", "of the vendor", "Read-only"]
    assert set(lines[6].split()) == {"8", "4711"}
    assert json.loads(vendor.log.read_text())["id"] == box.id
    # a second process has the variables and groups of the first one, and no hook is run for it
    again = box.exec(["sh", "-c", "echo $FROM_DEVICE; id -G"]).text.splitlines()
    assert again[0] == "one" and "4711" in again[1].split()
    box.remove(force=True)
    assert vendor.log.read_text().endswith("stopped\n")


def test_several_devices_and_all_of_them(
    dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, yaml_vendor: Vendor
) -> None:
    engine = engine_of(dirs, runtime, yaml_vendor)
    script = "echo $FROM_FILE $FROM_DEVICE $FROM_TWO; ls /dev/cdi; head -c 3 /dev/cdi/zero | wc -c"
    for devices in ([f"{KIND}=two", NAME], [f"{KIND}=all"]):
        result = engine.run(
            command=["sh", "-c", script], rootfs=busybox_rootfs, devices=devices, privileged=False
        )
        assert result.text.split() == ["yes", "one", "2", "null", "zero", "3"], result
    result = engine.run(
        command=["sh", "-c", "ls /dev/cdi"], rootfs=busybox_rootfs, devices=[f"{KIND}=two"]
    )
    assert result.text == "zero\n"


def test_a_device_is_looked_up_at_each_start(
    dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, yaml_vendor: Vendor
) -> None:
    engine = engine_of(dirs, runtime, yaml_vendor)
    box = make(
        engine,
        busybox_rootfs,
        "echo $FROM_TWO; stat -c %t:%T /dev/cdi/zero",
        devices=[f"{KIND}=two"],
    )
    text = yaml_vendor.file.read_text()
    yaml_vendor.file.unlink()
    with pytest.raises(InvalidArgument, match=f"no CDI device {KIND}=two"):
        box.start()
    # a driver that was renewed: another number, another variable
    yaml_vendor.file.write_text(text.replace("/dev/zero}", "/dev/full}").replace("=2", "=3"))
    box.start()
    assert box.wait(30).ok
    assert b"".join(record.data for record in box.logs()) == b"3\n1:7\n"
    box.remove()


def test_the_command_line(
    cli: Cli, busybox_rootfs: Path, yaml_vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rootfs = ["--rootfs", str(busybox_rootfs)]
    where = ["--cdi-spec-dir", str(yaml_vendor.directory)]
    done = cli(*where, "run", "--rm", "--device", NAME, *rootfs, "sh", "-c", "echo $FROM_DEVICE")
    assert done.stdout == "one\n"
    done = cli(*where, "create", "--device", f"{KIND}=three", *rootfs, "true", code=125)
    assert f"no CDI device {KIND}=three" in done.stderr
    assert f"hint: there are {KIND}=one, {KIND}=two" in done.stderr
    done = cli(*where, "run", "--gpus", "all", *rootfs, "true", code=125)
    assert "no CDI device nvidia.com/gpu=all" in done.stderr
    assert cli("ps", "-aq").stdout == ""
    gpus = (
        yaml_vendor.file.read_text().replace(KIND, "nvidia.com/gpu").replace("name: one", "name: 0")
    )
    yaml_vendor.file.write_text(gpus)
    conf = yaml_vendor.directory.parent / "containers.conf"
    conf.write_text(f'[engine]\ncdi_spec_dirs = ["{yaml_vendor.directory}"]\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(conf))
    cli("run", "-d", "--name", "gpu", "--gpus", "device=0", *rootfs, "sleep", "1000")
    (document,) = json.loads(cli("inspect", "gpu").stdout)
    assert document["HostConfig"]["Devices"] == [
        {"PathOnHost": "/dev/null", "PathInContainer": "/dev/cdi/null", "CgroupPermissions": "rw"}
    ]
    assert "FROM_DEVICE=one" in document["Config"]["Env"]
    cli("rm", "-f", "-t", "0", "gpu")


def test_a_mount_in_the_way(
    dirs: tuple[Path, Path], runtime: str, busybox_rootfs: Path, yaml_vendor: Vendor
) -> None:
    engine = engine_of(dirs, runtime, yaml_vendor)
    with pytest.raises(InvalidArgument, match="/opt/vendor, where another mount is to be"):
        engine.run(
            command=["true"], rootfs=busybox_rootfs, devices=[NAME], volumes=["/etc:/opt/vendor"]
        )


def test_intel_rdt_needs_its_file_system(engine: Engine, busybox_rootfs: Path) -> None:
    if " - resctrl " in Path("/proc/self/mountinfo").read_text():
        return
    patch: dict[str, Any] = {"linux": {"intelRdt": {"closID": "x"}}}
    with pytest.raises(HostUnsupported, match="resctrl"):
        engine.run(command=["true"], rootfs=busybox_rootfs, spec_patch=patch)


def test_personality_goes_through_the_patch(
    engine: Engine, busybox_rootfs: Path, runtime: str
) -> None:
    patch = {"linux": {"personality": {"domain": "LINUX32", "flags": []}}}
    result = engine.run(
        command=["cat", "/proc/self/personality"], rootfs=busybox_rootfs, spec_patch=patch
    )
    # PER_LINUX32 (personality(2)); runc does it from 1.2 on, and says nothing before
    assert result.text in (("00000008\n",) if runtime == "crun" else ("00000008\n", "00000000\n"))
