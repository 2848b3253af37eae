"""The power is cut after every acknowledgement of a run, on ext4 and xfs, with and without `cache gc` at work beside it.

An acknowledgement is a `stage-finished` event with the outcome `ran`, or `run-finished`, heard through a pipe. What was
acknowledged has to be there when the power is back, and the next run has to end as if nothing had happened.
"""
import json
import os
import random
import signal
import subprocess
import time

import disks
import injection
from pipelines import chain
from reference import Reference
from workspace import Workspace, answer, events, kill

LENGTH = 5
PUBLISH = ("res/o.txt", "res/folder")
ARGS = ("--set", "salt=1")
# Before it, other runs leave outputs; those of the last of them stay, gc can take the others.
OLDER, BEFORE = ("--set", "salt=2"), ("--set", "salt=0")
GC = ("cache", "gc", "--apply", "--keep-runs", "1", "--grace", "0")


def is_acknowledgement(event):
    return event["event"] == "run-finished" or (event["event"] == "stage-finished" and event["outcome"] == "ran")


def listen(process, wanted, delay):
    """Kills the run `delay` seconds after it has acknowledged `wanted` times; gives all that it had acknowledged by then."""
    heard = []
    for line in process.stdout:
        heard += [event for event in events(line) if is_acknowledgement(event)]
        if len(heard) >= wanted:
            time.sleep(delay)
            break
    kill(process)
    return heard + [event for event in events(process.stdout.read()) if is_acknowledgement(event)]


def collector(workspace):
    """gc again and again, in a group of its own."""
    script = f"while :; do '{workspace.program}' {' '.join(GC)}; done"
    return subprocess.Popen(["sh", "-c", script], cwd=workspace.folder, start_new_session=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def interrupted(env, disk, wanted, delay, gc, under=()):
    """A workspace whose power was cut, and what its run had acknowledged."""
    workspace = Workspace(env.program, disk.place / "w", chain(LENGTH))
    if gc:
        workspace.run(*OLDER)
        workspace.run(*BEFORE)
    disk.sync()
    beside = collector(workspace) if gc else None
    process = workspace.start(*workspace.run_args(*ARGS), under=under)
    heard = listen(process, wanted, delay)
    if beside:
        os.killpg(beside.pid, signal.SIGKILL)
        beside.wait()
    answer(process)
    disk.cut()
    return workspace, heard


def lost(workspace, heard):
    """What was acknowledged and is not there any more."""
    acknowledged = {event["stage"] for event in heard if event["event"] == "stage-finished"}
    found = workspace.call("plan", "p.yaml", "--format", "json", *ARGS)
    if found.code != 0:
        return [f"plan ended with {found.code}: {found.stderr}"]
    verdicts = {stage["stage"]: stage["verdict"] for stage in json.loads(found.stdout)["stages"]}
    problems = [f"{stage} was acknowledged, and is `{verdicts[stage]}` now"
                for stage in sorted(acknowledged) if verdicts[stage] != "hit"]
    for event in heard:
        if event["event"] == "run-finished" and not (workspace.cache / "runs" / event["run"] / "run.json").is_file():
            problems.append(f"run {event['run']} was acknowledged, and has no record now")
    return problems


def torn(workspace, reference):
    """Published files that are neither whole nor absent."""
    there = workspace.published(PUBLISH)
    folder = {name for name in reference.published if name.startswith("res/folder")}
    wrong = [f"{name} is published with {len(data)} bytes that no run wrote"
             for name, data in there.items() if data not in reference.allowed(name)]
    if 0 < len(folder & set(there)) < len(folder):
        wrong.append("res/folder is published in part")
    return wrong


class Expected(Reference):
    """What the run gives, and what the one before it had published."""

    def __init__(self, workspace):
        self.before = Reference(workspace, BEFORE, PUBLISH)
        super().__init__(workspace, ARGS, PUBLISH)

    def allowed(self, name):
        return [self.published.get(name), self.before.published.get(name)]


def control(part, env, disk, expected):
    """Without fsync something acknowledged has to get lost: else no power was cut."""
    if why := injection.missing():
        return part.skip("control: a run whose fsync does nothing", why)
    under = injection.under("fsync,fdatasync", "retval=0", env.work / "strace.log")
    workspace, heard = interrupted(env, disk, LENGTH, 0, False, under)
    part.control(f"{disk.kind}: a run whose fsync does nothing loses what it acknowledged",
                 len(heard) >= LENGTH and bool(lost(workspace, heard) + expected.go_on(workspace)))


def run(part, env):
    expected = Expected(Workspace(env.program, env.work / "undisturbed", chain(LENGTH)))
    rng = random.Random(env.seed)
    for kind in disks.OPTIONS:
        if why := disks.missing(kind):
            part.skip(kind, why)
            continue
        try:
            with disks.Disk(env.work, kind) as disk:
                control(part, env, disk, expected)
                for gc in (False, True):
                    sweep(part, env, disk, gc, expected, rng)
        except OSError as error:
            part.skip(kind, error)


def sweep(part, env, disk, gc, expected, rng):
    beside = ", gc beside it" if gc else ""
    acknowledged = 0
    with part.group(f"{disk.kind}{beside}: acknowledged, lost") as group, \
            part.group(f"{disk.kind}{beside}: published files whole or absent") as published:
        for round in range(env.rounds or 3):
            for wanted in range(1, LENGTH + 2):
                # At once, and then a little later, into the next stage or the last steps of the run.
                delay = rng.uniform(0, 0.02) if round else 0
                workspace, heard = interrupted(env, disk, wanted, delay, gc)
                acknowledged += len(heard)
                what = f"{disk.kind}{beside}, power cut {delay * 1000:.1f} ms after acknowledgement {wanted}"
                published.case(what, torn(workspace, expected))
                problems = workspace.damage() + lost(workspace, heard)
                again = workspace.run(*ARGS)
                problems += [f"{e['stage']} was acknowledged, and {again.outcomes[e['stage']]} again" for e in heard
                             if again.code == 0 and e["event"] == "stage-finished" and again.outcomes[e["stage"]] != "hit"]
                problems += expected.differences(workspace, again) + workspace.damage()
                group.case(what, problems)
        group.aside = f"{acknowledged} acknowledgements"
