"""containers.conf: which files count, what they may say, and the cache of the answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from longshore import config
from longshore.config import Settings, check_cgroup_manager, load
from longshore.errors import InvalidArgument
from longshore.linux import files, userns

USER = 4711


class Home:
    """A user's directories, and a way to write configuration into them."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.cache = top / "runtime/longshore/cache/settings.json"

    def write(self, path: str, text: str) -> Path:
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def conf(self, text: str) -> Path:
        return self.write("config/containers/containers.conf", text)


class _OtherUser:
    """The module `os` for a user to whom belongs what belongs to us."""

    def __init__(self, uid: int) -> None:
        self._uid = uid

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def geteuid(self) -> int:
        return self._uid

    def lstat(self, path: str) -> os.stat_result:
        return self.stat(path)

    def stat(self, path: str) -> os.stat_result:
        found = os.stat(path)
        if found.st_uid != os.geteuid():
            return found
        return os.stat_result((*found[:4], USER, *found[5:]), {"st_mtime_ns": found.st_mtime_ns})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Be a user whose files are all below one directory; the system's own are left out."""
    for name in ("CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir()
    for module in (config, userns):
        monkeypatch.setattr(module, "os", _OtherUser(USER))
    real_files = config._files
    monkeypatch.setattr(
        config, "_files",
        lambda: [f for f in real_files() if not f.startswith(("/usr/", "/etc/"))],
    )  # fmt: skip
    return Home(tmp_path)


# --- directories -------------------------------------------------------------------------------


def test_directories_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "os", _OtherUser(0))
    assert (config._root(), config._run_root("")) == ("/var/lib/longshore", "/run/longshore")
    assert config._run_root("/run/libpod") == "/run/libpod/longshore"


def test_directories_of_a_user(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (config._root(), config._run_root("")) == (
        f"{home.top}/data/longshore",
        f"{home.top}/runtime/longshore",
    )
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert (config._root(), config._run_root("")) == (
        f"{home.top}/home/.local/share/longshore",
        f"/tmp/longshore-{USER}",
    )


def test_directories_that_are_asked_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.conf('[engine]\ntmp_dir = "/from/conf"\n')
    assert load().run_root == "/from/conf/longshore"
    monkeypatch.chdir(home.top)
    settings = load(root="a", run_root=str(home.top / "b/../c"))
    assert (settings.root, settings.run_root) == (f"{home.top}/a", f"{home.top}/c")


# --- which files -------------------------------------------------------------------------------


def test_the_order_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for module in (config, userns):
        monkeypatch.setattr(module, "os", _OtherUser(USER))
    drop_ins = tmp_path / "containers/containers.conf.d"
    drop_ins.mkdir(parents=True)
    for name in ("20-b.conf", "10-a.conf", "README", "30-c.conf.bak"):
        (drop_ins / name).touch()
    monkeypatch.setattr(
        config, "_drop_ins",
        lambda d, real=config._drop_ins: ["/etc/drop.conf"] if d.startswith("/etc") else real(d),
    )  # fmt: skip
    system = [
        "/usr/share/containers/containers.conf", "/etc/containers/containers.conf",
        "/etc/drop.conf",
    ]  # fmt: skip
    own = [
        f"{tmp_path}/containers/containers.conf",
        f"{drop_ins}/10-a.conf",
        f"{drop_ins}/20-b.conf",
    ]
    assert config._files() == system + own
    monkeypatch.setenv("CONTAINERS_CONF_OVERRIDE", "/over")
    assert config._files() == [*system, *own, "/over"]
    only = tmp_path / "only"
    only.touch()
    monkeypatch.setenv("CONTAINERS_CONF", str(only))
    assert config._files() == [str(only), "/over"]
    for module in (config, userns):
        monkeypatch.setattr(module, "os", _OtherUser(0))
    monkeypatch.delenv("CONTAINERS_CONF")
    assert config._files() == [*system, "/over"]


def test_later_files_win_key_by_key(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.conf('[engine]\nruntime = "crun"\nstop_timeout = 3\n[containers]\npids_limit = 5\n')
    home.write("config/containers/containers.conf.d/1.conf", '[engine]\nruntime = "runc"\n')
    home.write("config/containers/containers.conf.d/2.conf", "[containers]\npids_limit = 0\n")
    settings = load()
    assert (settings.runtime, settings.stop_timeout, settings.pids_limit) == ("runc", 3, 0)
    only = home.write("only.conf", '[engine]\ncgroup_manager = "cgroupfs"\n')
    monkeypatch.setenv("CONTAINERS_CONF", str(only))
    assert (load().runtime, load().cgroup_manager) == ("", "cgroupfs")
    over = home.write("over.conf", '[engine]\nruntime = "runsc"\n')
    monkeypatch.setenv("CONTAINERS_CONF_OVERRIDE", str(over))
    assert (load().runtime, load().cgroup_manager) == ("runsc", "cgroupfs")


def test_no_file_at_all(home: Home) -> None:
    settings = load()
    assert settings == Settings(root=settings.root, run_root=settings.run_root)


def test_every_key(home: Home) -> None:
    home.conf("""
[engine]
runtime = "crun"
conmon_path = ["/a/conmon", "/b/conmon"]
conmon_env_vars = ["A=1"]
cgroup_manager = "systemd"
no_pivot_root = true
enable_port_reservation = false
stop_timeout = 7
unknown = "is fine"
hooks_dir = ["/h", "/i"]
cdi_spec_dirs = ["/c"]
[engine.runtimes]
crun = ["/x/crun", "/y/crun"]
[engine.runtimes_flags]
crun = ["debug", "x=y"]
[containers]
log_size_max = 1000
log_driver = "k8s-file"
seccomp_profile = "/s.json"
default_capabilities = ["CHOWN"]
default_sysctls = ["net.ipv4.ping_group_range=0 0"]
default_ulimits = ["nofile=1:2"]
env = ["B=2"]
pids_limit = 9
shm_size = "1m"
init_path = "/init"
[network]
default_network = "x"
""")
    settings = load()
    assert settings == Settings(
        root=settings.root,
        run_root=settings.run_root,
        runtime="crun",
        runtimes={"crun": ["/x/crun", "/y/crun"]},  # type: ignore[dict-item]
        runtimes_flags={"crun": ["debug", "x=y"]},  # type: ignore[dict-item]
        hooks_dirs=("/h", "/i"),
        cdi_spec_dirs=("/c",),
        conmon_paths=("/a/conmon", "/b/conmon"),
        conmon_env=("A=1",),
        cgroup_manager="systemd",
        no_pivot_root=True,
        reserve_ports=False,
        stop_timeout=7,
        log_size_max=1000,
        log_driver="k8s-file",
        seccomp_profile="/s.json",
        default_capabilities=("CHOWN",),
        default_sysctls=("net.ipv4.ping_group_range=0 0",),
        default_ulimits=("nofile=1:2",),
        default_env=("B=2",),
        pids_limit=9,
        shm_size="1m",
        init_path="/init",
    )
    assert load() == settings, "and the same from the cache"


def test_every_key_is_a_field() -> None:
    names = [name for name, _ in config._KEYS.values()]
    assert len(set(names)) == len(names)
    assert set(names) - {"tmp_dir"} <= set(Settings._fields)


def test_lists_are_replaced_or_grow(home: Home) -> None:
    home.conf('[containers]\nenv = ["A=1"]\ndefault_ulimits = ["nofile=1"]\n')
    home.write(
        "config/containers/containers.conf.d/1.conf",
        '[containers]\nenv = ["B=2", {append=true}]\ndefault_ulimits = ["nproc=1"]\n',
    )
    home.write(
        "config/containers/containers.conf.d/2.conf",
        '[containers]\nenv = ["C=3", {append=true}]\ndefault_sysctls = ["a=b", {append=false}]\n',
    )
    settings = load()
    assert settings.default_env == ("A=1", "B=2", "C=3")
    assert settings.default_ulimits == ("nproc=1",)
    assert settings.default_sysctls == ("a=b",)


def test_tables_of_runtimes_are_joined(home: Home) -> None:
    home.conf('[engine.runtimes]\ncrun = ["/a"]\nrunc = ["/b"]\n')
    home.write("config/containers/containers.conf.d/1.conf", '[engine.runtimes]\ncrun = ["/c"]\n')
    assert load().runtimes == {"crun": ["/c"], "runc": ["/b"]}


# --- what makes no sense -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("[engine]\nruntime = 5", "[engine] runtime = 5", "it must be a string"),
        ("[engine]\nconmon_path = '/a'", "[engine] conmon_path = '/a'", "a list of strings"),
        ("[engine]\nconmon_path = [1]", "[engine] conmon_path = [1]", "a string"),
        ("[engine]\nno_pivot_root = 1", "[engine] no_pivot_root = 1", "true or false"),
        ("[engine]\nstop_timeout = true", "[engine] stop_timeout = True", "a whole number"),
        ("[engine]\nstop_timeout = 1.5", "[engine] stop_timeout = 1.5", "a whole number"),
        ("[engine]\nruntimes = 'x'", "[engine] runtimes = 'x'", "a table"),
        ("[engine.runtimes]\ncrun = 'x'", "[engine] runtimes = {'crun': 'x'}", "a list of strings"),
        ("[engine]\nhooks_dir = ['x']", "[engine] hooks_dir = ['x']", "not an absolute path"),
        ("[engine]\ncdi_spec_dirs = ['x']", "cdi_spec_dirs = ['x']", "not an absolute path"),
        ("[engine.runtimes_flags]\ncrun = ['--x']", "runtimes_flags", "begins with '-'"),
        ("[engine]\ncgroup_manager = 'runit'", "cgroup_manager = 'runit'", "manager 'runit'"),
        ("[containers]\npids_limit = 'many'", "pids_limit = 'many'", "a whole number"),
    ],
)
def test_a_value_that_makes_no_sense(home: Home, text: str, key: str, why: str) -> None:
    file = home.conf(text)
    with pytest.raises(InvalidArgument) as caught:
        load()
    for words in (str(file), key, why):
        assert words in str(caught.value)
    assert caught.value.hint
    assert not home.cache.exists()


@pytest.mark.parametrize("text", [b"[engine", b"a = \xff", b"engine = 5\n", b"[[containers]]\n"])
def test_a_file_that_makes_no_sense(home: Home, text: bytes) -> None:
    file = home.conf("")
    file.write_bytes(text)
    with pytest.raises(InvalidArgument) as caught:
        load()
    assert str(file) in str(caught.value)


def test_cgroup_managers() -> None:
    assert check_cgroup_manager("cgroupfs") == "cgroupfs"
    assert check_cgroup_manager("systemd") == "systemd"
    for name in ("", "Systemd", "none"):
        with pytest.raises(InvalidArgument, match=f"no cgroup manager {name!r}") as caught:
            check_cgroup_manager(name)
        assert caught.value.hint == "it is cgroupfs or systemd"


# --- the cache -----------------------------------------------------------------------------------


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was read, each time that files were read."""
    seen: list[list[str]] = []
    real = config._read_all

    def read(files: list[str]) -> object:
        seen.append(files)
        return real(files)

    monkeypatch.setattr(config, "_read_all", read)
    return seen


def test_unchanged_files_are_read_once(home: Home, readings: list[list[str]]) -> None:
    home.conf('[engine]\nruntime = "runc"\n')
    assert [load().runtime for _ in range(3)] == ["runc"] * 3
    assert len(readings) == 1
    assert home.cache.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", ["content", "time", "inode", "gone", "drop-in", "override"])
def test_a_change_is_seen(
    home: Home, readings: list[list[str]], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    file = home.conf('[engine]\nruntime = "runc"\n')
    load()
    info = file.stat()
    if change == "content":
        file.write_text('[engine]\nruntime = "crun"  # longer\n')
        os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    elif change == "time":
        file.write_text('[engine]\nruntime = "crun"\n')
        os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    elif change == "inode":
        other = home.write("other", '[engine]\nruntime = "crun"\n')
        os.utime(other, ns=(info.st_atime_ns, info.st_mtime_ns))
        other.rename(file)
    elif change == "gone":
        file.unlink()
    elif change == "drop-in":
        home.write("config/containers/containers.conf.d/1.conf", '[engine]\nruntime = "crun"\n')
    else:
        over = home.write("over.conf", '[engine]\nruntime = "crun"\n')
        monkeypatch.setenv("CONTAINERS_CONF_OVERRIDE", str(over))
    assert load().runtime == ("" if change == "gone" else "crun")
    assert len(readings) == 2


@pytest.mark.parametrize("data", ["", "{", "[]", "5", '{"format": 1}', '{"format": ["1"]}'])
def test_a_damaged_cache_is_not_used(home: Home, readings: list[list[str]], data: str) -> None:
    home.conf('[engine]\nruntime = "runc"\n')
    load()
    home.cache.write_text(data)
    assert load().runtime == "runc"
    assert len(readings) == 2
    load()
    assert len(readings) == 2, "and it was mended"


def test_the_cache_of_another_version_is_not_used(home: Home, readings: list[list[str]]) -> None:
    home.conf("")
    load()
    kept = json.loads(home.cache.read_text())
    kept["format"].append("colour")
    kept["settings"]["colour"] = "green"
    home.cache.write_text(json.dumps(kept))
    load()
    assert len(readings) == 2


def test_somebody_elses_cache_is_neither_used_nor_written(
    home: Home, readings: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run directory below /tmp can have been made by anybody."""
    home.conf('[engine]\nruntime = "runc"\n')
    load()
    kept = home.cache.read_text()
    home.cache.write_text(kept.replace("runc", "evil"))
    assert load().runtime == "evil"
    monkeypatch.setattr(files, "os", _OtherUser(USER + 1))
    assert load().runtime == "runc"
    assert "evil" in home.cache.read_text()


def test_nothing_is_written_into_somebody_elses_run_directory(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.cache.parent.parent.mkdir(parents=True)
    monkeypatch.setattr(files, "os", _OtherUser(USER + 1))
    load()
    assert not home.cache.parent.exists()


def test_a_cache_that_cannot_be_written_does_no_harm(home: Home) -> None:
    home.conf('[engine]\nruntime = "runc"\n')
    home.write("runtime/longshore", "in the way")
    assert load().runtime == "runc"


_MODULES = """
import os, sys
sys.path.insert(0, sys.argv[1])
from longshore import config
settings = config.load(run_root=sys.argv[2])
print(settings.runtime, "tomllib" in sys.modules)
"""


def test_a_cache_hit_does_not_import_tomllib(tmp_path: Path) -> None:
    conf = tmp_path / "containers.conf"
    conf.write_text('[engine]\nruntime = "runc"\n')
    package = str(Path(config.__file__).parent.parent)
    said = [
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MODULES, package, str(tmp_path / "run")],
            env={"CONTAINERS_CONF": str(conf)}, capture_output=True, text=True, check=True,
        ).stdout
        for _ in range(2)
    ]  # fmt: skip
    assert said == ["runc True\n", "runc False\n"]


def test_a_file_that_was_named_and_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "none"))
    with pytest.raises(InvalidArgument, match="not there"):
        config.load(run_root=str(tmp_path))
