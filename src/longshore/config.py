"""containers.conf and the environment, read once into one frozen `Settings`.

The files and their order are those of containers.conf(5). Reading TOML costs several milliseconds
of imports, so the result is kept in the run directory and used again while every file it came from
is unchanged (path, inode, size and modification time).
"""

from __future__ import annotations

import json
import os

from longshore._value import Value, is_list, is_table
from longshore.errors import InvalidArgument
from longshore.linux import userns
from longshore.linux.files import exposed, make_directory, read_file, write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

CGROUP_MANAGERS = ("cgroupfs", "systemd")
DEFAULT_HOOKS_DIRS = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")


class Settings(Value):
    """What containers.conf and the environment say; "" or () where they say nothing."""

    root: str  # durable: records, logs, layers
    run_root: str  # volatile: bundles, sockets, exit files
    runtime: str = ""
    runtimes: Mapping[str, tuple[str, ...]] = {}  # name → paths to look at
    runtimes_flags: Mapping[str, tuple[str, ...]] = {}  # name → global flags, without "--"
    runtimes_json: tuple[str, ...] | None = None  # those with --log-format=json; None: all
    runtimes_kvm: tuple[str, ...] = ()  # those whose containers are virtual machines
    hooks_dirs: tuple[str, ...] = ()  # the later the stronger; () is DEFAULT_HOOKS_DIRS, for root
    cdi_spec_dirs: tuple[str, ...] = ("/etc/cdi", "/var/run/cdi")  # the later the stronger
    conmon_paths: tuple[str, ...] = ()
    conmon_env: tuple[str, ...] = ()  # NAME=value
    cgroup_manager: str = ""  # written in a file; there is no default of ours
    log_size_max: int = -1  # bytes
    log_driver: str = ""
    no_pivot_root: bool = False
    reserve_ports: bool = True
    seccomp_profile: str = ""
    apparmor_profile: str = ""
    label: bool = True  # SELinux: containers are labelled
    label_users: bool = False  # SELinux: with the user and role of the caller
    default_capabilities: tuple[str, ...] = ()
    default_sysctls: tuple[str, ...] = ()
    default_ulimits: tuple[str, ...] = ()
    default_env: tuple[str, ...] = ()
    pids_limit: int | None = None
    shm_size: str = ""
    init_path: str = ""
    detach_keys: str = "ctrl-p,ctrl-q"  # "": one cannot detach
    stop_timeout: float = 10.0  # seconds
    create_timeout: float = 240.0  # seconds; the time that a runtime has to create a container
    kill_timeout: float = 5.0  # seconds; the time that the kernel has to finish a SIGKILL
    # seconds; how long an operation waits for another one on the same container, then it is Busy.
    # Longer than any operation that works: each call of a runtime ends within create_timeout.
    busy_timeout: float = 300.0


_DATA_HOME = "longshore"


def load(*, root: str | None = None, run_root: str | None = None) -> Settings:
    """Return the settings of this user on this host.

    Raises InvalidArgument that names the file and the key when a file makes no sense.
    """
    files = _files()
    cache_dir = os.path.abspath(run_root) if run_root else _run_root("")
    cached = _from_cache(cache_dir, files)
    engine: dict[str, Any] = cached if cached is not None else _read_all(files)
    if cached is None:
        _to_cache(cache_dir, files, engine)
    tmp_dir = engine.pop("tmp_dir", "")
    values: dict[str, Any] = {}
    for name, value in engine.items():
        values[name] = tuple(value) if is_list(value) else value
    return Settings(
        **values,
        root=os.path.abspath(root) if root else _root(),
        run_root=os.path.abspath(run_root) if run_root else _run_root(tmp_dir),
    )


def _root() -> str:
    if userns.owner() is None:
        return "/var/lib/longshore"
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return f"{home}/{_DATA_HOME}"


def _run_root(tmp_dir: str) -> str:
    if tmp_dir:
        # containers.conf's tmp_dir is podman's too: a directory below it keeps us apart
        return f"{tmp_dir}/{_DATA_HOME}"
    user = userns.owner()
    if user is None:
        return "/run/longshore"
    directory = runtime_directory(user)
    # Nobody has made one, as on a host without logind. If somebody else has made that, it is
    # refused (`store.Layout.vet`).
    return f"{directory}/{_DATA_HOME}" if directory else f"/tmp/longshore-{user}"


def runtime_directory(uid: int) -> str:
    """Return the directory of a user's volatile files, XDG_RUNTIME_DIR or its like; "" if there is
    none that can be written to."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    for path in (given, f"/run/user/{uid}"):
        if path.startswith("/") and os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
            return path
    return ""


def _files() -> list[str]:
    """Return the files to read, weakest first (containers.conf(5))."""
    only = os.environ.get("CONTAINERS_CONF")
    if only:
        if not os.path.exists(only):
            raise InvalidArgument(f"CONTAINERS_CONF names {only}, which is not there")
        found = [only]
    else:
        found = ["/usr/share/containers/containers.conf", "/etc/containers/containers.conf"]
        found += _drop_ins("/etc/containers/containers.conf.d")
        if userns.owner() is not None:
            home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
            found.append(f"{home}/containers/containers.conf")
            found += _drop_ins(f"{home}/containers/containers.conf.d")
    override = os.environ.get("CONTAINERS_CONF_OVERRIDE")
    if override:
        found.append(override)
    return found


def _drop_ins(directory: str) -> list[str]:
    try:
        names = sorted(n for n in os.listdir(directory) if n.endswith(".conf"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    return [f"{directory}/{name}" for name in names]


def _identity(path: str) -> list[Any]:
    try:
        info = os.stat(path)
    except OSError:
        return [path, 0, 0, 0]
    return [path, info.st_ino, info.st_size, info.st_mtime_ns]


def _from_cache(directory: str, files: list[str]) -> dict[str, Any] | None:
    data = read_file(f"{directory}/cache/settings.json")
    if data is None:
        return None
    try:
        # A run directory below /tmp may be somebody else's: what is in it could name any runtime.
        if exposed(directory) or exposed(f"{directory}/cache"):
            return None
        kept = json.loads(data)
        if kept["format"] == _cache_format() and kept["files"] == [_identity(f) for f in files]:
            settings: dict[str, Any] = kept["settings"]
            return settings
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _cache_format() -> list[str]:
    # The names that are read: another version of Longshore may know others.
    return ["1", *(name for name, _ in _KEYS.values())]


def _to_cache(directory: str, files: list[str], settings: dict[str, Any]) -> None:
    kept = {"format": _cache_format(), "files": [_identity(f) for f in files], "settings": settings}
    try:
        make_directory(directory)
        if not exposed(directory):
            make_directory(f"{directory}/cache")
            write_atomic(f"{directory}/cache/settings.json", json.dumps(kept).encode())
    except OSError:
        return  # a cache that cannot be written costs time and nothing else


def _read_all(files: list[str]) -> dict[str, Any]:
    import tomllib

    merged: dict[str, Any] = {}
    for path in files:
        try:
            data = read_file(path)
        except OSError as err:
            raise InvalidArgument(
                f"{path} cannot be read: {err.strerror}",
                hint="CONTAINERS_CONF names another file, /dev/null for none",
            ) from err
        if data is None:
            continue
        try:
            document = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
            raise InvalidArgument(f"{path} is not valid TOML: {err}") from err
        for (table, key), (name, check) in _KEYS.items():
            section = document.get(table, {})
            if not is_table(section):
                raise InvalidArgument(f"{path}: {table} = {section!r} is not a table")
            value = section.get(key)
            if value is None:
                continue
            try:
                merged[name] = _combined(merged.get(name), value, check(value))
            except (TypeError, ValueError) as err:
                raise InvalidArgument(
                    f"{path}: [{table}] {key} = {value!r} makes no sense: {err}",
                    hint="see containers.conf(5)",
                ) from err
    return merged


def _combined(before: Any, written: Any, value: Any) -> Any:
    """Return what a key is after one more file: a table grows, a list does if it says so."""
    if is_table(before):
        return {**before, **value}
    if is_list(before) and any(is_table(v) and v.get("append") is True for v in written):
        return [*before, *value]
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it must be a string")
    return value


def _texts(value: Any) -> list[str]:
    if not is_list(value):
        raise TypeError("it must be a list of strings")
    # a list may end with {append = true}: see `_combined`
    return [_text(v) for v in value if not is_table(v)]


def _paths_by_name(value: Any) -> dict[str, list[str]]:
    if not is_table(value):
        raise TypeError("it must be a table")
    return {_text(name): _texts(paths) for name, paths in value.items()}


def _directories(value: Any) -> list[str]:
    found = _texts(value)
    for path in found:
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is not an absolute path")
    return found


def _flags_by_name(value: Any) -> dict[str, list[str]]:
    found = _paths_by_name(value)
    for flags in found.values():
        for flag in flags:
            check_runtime_flag(flag)
    return found


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("it must be true or false")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("it must be a whole number")
    return value


def _manager(value: Any) -> str:
    return check_cgroup_manager(_text(value))


def check_cgroup_manager(name: str) -> str:
    """Return a cgroup manager's name, or raise InvalidArgument that names it (S1)."""
    if name not in CGROUP_MANAGERS:
        raise InvalidArgument(
            f"there is no cgroup manager {name!r}", hint="it is cgroupfs or systemd"
        )
    return name


def check_runtime_flag(flag: str) -> str:
    """Return a global flag of a runtime, ``NAME`` or ``NAME=VALUE``, or raise InvalidArgument.

    Those that Longshore gives itself are refused: two of them would be a guess.
    """
    name = flag.partition("=")[0]
    if name in _OWN_FLAGS:
        raise InvalidArgument(f"runtime flag {flag!r}: {_OWN_FLAGS[name]}")
    words = name.replace("-", "").replace("_", "")
    if not (words.isascii() and words.isalnum()) or not flag.isprintable():
        raise InvalidArgument(
            f"runtime flag {flag!r} is not a flag",
            hint="NAME or NAME=VALUE, such as log-level=debug",
        )
    if name.startswith("-"):
        raise InvalidArgument(
            f"runtime flag {flag!r} begins with '-'", hint=f"without it: {flag.lstrip('-')}"
        )
    return flag


_OWN_FLAGS = {
    "root": "Longshore keeps the runtimes' state itself (--runroot)",
    "log": "Longshore reads the runtime's log itself",
    "log-format": "Longshore reads the runtime's log itself",
    "systemd-cgroup": "it follows from --cgroup-manager",
    "cgroup-manager": "it follows from Longshore's own --cgroup-manager",
    "help": "the runtime would do nothing else",
    "usage": "the runtime would do nothing else",
    "version": "the runtime would do nothing else",
}

_KEYS: Mapping[tuple[str, str], tuple[str, Callable[[Any], Any]]] = {
    ("engine", "runtime"): ("runtime", _text),
    ("engine", "runtimes"): ("runtimes", _paths_by_name),
    ("engine", "runtimes_flags"): ("runtimes_flags", _flags_by_name),
    ("engine", "hooks_dir"): ("hooks_dirs", _directories),
    ("engine", "cdi_spec_dirs"): ("cdi_spec_dirs", _directories),
    ("engine", "runtime_supports_json"): ("runtimes_json", _texts),
    ("engine", "runtime_supports_kvm"): ("runtimes_kvm", _texts),
    ("engine", "conmon_path"): ("conmon_paths", _texts),
    ("engine", "conmon_env_vars"): ("conmon_env", _texts),
    ("engine", "cgroup_manager"): ("cgroup_manager", _manager),
    ("engine", "tmp_dir"): ("tmp_dir", _text),
    ("engine", "no_pivot_root"): ("no_pivot_root", _flag),
    ("engine", "enable_port_reservation"): ("reserve_ports", _flag),
    ("engine", "detach_keys"): ("detach_keys", _text),
    ("engine", "stop_timeout"): ("stop_timeout", _whole),
    ("containers", "log_size_max"): ("log_size_max", _whole),
    ("containers", "log_driver"): ("log_driver", _text),
    ("containers", "seccomp_profile"): ("seccomp_profile", _text),
    ("containers", "apparmor_profile"): ("apparmor_profile", _text),
    ("containers", "label"): ("label", _flag),
    ("containers", "label_users"): ("label_users", _flag),
    ("containers", "default_capabilities"): ("default_capabilities", _texts),
    ("containers", "default_sysctls"): ("default_sysctls", _texts),
    ("containers", "default_ulimits"): ("default_ulimits", _texts),
    ("containers", "env"): ("default_env", _texts),
    ("containers", "pids_limit"): ("pids_limit", _whole),
    ("containers", "shm_size"): ("shm_size", _text),
    ("containers", "init_path"): ("init_path", _text),
}
