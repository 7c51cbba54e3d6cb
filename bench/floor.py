"""The least that a container costs: conmon and the runtime, driven by a script with no mind.

The same config.json as Longshore wrote, the same flags of conmon but the exit command, the same
steps: bundle, conmon, create, start, exit, exit file, delete. No locks, no records, no cgroup of
one's own, nothing checked, nothing left to take over by.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any


class Floor:
    """Runs containers from one template of a spec."""

    def __init__(self, directory: Path, conmon: str, runtime: str, spec: dict[str, Any]) -> None:
        self.directory = directory
        self.conmon = conmon
        self.runtime = runtime
        self.spec = spec
        self.state = str(directory / "state")
        self.serial = 0
        (directory / "exits").mkdir(parents=True)

    def run(self) -> None:
        """One container from its bundle to its removal."""
        self.serial += 1
        container_id = f"longshore-floor-{os.getpid()}-{self.serial}"
        bundle = f"{self.directory}/{container_id}"
        os.mkdir(bundle)
        self.spec["linux"]["cgroupsPath"] = f"/longshore-floor/{container_id}"
        with open(f"{bundle}/config.json", "w", encoding="utf-8") as file:
            json.dump(self.spec, file)
        sync, child_sync = os.pipe()
        child_start, start = os.pipe()
        env = {
            "PATH": os.environ["PATH"],
            "_OCI_SYNCPIPE": str(child_sync),
            "_OCI_STARTPIPE": str(child_start),
        }
        argv = [
            self.conmon, "--api-version", "1", "-c", container_id, "-u", container_id,
            "-n", container_id, "-r", self.runtime, f"--runtime-arg=--root={self.state}",
            "-b", bundle, "-p", f"{bundle}/pidfile", "-P", f"{bundle}/conmon.pid",
            "-l", f"k8s-file:{bundle}/ctr.log", "--exit-dir", f"{self.directory}/exits",
            "--full-attach", "--no-sync-log", "--log-level", "warning",
        ]  # fmt: skip
        conmon = subprocess.Popen(
            argv,
            env=env,
            pass_fds=(child_sync, child_start),
            cwd=bundle,
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        os.close(child_sync)
        os.close(child_start)
        os.write(start, b"\0")
        os.close(start)
        answer = os.read(sync, 65536)
        os.close(sync)
        conmon.wait()
        pid = json.loads(answer)["data"]
        assert pid > 0, answer
        pidfd = os.pidfd_open(pid)
        subprocess.run([self.runtime, f"--root={self.state}", "start", container_id], check=True)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll()
        os.close(pidfd)
        exit_file = f"{self.directory}/exits/{container_id}"
        while not os.path.exists(exit_file):
            time.sleep(0.0002)
        subprocess.run(
            [self.runtime, f"--root={self.state}", "delete", "--force", container_id], check=True
        )
        os.unlink(exit_file)
        shutil.rmtree(bundle)
