#!/usr/bin/env python3
"""A Slurm cluster of virtual nodes on this one host, in a folder of its own: for tests.

    python3 tests/cluster/slurm.py up DIR [--nodes 3] [--base-port 17000]
    python3 tests/cluster/slurm.py down DIR

Needs munged, slurmctld and slurmd (Debian: slurm-wlm, munge), no root, no cgroups, and accounting only where it is asked for; all of it listens on the loopback
interface alone. Clients find it by SLURM_CONF=DIR/slurm.conf.
"""
import argparse
import os
import pathlib
import signal
import subprocess
import time

CONF = """
ClusterName=virtual
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={dir}/run/munge.socket,cred_expire=5
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool.%n
TmpFS={dir}/tmp.%n
SlurmctldPidFile={dir}/run/slurmctld.pid
SlurmdPidFile={dir}/run/slurmd.%n.pid
SlurmctldLogFile={dir}/log/slurmctld.log
SlurmdLogFile={dir}/log/slurmd.%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin={task}
JobAcctGatherType=jobacct_gather/none
{accounting}
JobCompType=jobcomp/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters={select}
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_interval=1
ReturnToService=2
MinJobAge={min_job_age}
KillWait=3
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout=5
TCPTimeout=2
SlurmdParameters=config_overrides
DefMemPerCPU=500
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP PriorityTier=5
PartitionName=low Nodes=n[1-{nodes}] MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=urgent Nodes=n[1-{nodes}] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
DBD = """
AuthType=auth/munge
AuthInfo=socket={dir}/run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
PidFile={dir}/run/slurmdbd.pid
LogFile={dir}/log/slurmdbd.log
"""


class Cluster:
    """The daemons in one folder."""

    def __init__(self, folder, nodes=3, port=17000, cpus=2, min_job_age=300, cgroups=False, accounting=False):
        self.dir = pathlib.Path(folder).resolve()
        self.nodes, self.port, self.cpus, self.min_job_age = nodes, port, cpus, min_job_age
        self.conf = self.dir / "slurm.conf"
        self.accounting = accounting
        # Limits of memory are the kernel's, and need its older interface here.
        self.cgroups = cgroups and pathlib.Path("/sys/fs/cgroup/memory/cgroup.procs").exists()

    def env(self):
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def up(self):
        for name in ["state", "log", "run", "munge"] + [f"{kind}.n{i}" for i in self.numbers() for kind in ("spool", "tmp")]:
            (self.dir / name).mkdir(parents=True, exist_ok=True)
        for name, mode in [(".", 0o755), ("run", 0o755), ("munge", 0o700)]:
            (self.dir / name).chmod(mode)
        key = self.dir / "munge/key"
        if not key.exists():
            key.write_bytes(os.urandom(1024))
            key.chmod(0o400)
        user = subprocess.check_output(["id", "-un"], text=True).strip()
        self.conf.write_text(CONF.format(
            dir=self.dir, user=user, port=self.port, nodes=self.nodes, first=self.port + 1, last=self.port + self.nodes,
            cpus=self.cpus, min_job_age=self.min_job_age, task="task/cgroup" if self.cgroups else "task/none",
            select="CR_CPU_Memory" if self.cgroups else "CR_CPU",
            accounting=f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\nAccountingStoragePort={self.port + 50}\nAccountingStoragePass={self.dir}/run/munge.socket"
            if self.accounting else "AccountingStorageType=accounting_storage/none"))
        if self.cgroups:
            (self.dir / "cgroup.conf").write_text(
                "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nConstrainRAMSpace=yes\nConstrainSwapSpace=yes\nAllowedSwapSpace=0\n")
        # It refuses root, and folders with odd modes above its own, without being told to.
        force = ["--force"] if os.geteuid() == 0 else []
        subprocess.check_call(
            ["munged", *force, f"--key-file={key}", f"--socket={self.dir}/run/munge.socket", f"--pid-file={self.dir}/run/munged.pid",
             f"--log-file={self.dir}/munge/munged.log", f"--seed-file={self.dir}/munge/seed"], env=self.with_sbin(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if self.accounting:
            self.start_accounting(user)
        self.start_controller()
        for i in self.numbers():
            self.start_node(i)
        self.wait_idle()

    def start_accounting(self, user):
        """A database of its own, which listens on a socket alone, and the daemon that keeps what jobs became in it."""
        data, socket = self.dir / "db", self.dir / "run/db.socket"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.check_call(["mariadb-install-db", "--no-defaults", f"--user={user}", f"--datadir={data}",
                               "--auth-root-authentication-method=normal", "--skip-test-db"], **quiet)
        database = ["mariadbd", "--no-defaults", f"--user={user}", f"--datadir={data}", f"--socket={socket}", "--skip-networking",
                    f"--pid-file={self.dir}/run/mariadbd.pid"]
        subprocess.Popen(database, env=self.with_sbin(), start_new_session=True, **quiet)
        text = ("create database slurm_acct_db; create user slurm@localhost identified by 'slurm'; "
                "grant all on slurm_acct_db.* to slurm@localhost;")
        self.until("the database", ["mariadb", "--no-defaults", f"--socket={socket}", "-u", "root", "-e", text])
        conf = self.dir / "slurmdbd.conf"
        conf.touch(mode=0o600)
        conf.write_text(DBD.format(dir=self.dir, user=user, port=self.port + 50))
        subprocess.check_call(["slurmdbd"], env={**self.with_sbin(), "MYSQL_UNIX_PORT": str(socket)}, **quiet)
        self.until("slurmdbd", ["sacctmgr", "-i", "add", "cluster", "virtual"])

    def until(self, what, command, seconds=30):
        end = time.monotonic() + seconds
        while (done := subprocess.run(command, env=self.env(), capture_output=True, text=True, check=False)).returncode:
            if time.monotonic() > end:
                raise RuntimeError(f"{what} does not answer: {done.stdout}{done.stderr}")
            time.sleep(0.3)

    def numbers(self):
        return range(1, self.nodes + 1)

    def with_sbin(self):
        return {**self.env(), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}

    def start_controller(self):
        subprocess.check_call(["slurmctld", "-f", self.conf], env=self.with_sbin(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start_node(self, i):
        subprocess.check_call(["slurmd", "-f", self.conf, "-N", f"n{i}"], env=self.with_sbin(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_idle(self, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            states = self.call("sinfo", "-h", "-N", "-p", "debug", "-o", "%t", "-S", "N").split()
            if states == ["idle"] * self.nodes:
                return
            # Slurm sets a node aside where a job of it took long to die, as those here are made to.
            for i, state in zip(self.numbers(), states):
                if state in ("drain", "down", "down*"):
                    self.call("scontrol", "update", f"nodename=n{i}", "state=resume")
            time.sleep(0.2)
        raise RuntimeError(f"the nodes are not idle: {states}; see {self.dir}/log")

    def call(self, *command):
        done = subprocess.run(command, env=self.env(), capture_output=True, text=True, check=False)
        return done.stdout

    def pid(self, name):
        try:
            return int((self.dir / "run" / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return None

    def kill(self, name, sig=signal.SIGKILL):
        """Ends a daemon: `slurmctld`, `slurmd.n1`, `munged`."""
        pid = self.pid(name)
        if pid:
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass

    def down(self):
        self.call("scancel", "--me", "--quiet")
        time.sleep(0.5)
        for name in [f"slurmd.n{i}" for i in self.numbers()] + ["slurmctld", "slurmdbd", "mariadbd", "munged"]:
            self.kill(name, signal.SIGTERM)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("what", choices=["up", "down"])
    args.add_argument("dir")
    args.add_argument("--nodes", type=int, default=3)
    args.add_argument("--base-port", type=int, default=17000)
    args = args.parse_args()
    cluster = Cluster(args.dir, args.nodes, args.base_port)
    getattr(cluster, args.what)()
    if args.what == "up":
        print(f"export SLURM_CONF={cluster.conf}")


if __name__ == "__main__":
    main()
