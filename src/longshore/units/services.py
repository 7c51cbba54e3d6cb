"""Services that run a container of their own, or one that exists: what `generate systemd` prints.

A container that stops by SIGTERM ends with 143, and one that has to be killed with 137; conmon, the
main process, ends with that code. Neither makes a service that was told to stop a failed one. 137
is what an OOM kill leaves, too, so it is a reason to restart wherever there is any.
"""

from __future__ import annotations

from longshore._value import Value
from longshore.units.unitfile import UnitFile, command, folded, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RESTART_POLICIES = (
    "no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always",
)  # fmt: skip
_GRACE = 60  # seconds that stopping may take beyond the container's own
_TERMINATED, _KILLED = "143", "137"


class Service(Value):
    """What a service of `generate systemd` is made of. Times are in seconds."""

    name: str  # of the unit, without .service
    program: tuple[str, ...]  # longshore and its global options
    container: str  # name or id
    stop_timeout: float
    mounts: tuple[str, ...] = ()  # directories that have to be mounted
    pidfile: str = ""  # of conmon, for a container that exists
    run: tuple[tuple[str, ...], ...] = ()  # options and command of `run`, for one that does not
    restart_policy: str = "on-failure"
    restart_sec: float | None = None
    start_timeout: float | None = None
    network: bool = False  # it needs one
    env: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    def unit(self) -> UnitFile:
        """Return the unit."""
        unit = UnitFile()
        waits = ["network-online.target"] if self.network else []
        unit.add("Unit", "Description", f"Longshore {self.name}.service")
        for key, values in (
            ("Wants", [*waits, *self.wants]),
            ("After", [*waits, *self.after]),
            ("Requires", self.requires),
            ("RequiresMountsFor", [quoted(path).replace("%", "%%") for path in self.mounts]),
        ):
            if values:
                unit.add("Unit", key, " ".join(values))
        for word in self.env:
            unit.add("Service", "Environment", quoted(word).replace("%", "%%"))
        unit.add("Service", "Restart", self.restart_policy)
        for key, value in restarting(self.restart_policy):
            unit.add("Service", key, value)
        if self.restart_sec is not None:
            unit.add("Service", "RestartSec", f"{self.restart_sec:g}")
        if self.start_timeout is not None:
            unit.add("Service", "TimeoutStartSec", f"{self.start_timeout:g}")
        unit.add("Service", "TimeoutStopSec", f"{self.stop_timeout + _GRACE:g}")
        for key, value in self._new() if self.run else self._existing():
            unit.add("Service", key, value)
        unit.add("Install", "WantedBy", "default.target")
        return unit

    def _existing(self) -> Sequence[tuple[str, str]]:
        grace = f"{self.stop_timeout:g}"
        stop = command([*self.program, "stop", "-t", grace, self.container], literal=True)
        return (
            ("ExecStart", command([*self.program, "start", self.container], literal=True)),
            ("ExecStop", stop),
            # also when conmon was killed, and the container runs on
            ("ExecStopPost", stop),
            ("Type", "forking"),
            ("PIDFile", self.pidfile.replace("%", "%%")),
        )

    def _new(self) -> Sequence[tuple[str, str]]:
        program = command(self.program, literal=True)
        grace, cidfile = f"{self.stop_timeout:g}", "--cidfile=%t/%n.ctr-id"
        run = " \\\n\t".join((f"{program} run", cidfile, folded(self.run)))
        return (
            # one is left where the machine lost its power
            ("ExecStartPre", "/bin/rm -f %t/%n.ctr-id"),
            ("ExecStart", run),
            ("ExecStop", f"{program} stop --ignore -t {grace} {cidfile}"),
            ("ExecStopPost", f"{program} rm -f --ignore -t {grace} {cidfile}"),
            ("Type", "notify"),
            ("NotifyAccess", "all"),
        )


def restarting(policy: str) -> Sequence[tuple[str, str]]:
    """Return which of the codes that a stop leaves are none of a failure."""
    if policy == "no":
        return (("SuccessExitStatus", _TERMINATED),)
    return (
        ("SuccessExitStatus", f"{_TERMINATED} {_KILLED}"),
        ("RestartForceExitStatus", _KILLED),
    )
