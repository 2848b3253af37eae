#!/usr/bin/env python3
"""Stages on a real Slurm of virtual nodes: what each failure does, and that the results stay equal to the bytes.

    python3 tests/cluster/check.py --bin BIN [--part flagship,failures,accounting,sweep] [--data ROWS.tsv.gz] [--stages 200]

  flagship    the flagship pipeline, genuine rows where --data names them, through Slurm and locally: equal digests, the second run all hits
  failures    jobs cancelled, out of time and memory, nodes and controllers that die, runs that die or are left: equal digests
  accounting  a controller that forgets at once, with slurmdbd and MariaDB behind it, where they are installed
  sweep       many small stages over three nodes: wall time, calls of the controller, processor time of the run

Needs munged, slurmctld and slurmd (Debian: slurm-wlm, munge). Ends with 1 where anything is not as it should be.
"""
import argparse
import json
import os
import pathlib
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from slurm import Cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]

TRAINING = """cistage: 1
name: training
params: { epochs: 6, time: 1h }
stages:
  rows: { uses: synthesize, with: { rows: 6000 } }
  split: { uses: split, in: { rows: rows.rows }, with: { test: 0.1 } }
  tokenizer: { uses: train-tokenizer, in: { rows: split.train } }
  train:
    uses: train
    in: { train: split.train, tokenizer: tokenizer.tokenizer }
    resources: { time: "${time}" }
    with: { model: { layers: 2, hidden: 96, heads: 4, intermediate: 256 }, epochs: "${epochs}", batch_size: 32, learning_rate: 1e-3 }
"""
COMMAND = """cistage: 1
name: command
params: { script: "sleep 8", memory: 100MB, time: 1h }
stages:
  work:
    uses: command
    out: { o: o.txt }
    resources: { memory: "${memory}", time: "${time}" }
    with: { argv: [bash, -c, "${script}; echo done > o.txt"] }
"""
SWEEP = """cistage: 1
name: sweep
params: { k: 0 }
stages:
  work:
    uses: command
    out: { o: o.txt }
    matrix: { k: [KS] }
    with: { run: "sleep 1; echo {param.k} > {out.o}" }
"""
SITE = """[slurm]
poll-seconds = 1
lost-seconds = 20
"""


class Problem(Exception):
    pass


def expect(holds, what):
    if not holds:
        raise Problem(what)


class Folder:
    """A folder with a pipeline, and runs in it."""

    def __init__(self, args, cluster, work, name, text, site=SITE):
        self.bin, self.cluster, self.dir = args.bin, cluster, work / name
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        (self.dir / "p.yaml").write_text(text)
        (self.dir / "cistage.toml").write_text(site)

    def command(self, executor, more):
        return [self.bin, "-C", self.dir, "run", "p.yaml", "--executor", executor, "--format", "json", "--yes", *more]

    def start(self, *more, executor="slurm", **options):
        return subprocess.Popen(self.command(executor, more), env=self.cluster.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def run(self, *more, executor="slurm", code=0):
        return self.finish(self.start(*more, executor=executor), code)

    def finish(self, process, code=0):
        out, err = process.communicate(timeout=600)
        self.events = [json.loads(line) for line in out.splitlines() if line]
        self.errors = err
        if code is not None:
            expect(process.returncode == code, f"exit code {process.returncode}, not {code}: {err[-1500:]}")
        return self

    def digests(self):
        ends = [e for e in self.events if e["event"] == "stage-finished"]
        return {f"{e['stage']}.{port}": output["digest"] for e in ends for port, output in e["outputs"].items()}

    def outcomes(self):
        return {e["stage"]: e["outcome"] for e in self.events if e["event"] == "stage-finished"}

    def notes(self):
        return [e["message"] for e in self.events if e["event"] == "note"]

    def places(self):
        return [e["place"] for e in self.events if e["event"] == "placed"]

    def submissions(self):
        return sum(e["submissions"] for e in self.events if e["event"] == "slurm")

    def error(self, stage):
        return next(e["error"] for e in self.events if e["event"] == "stage-finished" and e["stage"] == stage)

    def job(self, timeout=60):
        """Waits until a job runs; gives its folder and its start."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for started in self.dir.glob("cache/scratch/*/job-*/started.json"):
                if not (started.parent / "done.json").exists():
                    return started.parent, json.loads(started.read_text())
            time.sleep(0.1)
        raise Problem("no job started")

    def at_terminal(self, answer):
        """Runs it at a terminal, presses Ctrl-C when its job runs, and gives this answer (or presses again); gives the question."""
        process, terminal = pty.fork()
        if process == 0:
            command = [str(word) for word in self.command("slurm", []) if word not in ("--format", "json")]
            os.execve(command[0], command, self.cluster.env())
        shown = b""

        def read(until):
            nonlocal shown
            end = time.monotonic() + 90
            while not until():
                if select.select([terminal], [], [], 0.1)[0]:
                    try:
                        shown += os.read(terminal, 1 << 16)
                    except OSError:
                        # Its other end was closed.
                        return
                expect(time.monotonic() < end, f"at the terminal: {shown[-1500:].decode(errors='replace')}")

        read(lambda: list(self.dir.glob("cache/scratch/*/state/*.checkpoint")))
        os.write(terminal, b"\x03")
        read(lambda: b"[L/c]" in shown)
        question = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode(errors="replace").splitlines()
        read_until = time.monotonic() + 1.5
        read(lambda: time.monotonic() > read_until)
        os.write(terminal, b"\x03" if answer is None else answer.encode() + b"\n")
        read(lambda: False)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        expect(code == 130, f"exit code {code}: {shown[-1500:].decode(errors='replace')}")
        self.shown = shown
        return next(line.strip() for line in question if "[L/c]" in line)

    def wait_for_checkpoint(self, timeout=90):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if list(self.dir.glob("cache/scratch/*/state/*.checkpoint")):
                return
            time.sleep(0.1)
        raise Problem("no checkpoint was written")

    def training(self):
        """Waits until the training runs and has saved something."""
        self.wait_for_checkpoint()
        return self.job()

    def all_jobs_end(self, timeout=60):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if not self.cluster.call("squeue", "-h").strip():
                return
            time.sleep(0.2)
        raise Problem("jobs are left in the queue: " + self.cluster.call("squeue"))


class Failures:
    """Each method provokes one failure; its docstring says which."""

    def __init__(self, args, cluster, work):
        self.args, self.cluster, self.work = args, cluster, work
        local = self.folder("local", TRAINING).run(executor="local")
        self.expected = local.digests()
        self.seconds = next(e["seconds"] for e in local.events if e["event"] == "stage-finished" and e["stage"] == "train")

    def folder(self, name, text, site=SITE):
        return Folder(self.args, self.cluster, self.work, name, text, site)

    def equal(self, folder):
        expect(folder.digests() == self.expected, "the digests are others than of the local run")

    def undisturbed(self):
        """nothing at all"""
        folder = self.folder("undisturbed", TRAINING).run()
        self.equal(folder)
        again = folder.run()
        self.equal(again)
        expect(set(again.outcomes().values()) == {"hit"} and again.submissions() == 0, "the second run submitted something")
        return f"4 stages, {folder.submissions() or 4} jobs; the second run: all hits, no submission"

    def cancelled_by_somebody(self):
        """scancel of the job, by hand"""
        folder = self.folder("cancelled", TRAINING)
        run = folder.start()
        _, started = folder.training()
        self.cluster.call("scancel", started["job"])
        folder.finish(run, 1)
        error = folder.error("train")
        expect("cancelled" in error, error)
        folder.run()
        expect(any("resumed at step" in note for note in folder.notes()), f"not resumed: {folder.notes()}")
        self.equal(folder)
        return f"failed: {error!r}; the same command resumed"

    def out_of_time(self):
        """a time limit that is too short for the training"""
        # Of a minute the first half is for training, by this much more than the training needs.
        text = TRAINING.replace("epochs: 6", f"epochs: {max(6, round(6 * 45 / self.seconds))}")
        folder = self.folder("time", text)
        expected = self.folder("time-local", text).run(executor="local").digests()
        folder.run("--set", "time=1m")
        expect(folder.digests() == expected, "the digests are others than of the local run")
        resumed = sum("resumed at step" in note for note in folder.notes())
        expect(resumed >= 1, f"never resumed: {folder.notes()}")
        return f"warned, saved, queued again: {resumed} times resumed, {folder.submissions()} submissions"

    def command_out_of_time(self):
        """a time limit that is too short for a command"""
        folder = self.folder("time-command", COMMAND).run("--set", "time=1m", "--set", "script=sleep 300", code=1)
        expect("its time was over" in folder.error("work"), folder.error("work"))
        return repr(folder.error("work"))

    def out_of_memory(self):
        """a command that needs more memory than it asked for"""
        if not self.cluster.cgroups:
            return "SKIPPED: no cgroups here"
        script = "python3 -c 'x = bytes([1]) * (600 << 20); print(len(x))'"
        folder = self.folder("memory", COMMAND).run("--set", f"script={script}", code=1)
        error = folder.error("work")
        expect("memory" in error, error)
        folder.run("--set", f"script={script}", "--set", "memory=1GiB")
        return f"{error!r}; with 1 GiB it ran"

    def node_killed(self):
        """slurmd and slurmstepd killed under a job: its processes go on, and Slurm starts it again elsewhere"""
        folder = self.folder("node", TRAINING)
        run = folder.start()
        _, started = folder.training()
        number = int(started["node"].removeprefix("n"))
        self.cluster.kill(f"slurmd.n{number}")
        subprocess.run(["pkill", "-9", "-f", f"slurmstepd: .{started['job'].split('_')[0]}.batch"], check=False)
        folder.finish(run)
        self.equal(folder)
        self.cluster.start_node(number)
        self.cluster.call("scontrol", "update", f"nodename=n{number}", "state=resume")
        return f"started as {', '.join(folder.places())}"

    def controller_away(self):
        """slurmctld killed for 15 s while a job runs"""
        folder = self.folder("controller", TRAINING)
        run = folder.start()
        folder.training()
        self.cluster.kill("slurmctld")
        time.sleep(15)
        self.cluster.start_controller()
        folder.finish(run)
        self.equal(folder)
        return "the run waited"

    def controller_killed_after_submission(self):
        """slurmctld killed one second after a submission, started again when the job has ended"""
        folder = self.folder("held", COMMAND)
        run = folder.start("--set", "script=sleep 3")
        time.sleep(1.5)
        self.cluster.kill("slurmctld")
        time.sleep(6)
        self.cluster.start_controller()
        folder.finish(run)
        expect(folder.outcomes() == {"work": "ran"}, str(folder.outcomes()))
        still = self.cluster.call("squeue", "-h", "-o", "%T %r").strip() or "nothing"
        return f"what the job left was believed; of it Slurm still has: {still}"

    def run_killed(self):
        """kill -9 of the run while its job runs, and the same command again"""
        folder = self.folder("orphan", TRAINING)
        run = folder.start()
        folder.training()
        run.kill()
        run.wait()
        folder.run()
        self.equal(folder)
        expect(any("takes up job" in note for note in folder.notes()), f"not taken up: {folder.notes()}")
        expect(folder.submissions() == 0, f"{folder.submissions()} submissions")
        return "taken up, no second submission"

    def run_killed_and_job_done(self):
        """kill -9 of the run, the same command again when the job has ended and Slurm has forgotten it"""
        folder = self.folder("orphan-done", COMMAND)
        run = folder.start("--set", "script=sleep 4")
        folder.job()
        run.kill()
        run.wait()
        folder.all_jobs_end()
        folder.run("--set", "script=sleep 4")
        expect(folder.outcomes() == {"work": "ran"} and folder.submissions() == 0, f"{folder.outcomes()} {folder.submissions()}")
        return "its result was taken up"

    def interrupted_and_left(self):
        """Ctrl-C with --on-interrupt leave, and the same command again"""
        folder = self.folder("left", TRAINING)
        run = folder.start("--on-interrupt", "leave")
        folder.training()
        run.send_signal(signal.SIGINT)
        folder.finish(run, 130)
        expect(self.cluster.call("squeue", "-h").strip(), "no job is left")
        folder.run()
        self.equal(folder)
        expect(folder.submissions() == 0, f"{folder.submissions()} submissions")
        return "the job went on, and was taken up"

    def asked_and_left(self):
        """Ctrl-C at a terminal, answered by `l`"""
        folder = self.folder("asked-left", TRAINING)
        question = folder.at_terminal("l")
        expect(self.cluster.call("squeue", "-h").strip(), "no job is left")
        folder.run()
        self.equal(folder)
        expect(folder.submissions() == 0, f"{folder.submissions()} submissions")
        return f"{question!r}; the job went on, and was taken up"

    def asked_and_cancelled(self):
        """Ctrl-C at a terminal, answered by `c`"""
        folder = self.folder("asked-cancelled", TRAINING)
        folder.at_terminal("c")
        folder.all_jobs_end()
        folder.run()
        self.equal(folder)
        expect(any("resumed at step" in note for note in folder.notes()), f"not resumed: {folder.notes()}")
        return "it saved its state, and resumed from it"

    def asked_and_pressed(self):
        """Ctrl-C at a terminal, answered by a second Ctrl-C"""
        folder = self.folder("asked-pressed", TRAINING)
        folder.at_terminal(None)
        folder.run()
        self.equal(folder)
        return "the run ended at once; the next one gave the same bytes"

    def preempted(self):
        """another job takes the nodes, and the partition has Slurm queue ours again"""
        folder = self.folder("preempted", TRAINING)
        run = folder.start()
        folder.training()
        self.urgent_job()
        folder.finish(run)
        self.equal(folder)
        starts = [e["place"] for e in folder.events if e["event"] == "placed" and e["stage"] == "train"]
        expect(len(starts) > 1, f"it was started once: {starts}")
        resumed = [note for note in folder.notes() if note.startswith("resumed")]
        return f"started as {', '.join(starts)}; {resumed[-1] if resumed else 'from the beginning'}"

    def preempted_for_good(self):
        """another job takes the nodes, and the partition has Slurm end ours"""
        folder = self.folder("preempted-for-good", TRAINING, SITE + 'partition = "low"\n')
        run = folder.start()
        folder.training()
        self.urgent_job()
        folder.finish(run)
        self.equal(folder)
        told = [note for note in folder.notes() if "submitted again" in note]
        expect(told, f"nothing was said: {folder.notes()}")
        resumed = [note for note in folder.notes() if note.startswith("resumed")]
        return f"{told[0]!r}; {resumed[-1] if resumed else 'from the beginning'}"

    def urgent_job(self):
        # A job of more importance on all nodes.
        script = f"#!/bin/bash\n#SBATCH -p urgent -N {self.cluster.nodes} --exclusive --output=/dev/null\nsleep 4\n"
        subprocess.run(["sbatch"], input=script, text=True, env=self.cluster.env(), check=True, stdout=subprocess.DEVNULL)

    def interrupted_and_cancelled(self):
        """Ctrl-C with --on-interrupt cancel, and the same command again"""
        folder = self.folder("interrupted", TRAINING)
        run = folder.start("--on-interrupt", "cancel")
        folder.training()
        run.send_signal(signal.SIGINT)
        folder.finish(run, 130)
        folder.all_jobs_end()
        folder.run()
        self.equal(folder)
        expect(any("resumed at step" in note for note in folder.notes()), f"not resumed: {folder.notes()}")
        return "it saved its state, and resumed from it"

    def held(self):
        """a job that somebody holds"""
        folder = self.folder("hold", COMMAND, SITE + 'flags = ["--hold"]\n')
        run = folder.start("--set", "script=true")
        end = time.monotonic() + 20
        while not (ids := self.cluster.call("squeue", "-h", "-t", "PD", "-o", "%i").split()) and time.monotonic() < end:
            time.sleep(0.2)
        time.sleep(3)
        self.cluster.call("scontrol", "release", *ids)
        folder.finish(run)
        told = [note for note in folder.notes() if "held" in note]
        expect(told, f"nothing was said: {folder.notes()}")
        return repr(told[0])

    def refused(self):
        """a request that no node can meet"""
        folder = self.folder("refused", COMMAND.replace("memory: \"${memory}\"", "gpus: 1")).run(code=1)
        error = folder.error("work")
        expect("refused" in error, error)
        return repr(error)

    def wrong_setup(self):
        """a line of set-up that fails"""
        folder = self.folder("setup", COMMAND, SITE + 'setup = ["echo no such module >&2; exit 1"]\n')
        folder.run(code=1)
        error = folder.error("work")
        expect("no such module" in error, error)
        return repr(error)

    def forgotten(self):
        """a run is stopped while its job ends and Slurm forgets it: SIGSTOP for longer than MinJobAge"""
        folder = self.folder("forgotten", COMMAND)
        run = folder.start("--set", "script=sleep 2")
        folder.job()
        run.send_signal(signal.SIGSTOP)
        folder.all_jobs_end()
        time.sleep(self.cluster.min_job_age + 1 if self.cluster.min_job_age < 30 else 2)
        run.send_signal(signal.SIGCONT)
        folder.finish(run)
        return "its result was taken"


def failures(args, cluster, work):
    tests = Failures(args, cluster, work)
    print(f"  the training takes {tests.seconds:.0f} s by itself")
    names = [name for name, value in vars(Failures).items() if callable(value) and value.__doc__]
    bad = 0
    for name in names:
        if args.only and name not in args.only:
            continue
        test = getattr(tests, name)
        began = time.monotonic()
        try:
            found = test()
            word = "SKIP" if str(found).startswith("SKIPPED") else "ok  "
        except (Problem, subprocess.TimeoutExpired) as problem:
            word, found, bad = "BAD ", problem, bad + 1
        print(f"  {word} {test.__doc__}: {found} ({time.monotonic() - began:.0f} s)", flush=True)
        cluster.call("scancel", "--me", "--quiet")
        cluster.wait_idle(60)
    return bad


def accounting(args, work):
    """A cluster of its own with slurmdbd: what the controller has forgotten is asked of `sacct`."""
    missing = [name for name in ("slurmdbd", "mariadbd") if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")]
    if missing:
        print(f"  SKIP {', '.join(missing)} not installed (Debian: apt install slurmdbd mariadb-server)")
        return 0
    cluster = Cluster(work / "acct", port=args.base_port + 100, min_job_age=2, accounting=True)
    cluster.up()
    try:
        folder = Folder(args, cluster, work, "accounting", COMMAND, SITE.replace("lost-seconds = 20", "lost-seconds = 120").replace("poll-seconds = 1", "poll-seconds = 8"))
        run = folder.start("--set", "script=sleep 60")
        _, started = folder.job()
        run.send_signal(signal.SIGSTOP)
        cluster.call("scancel", started["job"])
        end = time.monotonic() + 90
        while cluster.call("squeue", "-h", "-t", "all").strip():
            expect(time.monotonic() < end, "the controller does not forget the job")
            time.sleep(0.5)
        run.send_signal(signal.SIGCONT)
        began = time.monotonic()
        folder.finish(run, 1)
        took, error = time.monotonic() - began, folder.error("work")
        asked = cluster.call("sacct", "-X", "-n", "-P", "-j", started["job"], "-o", "State").strip()
        good = "cancelled" in error and took < 60 and asked.startswith("CANCELLED")
        print(f"  {'ok  ' if good else 'BAD '} cancelled, and forgotten by the controller before it was asked: {error!r} after {took:.0f} s; sacct: {asked}")
        return int(not good)
    except (Problem, subprocess.TimeoutExpired) as problem:
        print(f"  BAD  {problem}")
        return 1
    finally:
        cluster.down()


def flagship(args, cluster, work):
    text = (ROOT / "pipelines/dream2022.yaml").read_text()
    more = ["--profile", "sample", "--set", f"data={args.data.resolve()}"] if args.data else ["--profile", "demo"]
    results = {}
    for executor in ("local", "slurm"):
        folder = Folder(args, cluster, work, f"flagship-{executor}", text)
        began = time.monotonic()
        results[executor] = folder.run(*more, executor=executor).digests()
        print(f"  {executor}: {time.monotonic() - began:.0f} s, {len(results[executor])} outputs", flush=True)
    again = folder.run(*more)
    same = results["local"] == results["slurm"]
    hits = set(again.outcomes().values()) == {"hit"} and again.submissions() == 0
    print(f"  {'ok  ' if same else 'BAD '} equal digests: {same}")
    print(f"  {'ok  ' if hits else 'BAD '} the second run: all hits, no submission: {hits}")
    return int(not same) + int(not hits)


def sweep(args, cluster, work):
    text = SWEEP.replace("KS", ", ".join(str(k) for k in range(args.stages)))
    folder = Folder(args, cluster, work, "sweep", text, SITE.replace("poll-seconds = 1\n", ""))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    folder.run()
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    calls = next(e for e in folder.events if e["event"] == "slurm")
    slots = cluster.nodes * cluster.cpus
    began = time.monotonic()
    script = f"#!/bin/bash\n#SBATCH --array=0-{args.stages - 1}\n#SBATCH --output=/dev/null\nsleep 1\n"
    subprocess.run(["sbatch", "--wait", "--parsable"], input=script, text=True, env=cluster.env(), check=True, stdout=subprocess.DEVNULL)
    bare = time.monotonic() - began
    print(f"  {args.stages} stages of 1 s on {slots} slots: {wall:.1f} s; Slurm's own array of `sleep 1`: {bare:.1f} s; ideal {args.stages / slots:.1f} s; "
          f"{calls['calls']} calls of the controller, {calls['submissions']} of them submissions; "
          f"the run and Slurm's clients took {cpu:.2f} s of processor time")
    ran = sum(outcome == "ran" for outcome in folder.outcomes().values())
    print(f"  {'ok  ' if ran == args.stages else 'BAD '} {ran} ran")
    again = folder.run()
    hits = sum(outcome == "hit" for outcome in again.outcomes().values())
    print(f"  {'ok  ' if hits == args.stages and again.submissions() == 0 else 'BAD '} again: {hits} hits, {again.submissions()} submissions")
    return int(ran != args.stages) + int(hits != args.stages)


PARTS = {"flagship": flagship, "failures": failures, "accounting": accounting, "sweep": sweep}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--part", default=",".join(PARTS))
    parser.add_argument("--only", help="of the failures, names by commas")
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--stages", type=int, default=200)
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--base-port", type=int, default=17100)
    args = parser.parse_args()
    args.bin = args.bin.resolve()
    args.only = args.only.split(",") if args.only else None
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")]
    if missing:
        print(f"SKIPPED: {', '.join(missing)} not installed (Debian: apt install slurm-wlm munge)")
        return
    work = args.work or pathlib.Path(tempfile.mkdtemp(prefix="cistage-cluster-"))
    work.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(work / "slurm", port=args.base_port, min_job_age=10, cgroups=os.geteuid() == 0)
    cluster.up()
    bad = 0
    try:
        for name in args.part.split(","):
            print(name, flush=True)
            bad += accounting(args, work) if name == "accounting" else PARTS[name](args, cluster, work)
    finally:
        cluster.down()
    print(f"{bad} problems")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
