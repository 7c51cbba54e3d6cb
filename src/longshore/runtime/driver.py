"""Run one OCI runtime binary. Stateless: it never decides whether an operation makes sense.

What conmon runs for us (create, restore, monitored exec) is offered as argv, as plain values; what
we run ourselves is a call. Every container id goes behind the verb's options, and ids never begin
with "-". Flags: runc(8), crun(1), and the runtime command line interface of the OCI
(github.com/opencontainers/runtime-tools, docs/command-line-interface.md).
"""

from __future__ import annotations

import json
import os
import re

from longshore._value import Value
from longshore.errors import ProgramNotFound, RuntimeFailed
from longshore.linux.files import remove_file, remove_tree
from longshore.linux.mounts import mount_points, unmount
from longshore.linux.procs import Call, Completed, clean_env, memory_file, run
from longshore.runtime.failures import explain, has_error
from longshore.runtime.filters import FilterCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from longshore.oci.schema import Resources, Spec

# "I do not know this container": runc and newer crun; crun 1.8 names the file or the directory
# that it misses.
_UNKNOWN = (
    r"does not exist"
    r"|(?:error opening file `[^`]*/status`|cannot open directory ['`][^'`]*['`]): No such file"
)
# What execve(2) has refused, of an exec: "exec PATH: why" (runc; crun 1.28 with backticks), or
# "exec: why" (crun 1.21), and the codes that come with it (255 since runc 1.2).
_LATE = rb"exec(?: `([^`\n]+)`| ([^`\n][^\n]*))?: [^\n:]+\n"
LATE_CODES = (1, 255)
_STATE_TIMEOUT = 10.0  # seconds
_SYSTEMD = "--systemd-cgroup"
EXEC = "run a process in"  # what an error says cannot be done


class RuntimeState(Value):
    """What the runtime says of a container (runtime-spec, "State"). pid is 0 when it has ended."""

    status: str  # creating, created, running, paused, stopped: as the runtime spells it
    pid: int
    bundle: str


class Runtime:
    """One runtime binary with its state directory; ``name`` is what people call it."""

    __slots__ = (
        "_entering",
        "_filters", "_global", "_json_log", "_timeout", "cache", "flags", "name", "path",
        "state_dir",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        path: str,
        *,
        state_dir: str,
        cache_dir: str,
        flags: Sequence[str] = (),
        systemd: bool = False,
        timeout: float | None = None,
        json_log: bool = True,
        entering: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """``state_dir`` is its --root; ``flags`` are more global flags, from the user.

        ``systemd``: it is to have the cgroups made by systemd. ``cache_dir`` is where what it was
        asked is kept. ``timeout`` is in seconds, for each call: a runtime that hangs is killed
        then. ``entering`` gives the words before each command line that lead to where it can work.
        """
        self._entering = entering
        self._timeout = timeout
        self._json_log = json_log
        self.cache = cache_dir
        self._filters = FilterCache(cache_dir, path)
        self.name = name
        self.path = path
        self.state_dir = state_dir
        self.flags = tuple(flags)
        self._global = ("--root", state_dir, *((_SYSTEMD,) if systemd else ()), *flags)

    # argv for others to run

    def global_args(self, log: str | None = None, *, by_conmon: bool = False) -> tuple[str, ...]:
        """Return the flags before the verb; ``log`` asks for a JSON log in that file.

        ``by_conmon``: without what conmon's -s adds. One without ``json_log`` (containers.conf,
        runtime_supports_json) is not asked for a log: what it has to say is on its stderr.
        """
        flags = self._global
        if by_conmon:
            flags = tuple(flag for flag in flags if flag != _SYSTEMD)
        if log is None or not self._json_log:
            return flags
        return (*flags, "--log-format=json", f"--log={log}")

    def start_args(self, container_id: str) -> tuple[str, ...]:
        """Start a created container."""
        return ("start", container_id)

    def state_args(self, container_id: str) -> tuple[str, ...]:
        """Print a container's state as JSON."""
        return ("state", container_id)

    def kill_args(self, container_id: str, number: int, *, everyone: bool) -> tuple[str, ...]:
        """Signal a container's init, or every process of it."""
        return ("kill", *(["--all"] if everyone else []), container_id, str(number))

    def delete_args(self, container_id: str, *, force: bool) -> tuple[str, ...]:
        """Delete what the runtime keeps of a container; with force, kill it before."""
        return ("delete", *(["--force"] if force else []), container_id)

    def update_args(self, container_id: str, resources: str) -> tuple[str, ...]:
        """Change a container's limits to those that a file names (runtime-spec, "resources")."""
        return ("update", f"--resources={resources}", container_id)

    def exec_args(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        cwd: str,
        pid_file: str,
        tty: bool = False,
        user: str = "",
        no_new_privileges: bool = False,
        capabilities: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> tuple[str, ...]:
        """Run a second process in a container. Option and value are one word, so that a value
        that begins with "-" stays a value."""
        return (
            "exec",
            f"--cwd={cwd}",
            f"--pid-file={pid_file}",
            "--tty" if tty else "--tty=false",
            *([f"--user={user}"] if user else []),
            *(["--no-new-privs"] if no_new_privileges else []),
            *(f"--cap={name}" for name in capabilities),
            *(f"--env={name}={value}" for name, value in (env or {}).items()),
            container_id,
            *command,
        )

    def process_args(
        self,
        container_id: str,
        process: str,
        *,
        pid_file: str,
        cgroup: str = "",
        preserve_fds: int = 0,
        inner_pid_file: str = "",
        detach: bool = False,
    ) -> tuple[str, ...]:
        """Run the process that a file describes (runtime-spec, "process") in a container.

        ``cgroup`` is one below the container's own that exists already: crun 1.8 and runc 1.1 have
        it, on cgroup v1 too; see `confines`. ``inner_pid_file`` is for one that `sandboxes`: it
        writes the pid there that its own kernel has given. ``detach``: it ends when the process has
        begun, and has given it its own streams.
        """
        return (
            "exec",
            f"--process={process}",
            f"--pid-file={pid_file}",
            *(["--detach"] if detach else []),
            *self.monitored_args(
                cgroup=cgroup, preserve_fds=preserve_fds, inner_pid_file=inner_pid_file
            ),
            container_id,
        )

    def monitored_args(
        self, *, cgroup: str = "", preserve_fds: int = 0, inner_pid_file: str = ""
    ) -> tuple[str, ...]:
        """Return what conmon is to add to an `exec` that it runs; the rest it knows itself."""
        return (
            *([f"--internal-pid-file={inner_pid_file}"] if inner_pid_file else []),
            *([f"--cgroup={cgroup}"] if cgroup else []),
            *([f"--preserve-fds={preserve_fds}"] if preserve_fds else []),
        )

    def confines(self) -> bool:
        """Whether an exec can be given a cgroup of its own. Asks the binary when it is new."""
        from longshore.runtime.features import takes_flag

        return takes_flag(self.path, "exec", "--cgroup", cache_dir=self.cache)

    def copies_streams(self) -> bool:
        """Whether it stays between the streams of an exec and its caller, unless it detaches.

        It then ends only when nobody holds the streams any more. No flag says so: runc does it, and
        has a flag that no other runtime has. Asks the binary when it is new.
        """
        from longshore.runtime.features import takes_flag

        return takes_flag(self.path, "exec", "--ignore-paused", cache_dir=self.cache)

    def exec_has_terminal(self) -> bool:
        """Whether conmon can have a terminal from an exec; it asks for one with --tty."""
        from longshore.runtime.features import takes_flag

        return takes_flag(self.path, "exec", "--tty", cache_dir=self.cache)

    def sandboxes(self) -> bool:
        """Whether processes run on a kernel of the runtime's own, and are none of the host's.

        gVisor: the pid of a container is that of its sandbox, a pause is nothing that a freezer
        shows, and what is left of an exec here is a client. Asks the binary when it is new.
        """
        from longshore.runtime.features import takes_flag

        return takes_flag(self.path, "exec", "--internal-pid-file", cache_dir=self.cache)

    def sandbox_flags(self, network: str) -> tuple[str, ...]:
        """Return what one that `sandboxes` has to be told with each call for a container.

        Its writes go to the root that it was given and not to a layer of its own; and what its
        network is ("none", "host" …), because it reads only what is in a network namespace that
        somebody has furnished. Without a network of its own or the host's it would refuse to
        start in Linux 6.18 (runsc 20240729, measured).
        """
        from longshore.runtime.features import takes_flag

        found: list[str] = []
        if takes_flag(self.path, "", "--overlay2", cache_dir=self.cache):
            found.append("--overlay2=none")
        mode = {"": "none", "private": "none"}.get(network, network)
        if mode in ("none", "host") and takes_flag(
            self.path, "", "--network", cache_dir=self.cache
        ):
            found.append(f"--network={mode}")
        return tuple(found)

    def checkpoint_args(
        self,
        container_id: str,
        *,
        image_path: str,
        work_path: str,
        leave_running: bool = False,
        tcp_established: bool = False,
    ) -> tuple[str, ...]:
        """Write a checkpoint with CRIU."""
        return (
            "checkpoint",
            "--image-path",
            image_path,
            "--work-path",
            work_path,
            *(["--leave-running"] if leave_running else []),
            *(["--tcp-established"] if tcp_established else []),
            container_id,
        )

    # what makes a create faster

    def adapt(self, spec: Spec) -> str | None:
        """Put into a spec what this runtime has worked out before; a token for `learn`, or None.

        And take out what it does not want to be told twice.
        """
        linux = spec["linux"]
        if "uidMappings" in linux and any(
            space["type"] == "user" and "path" in space for space in linux.get("namespaces", ())
        ):
            from longshore.runtime.features import reads_maps

            if reads_maps(self.path):
                linux.pop("uidMappings")
                linux.pop("gidMappings", None)
        return self._filters.give(spec)

    def learn(self, token: str, container_id: str) -> None:
        """Keep what the runtime has worked out in the create that has just succeeded."""
        self._filters.keep(token, f"{self.state_dir}/{container_id}")

    # calls

    def start(self, container_id: str, *, log: str, subject: str = "") -> None:
        """Start a created container's program. ``subject`` is what an error is to call it.

        The runtime's environment has no NOTIFY_SOCKET: with one crun 1.8 and runc 1.1 return when
        the program has said READY=1, or has ended (measured).
        """
        self._call(self.start_args(container_id), "start", container_id, log=log, subject=subject)

    def state(self, container_id: str) -> RuntimeState | None:
        """Return what the runtime knows of a container; None when it knows nothing."""
        argv = self._argv(self.state_args(container_id), None)
        # Asked while nothing is locked, by `ps` too: a runtime that hangs must not hold that up.
        done = run(argv, env=clean_env(), timeout=_STATE_TIMEOUT)
        if done.returncode != 0:
            if re.search(_UNKNOWN, done.words):
                return None
            raise self._failed(done, "state", container_id[:12], None)
        try:
            data = json.loads(done.stdout)
            return RuntimeState(
                status=str(data["status"]),
                pid=max(0, int(data.get("pid", 0))),  # runsc says -1
                bundle=str(data.get("bundle", "")),
            )
        except (ValueError, KeyError, TypeError) as err:
            raise RuntimeFailed(
                f"{self.name} state {container_id}: its answer is not a state: {done.stdout!r}",
                argv=argv,
                returncode=0,
                stdout=done.stdout.decode("utf-8", "replace"),
            ) from err

    def kill(self, container_id: str, number: int, *, everyone: bool = False) -> None:
        """Send a signal by number."""
        self._call(self.kill_args(container_id, number, everyone=everyone), "kill", container_id)

    def delete(self, container_id: str, *, force: bool = True) -> None:
        """Delete what the runtime keeps; what it does not know is fine."""
        self.deleting(container_id, force=force)()

    def deleting(self, container_id: str, *, force: bool = True) -> Callable[[], None]:
        """Begin a `delete`; what is returned waits for its end, and must be called."""
        call = Call(self._argv(self.delete_args(container_id, force=force), None))
        return lambda: self._deleted(call.finish(self._timeout), container_id)

    def _deleted(self, done: Completed, container_id: str) -> None:
        if done.returncode != 0 and not re.search(_UNKNOWN, done.words):
            raise self._failed(done, "delete", container_id[:12], None)

    def inner_processes(self, container_id: str) -> dict[int, int]:
        """Return pid → parent of what lives in a container of one that `sandboxes`.

        The pids are those of its own kernel. After its end there are none.
        """
        done = run(self._argv(("ps", container_id), None), env=clean_env(), timeout=_STATE_TIMEOUT)
        rows = [line.split() for line in done.stdout.decode("utf-8", "replace").splitlines()]
        if done.returncode != 0 or not rows or rows[0][1:3] != ["PID", "PPID"]:
            return {}
        return {int(row[1]): int(row[2]) for row in rows[1:] if len(row) > 2}

    def kill_inner(self, container_id: str, pid: int, number: int) -> None:
        """Signal one process of `inner_processes`; RuntimeFailed when it has ended."""
        self._call(("kill", f"--pid={pid}", container_id, str(number)), "kill", container_id)

    def forget(self, container_id: str) -> None:
        """Remove what the runtime keeps of a container, without asking it.

        After a reboot its own `delete --force` would look for a process whose pid is another's by
        now; after a create that was killed it does not know what it has begun (runc 1.1 even
        leaves its own binary mounted there).
        """
        directory = f"{self.state_dir}/{container_id}"
        if not os.path.isdir(directory):
            self._forget_files(container_id)
            return
        for point in mount_points():
            if point.path.startswith(f"{directory}/"):
                unmount(point.path, lazy=True)
        remove_tree(directory)

    def _forget_files(self, container_id: str) -> None:
        """Remove the files of one that makes no directory a container: runsc."""
        begin = (f"{container_id}_sandbox:", f"runsc-{container_id}.")
        names = os.listdir(self.state_dir) if os.path.isdir(self.state_dir) else []
        for name in names:
            if name.startswith(begin):
                remove_file(f"{self.state_dir}/{name}")

    def is_call(self, argv: Sequence[str], container_id: str) -> bool:
        """Whether a command line is a call of this runtime for a container."""
        if argv and os.path.basename(argv[0]) == "env":  # conmon may run it through env(1)
            return self.path in argv and container_id in argv
        return bool(argv) and argv[0] == self.path and container_id in argv

    def pause(self, container_id: str) -> None:
        """Freeze every process of a container."""
        self._call(("pause", container_id), "pause", container_id)

    def resume(self, container_id: str) -> None:
        """Let a paused container go on."""
        self._call(("resume", container_id), "resume", container_id)

    def updates(self) -> bool:
        """Whether it can change the limits of what runs. Asks the binary when it is new."""
        from longshore.runtime.features import takes_flag

        return takes_flag(self.path, "update", "--resources", cache_dir=self.cache)

    def update(
        self,
        container_id: str,
        resources: Resources,
        *,
        subject: str = "",
        timeout: float | None = None,
    ) -> None:
        """Change the limits that are named, and no other. ``timeout`` in seconds, or its own.

        Some may be changed when RuntimeFailed comes, and some ignored without one.
        """
        fd = memory_file("resources", json.dumps(resources).encode())
        try:
            argv = self._argv(self.update_args(container_id, f"/proc/self/fd/{fd}"), None)
            limit = self._timeout if timeout is None else timeout
            done = run(argv, env=clean_env(), timeout=limit, pass_fds=(fd,))
        finally:
            os.close(fd)
        if done.returncode != 0:
            raise self._failed(done, "update", subject or container_id[:12], None)

    def version(self) -> str:
        """Return the runtime's own version text, whole."""
        done = run([self.path, "--version"], timeout=10)
        return done.stdout.decode("utf-8", "replace").strip() or done.words

    def failed(
        self, words: str, verb: str, subject: str, *, log: str | None, program: str = ""
    ) -> RuntimeFailed:
        """Turn what the runtime said (to conmon, say) into an error of the right class."""
        return explain(self.name, verb, subject, words, log=_read_log(log), program=program)

    def exec_failed(
        self, subject: str, program: str, returncode: int, *, log: str, words: bytes
    ) -> tuple[RuntimeFailed | None, str]:
        """Tell whether the runtime could not run a program, from its exit code and its log.

        Returns (error, ""), or (None, PROGRAM) when this was not executed or has itself printed
        ``words`` and nothing else: what execve(2) says goes to the program's stderr, and not to the
        log (runc 1.1, crun 1.21; crun 1.8 logs it). (None, "") when the program ran.
        """
        said = _read_log(log) if returncode > 0 else ""
        if has_error(said):
            return explain(self.name, EXEC, subject, "", log=said, program=program), ""
        late = re.fullmatch(_LATE, words) if returncode in LATE_CODES else None
        if late is None:
            return None, ""
        return None, os.fsdecode(late[1] or late[2] or b"") or program

    def argv(self, args: Sequence[str], log: str | None = None) -> list[str]:
        """Return a whole command line, to be run by the caller."""
        return self._argv(args, log)

    def _argv(self, args: Sequence[str], log: str | None) -> list[str]:
        entering = self._entering()
        if entering and not os.access(self.path, os.X_OK):
            # else another program would fail to execute it, and would say so in its own way
            raise ProgramNotFound(
                f"cannot run {self.path}: it is not there, or is not executable", argv=[self.path]
            )
        return [*entering, self.path, *self.global_args(log), *args]

    def _call(
        self,
        args: Sequence[str],
        verb: str,
        container_id: str,
        *,
        log: str | None = None,
        subject: str = "",
    ) -> None:
        argv = self._argv(args, log)
        done = run(argv, env=clean_env(), timeout=self._timeout)
        if done.returncode != 0:
            raise self._failed(done, verb, subject or container_id[:12], log)

    def _failed(self, done: Completed, verb: str, subject: str, log: str | None) -> RuntimeFailed:
        error = explain(self.name, verb, subject, done.words, log=_read_log(log))
        error.argv = done.argv
        error.returncode = done.returncode
        error.stdout = done.stdout.decode("utf-8", "replace")
        error.stderr = done.stderr.decode("utf-8", "replace")
        return error


def _read_log(path: str | None) -> str:
    if path is None or not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
