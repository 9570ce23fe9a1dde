"""A SLURM of one node, this machine: munged, slurmctld and slurmd, started in a folder.

Needs no root, no service and no free port in particular. The programs are looked for on the PATH
and in /usr/sbin; ``MOT_LAB_SLURM`` names a folder that Debian's packages were unpacked into
instead, so that nobody else on the machine finds a SLURM:

    apt-get download slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libmunge2 \
        libhwloc15 liblua5.1-0
    for each in *.deb; do dpkg-deb -x "$each" slurm; done
    MOT_LAB_SLURM=$PWD/slurm python -m pytest tests/slurm
"""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

LIBRARIES = "usr/lib/x86_64-linux-gnu"
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=20
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
MessageTimeout=100
TCPTimeout=100
SlurmdTimeout=0
BatchStartTimeout=600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP
"""
# AuthInfo's cred_expire is also how long a requeued job waits, 120 s where nothing is said.
# Timeouts are long: on a busy machine a daemon may get no core for a while.
STARTS_WITHIN, ENDS_WITHIN = 120.0, 60.0  # seconds


class NoSlurm(Exception):
    """Why no SLURM can be had here."""


class Cluster:
    """The daemons and what a client's environment must hold to reach them."""

    def __init__(self, cpus: int = 2) -> None:
        root = os.environ.get("MOT_LAB_SLURM")
        if root is not None and not (Path(root) / "usr" / "bin" / "srun").exists():
            raise NoSlurm(f"MOT_LAB_SLURM is {root}, where there is no usr/bin/srun")
        self.root = Path(root) if root else None
        self.daemons: list[subprocess.Popen[bytes]] = []
        # A socket's path may have 107 characters, which pytest's folders go beyond
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self.environment = self._environment()
        controller, node = free_ports(2)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname().split(".")[0],
                controller_port=controller,
                node_port=node,
                user=getpass.getuser(),
                folder=self.folder,
                plugins=(self.root or Path("/")) / LIBRARIES / "slurm-wlm",
                cpus=cpus,
            )
        )
        # A file of its own, else slurmd looks for /etc/slurm/cgroup.conf and for systemd
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    def _environment(self) -> dict[str, str]:
        environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        if self.root is None:
            return environment
        libraries = self.root / LIBRARIES
        return environment | {
            "PATH": f"{self.root / 'usr' / 'bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{libraries}:{libraries / 'slurm-wlm'}",
        }

    def start(self) -> None:
        """Start the daemons and wait until the node takes jobs.

        Raises:
            NoSlurm: a program is missing, or a daemon does not start; with what it said.
        """
        munge = self._program("munged")
        programs = [self._program("slurmctld"), self._program("slurmd")]
        stepper = self._program("slurmstepd")
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(64))
        places = [f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munge.pid"]
        places += [f"--key-file={key}"]
        places += [f"--log-file={self.folder}/munge.log", f"--seed-file={self.folder}/munge.seed"]
        self._begin([munge, "--foreground", "--force", *places], "munged")
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._begin([programs[0], "-D", "-c"], "slurmctld")
        self._begin([programs[1], "-D", "-d", stepper], "slurmd")
        self._wait(self._is_idle, "slurmd")

    def _program(self, name: str) -> str:
        path = os.environ["PATH"] + ":/usr/sbin"
        if self.root is not None:
            path = str(self.root / "usr" / "sbin")
        found = shutil.which(name, path=path) or shutil.which(f"{name}-wlm", path=path)
        if found is None:
            raise NoSlurm(
                f"there is no {name} on the PATH (Debian: apt-get install slurmctld slurmd munge)"
            )
        return found

    def _begin(self, command: list[str], name: str) -> None:
        with open(self.folder / f"{name}.out", "wb") as said:
            self.daemons.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, **self.environment},
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _is_idle(self) -> bool:
        return self.ask("sinfo", "--noheader", "--format=%T").strip() == "idle"

    def _wait(self, ready, name: str) -> None:  # type: ignore[no-untyped-def]
        until = time.monotonic() + STARTS_WITHIN
        while not ready():
            gone = next((each for each in self.daemons if each.poll() is not None), None)
            if gone is not None or time.monotonic() > until:
                why = f"ended with {gone.returncode}" if gone else f"not up in {STARTS_WITHIN:g} s"
                said = "".join(
                    f"\n{path.name}: {path.read_text(errors='replace')[-800:]}"
                    for path in sorted(self.folder.glob("*.out"))
                    + sorted(self.folder.glob("*.log"))
                )
                raise NoSlurm(f"{name} {why}: {said}")
            time.sleep(0.2)

    def ask(self, program: str, *arguments: str) -> str:
        """What a client of SLURM's says on stdout, whatever its exit code."""
        environment = {**os.environ, **self.environment}
        found = shutil.which(program, path=environment["PATH"])
        if found is None:
            raise NoSlurm(f"there is no {program} on the PATH (Debian: slurm-client)")
        asked = [found, *arguments]
        return subprocess.run(asked, env=environment, capture_output=True, text=True).stdout

    def stop(self) -> None:
        """Cancel all jobs, end the daemons, remove the folder."""
        if len(self.daemons) == 3:
            self.ask("scancel", "--user", getpass.getuser())
            until = time.monotonic() + ENDS_WITHIN  # else processes of jobs outlive the daemons
            while self.ask("squeue", "--noheader") and time.monotonic() < until:
                time.sleep(0.2)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
