"""`cache gc` that makes its plan before a run and carries it out after it: what the newest run relies on stays.

strace holds gc back at one of its locks, each in turn, while a whole run goes by that serves what gc is about to take.
"""
import time

import injection
import pipelines
import states
from workspace import answer

GC = ("cache", "gc", "--apply", "--keep-runs", "1", "--grace", "0")
# The locks that gc takes, and some more.
LOCKS = 6
DELAY = 1.5


def run(part, env):
    if why := injection.missing():
        return part.skip("gc late by a run", why)
    template = states.fresh(env, "late")
    template.run(*states.OLD)
    template.run(*states.NEW)
    alone = template.copy(env.work / "alone")
    alone.call(*GC)
    part.control("without the run, gc takes what the run would serve", "hit" not in outcomes(alone).values())
    with part.group("gc planned before a run and carried out after it") as group:
        for n in range(1, LOCKS + 1):
            ws = template.copy(env.work / "w")
            what = f"delay_enter={DELAY}s:when={n}"
            gc = ws.start(*GC, under=injection.under("flock", what, env.work / "strace.log"))
            time.sleep(DELAY / 2)
            hits = ws.run(*states.OLD)
            problems = hits.failure() + answer(gc).failure()
            lost = [stage for stage, outcome in outcomes(ws).items() if outcome != "hit"]
            if lost:
                problems.append(f"{', '.join(lost)} of the newest run, whose results are published, had to be made again")
            group.case(f"strace -f -e inject=flock:{what} cistage {' '.join(GC)} & cistage run p.yaml {' '.join(states.OLD)}",
                       problems)


def outcomes(ws):
    return {stage: outcome for stage, outcome in ws.run(*states.OLD).outcomes.items() if stage in pipelines.STAGES}
