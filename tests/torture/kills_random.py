"""Kill -9 at random moments over a run, `cache gc`, and two runs on one cache; no flag is needed to go on afterwards.

After each kill nothing in the cache is damaged, and the next run serves and makes the bytes of the undisturbed run.
"""
import os
import random
import shutil
import signal
import time

import pipelines
from reference import Reference
from workspace import Workspace, answer, kill

ROUNDS = 500
SALTS = 4
# So many rounds share a cache before it starts anew.
LIFE = 20
# What the newest run made stays, also where that run ends while gc is at work.
GC = ("cache", "gc", "--apply", "--keep-runs", "1", "--grace", "0")


def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            found += [int(child) for child in file.read().split()]
    return found


def strike(process, rng, longest):
    """Kills the program, or one of the workers that it started, at a random moment. Gives who was struck."""
    time.sleep(rng.uniform(0, longest))
    if rng.random() < 0.3:
        try:
            worker = rng.choice(children(process.pid))
            os.kill(worker, signal.SIGKILL)
            return "a worker"
        except (OSError, IndexError):
            pass
    kill(process)
    return "the program"


def one_run(ws, args, rng, longest, expected):
    process = ws.start(*ws.run_args(*args))
    who = strike(process, rng, longest)
    answer(process)
    return f"{who} killed", []


def gc_beside_a_run(ws, args, rng, longest, expected):
    """gc is killed; the run beside it is not, and must not notice."""
    process = ws.start(*ws.run_args(*args))
    found = []
    while process.poll() is None:
        gc = ws.start(*GC)
        time.sleep(rng.uniform(0, 0.02))
        kill(gc)
        answer(gc)
    return "gc killed beside a run", expected.differences(ws, answer(process))


def two_runs(ws, args, rng, longest, expected):
    """One of two runs is killed; the other must not notice."""
    one, other = ws.start(*ws.run_args(*args)), ws.start(*ws.run_args(*args))
    time.sleep(rng.uniform(0, longest))
    kill(one)
    answer(one)
    return "one of two runs killed", expected.differences(ws, answer(other))


def idle_gc(ws, args, rng, longest, expected):
    """gc alone is killed, where there is a whole run to give up."""
    ws.run(*args)
    ws.run(*[word.replace("salt=", "salt=9") for word in args])
    gc = ws.start(*GC)
    time.sleep(rng.uniform(0, 0.015))
    kill(gc)
    answer(gc)
    return "gc killed", []


SCENES = [one_run, one_run, gc_beside_a_run, two_runs, idle_gc]


def control(part, env, expected):
    """One byte of what a run served is changed after it."""
    ws = Workspace(env.program, env.work / "control", pipelines.SMALL)
    good = ws.run("--set", "salt=0")
    file = ws.object(good.digests["c.o"])
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    part.control("a flipped bit in what is served", bool(expected.differences(ws, good)) and bool(ws.damage()))


def run(part, env):
    rng = random.Random(env.seed)
    expected, longest = {}, 0.0
    for salt in range(SALTS):
        began = time.monotonic()
        ws = Workspace(env.program, env.work / f"undisturbed{salt}", pipelines.SMALL)
        expected[salt] = Reference(ws, ("--set", f"salt={salt}"), pipelines.PUBLISHED)
        longest = max(longest, 1.2 * (time.monotonic() - began))
    control(part, env, expected[0])
    ws, slowest, left = None, 0.0, set()
    rounds = env.rounds or ROUNDS
    with part.group("kill -9 at random moments") as group:
        for number in range(rounds):
            if number % LIFE == 0:
                ws = Workspace(env.program, env.work / "cache-of-kills", pipelines.SMALL)
            salt = rng.randrange(SALTS)
            args = ("--set", f"salt={salt}", "--set", f"round={number}")
            what, problems = rng.choice(SCENES)(ws, args, rng, longest, expected[salt])
            began = time.monotonic()
            problems += expected[salt].go_on(ws, args)
            slowest = max(slowest, time.monotonic() - began)
            if not group.case(f"round {number} ({what}), run p.yaml {' '.join(args)}", problems):
                # Kept for whoever looks into it; the next round begins anew.
                shutil.move(ws.folder, env.work / f"round{number}")
                ws = Workspace(env.program, env.work / "cache-of-kills", pipelines.SMALL)
            left |= {path.name for path in ws.cache.glob("tmp/*")}
        group.aside = f"going on took at most {slowest:.2f} s"
    if left:
        part.note(f"{len(left)} files of killed sessions were left in tmp/ after a run that could have swept them")
