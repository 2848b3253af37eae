"""Eight runs at once, of pipelines that share stages, on one cache; one of them is killed at a random moment.

Every action is executed once by those that live, unless the killed one had finished it; nobody waits for ever, and all
end with the same digests.
"""
import collections
import random
import shutil
import time

from pipelines import crowded
from workspace import Workspace, answer, kill

CROWD = 8
ROUNDS = 50


def executions(log):
    """(stage, process) for each execution that began; the process is 1 where its run was dead by then."""
    return [(name, int(pid)) for name, pid in map(str.split, log.read_text().splitlines())] if log.exists() else []


def judge(log, answers, killed):
    """What is wrong with a round: `answers` by the process number of those that lived; `killed`: the answer of the dead."""
    problems = []
    by_survivors = collections.Counter(name for name, pid in log if pid in answers)
    by_the_dead = {name for name, pid in log if pid not in answers}
    finished = {stage for stage, outcome in killed.outcomes.items() if outcome == "ran"}
    digests = {}
    for pid, said in answers.items():
        problems += said.failure()
        for output, digest in said.digests.items():
            if digests.setdefault(output, digest) != digest:
                problems.append(f"{output} has the digests {digest} and {digests[output]}")
        if any(outcome not in ("ran", "hit") for outcome in said.outcomes.values()):
            problems.append(f"process {pid} settled {said.outcomes}")
    ran = collections.Counter(stage for said in answers.values() for stage, how in said.outcomes.items() if how == "ran")
    for stage in {output.split(".")[0] for output in digests}:
        times = by_survivors[stage]
        if times > 1:
            problems.append(f"{stage} was executed {times} times by runs that lived")
        if times == 0 and stage not in by_the_dead:
            problems.append(f"{stage} was served, and never executed")
        if times and stage in finished:
            problems.append(f"{stage} was executed again after the killed run had finished it")
        if times != ran[stage]:
            problems.append(f"{stage} was executed {times} times, and {ran[stage]} runs say that they did")
    return problems


def round_of(env, number, rng):
    folder = env.work / "crowd"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    log = folder / "executions.log"
    times = {name: rng.randrange(1, 10) for name in ("left", "right", "both", *(f"own{n}" for n in range(CROWD)))}
    crowd = []
    for n in range(CROWD):
        ws = Workspace(env.program, folder / f"w{n}", crowded(n, log, times))
        crowd.append(ws.start("--cache", str(folder / "cache"), "run", "p.yaml", "--format", "json"))
    time.sleep(rng.uniform(0, 0.6))
    victim = rng.choice(crowd)
    kill(victim)
    dead = answer(victim)
    answers = {process.pid: answer(process) for process in crowd if process is not victim}
    # What the killed run's stage still writes it writes now or never.
    time.sleep(0.05)
    problems = judge(executions(log), answers, dead) + Workspace(env.program, folder).damage()
    return problems, victim.pid, len([1 for _, pid in executions(log) if pid not in answers])


def control(part, env):
    """Two runs with a cache each execute what they should share."""
    log = env.work / "executions.log"
    times = collections.defaultdict(int)
    processes = [Workspace(env.program, env.work / f"alone{n}", crowded(0, log, times)) for n in range(2)]
    processes = [ws.start(*ws.run_args()) for ws in processes]
    answers = {process.pid: answer(process) for process in processes}
    problems = judge(executions(log), answers, answer(Workspace(env.program, env.work).start("--version")))
    part.control("two runs that share no cache", any("2 times" in problem for problem in problems))


def run(part, env):
    rng = random.Random(env.seed)
    control(part, env)
    began, by_the_dead = time.monotonic(), 0
    rounds = env.rounds or ROUNDS
    with part.group(f"{CROWD} runs at once, one killed") as group:
        for number in range(rounds):
            problems, pid, executed = round_of(env, number, rng)
            by_the_dead += executed
            if not group.case(f"round {number}, seed {env.seed}, process {pid} killed", problems):
                shutil.copytree(env.work / "crowd", env.work / f"round{number}", symlinks=True)
        group.aside = (f"{by_the_dead} executions by killed runs; a round took "
                       f"{(time.monotonic() - began) / rounds:.1f} s")
