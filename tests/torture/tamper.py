"""Every object, record and file of the index of a real run is damaged, one at a time: flipped bits, cuts, removals, swaps.

`cache verify` has to find each and to name the file; the next run must not serve it, and makes it again to the same bytes.
What stands in the index may go wrong without any answer changing.
"""
import collections
import contextlib
import json
import pathlib
import random
import shutil

import damage
import evidence
from reference import Reference
from workspace import Workspace

PIPELINES = pathlib.Path(__file__).parents[2] / "pipelines"
PIPELINE = ("pipelines/dream2022.yaml", "--profile", "demo", "--format", "json")
PUBLISHED = ("results",)
# Seconds: what takes longer to make again is damaged once.
CHEAP = 2.0
# Of each kind of file and of damage, so many are mended.
REPAIRS = 2
# Each case adds a run: of their records some suffice.
RUNS = 6


class Flagship(Workspace):
    def run(self, *args):
        return self.call("run", *PIPELINE, *args, limit=1800)


def run(part, env):
    ws = Flagship(env.program, env.work / "flagship")
    ws.folder.mkdir()
    shutil.copytree(PIPELINES, ws.folder / "pipelines")
    expected = Reference(ws, (), PUBLISHED)
    head = (ws.cache / "runs/head.json").read_bytes()
    # The chain of runs needs links.
    hits = ws.run()
    sound = ws.cache / "runs/head.json"
    part.control("what was not damaged is not called damaged",
                 not ws.damage() and not is_found(ws, [sound]) and set(hits.outcomes.values()) == {"hit"})
    mend(part, ws, expected, env)
    search(part, ws, head, env)
    index(part, ws, env)
    events(part, ws)


# A run's record is known by the one that follows it, which is then named.
LINK = "the run recorded before it was removed or altered"


def is_found(ws, files):
    """Whether `cache verify` ends with 3 and names each of the files, by path or digest."""
    said = ws.call("cache", "verify")

    def is_named(file):
        by_name = [str(file.relative_to(ws.cache)), f"blake3:{file.parent.name}{file.stem}"]
        if file.name == "run.json":
            by_name += [file.parent.name, LINK]
        return any(name in said.stdout for name in by_name)

    return said.code == 3 and all(map(is_named, files))


def search(part, ws, older_head, env):
    """Each file is damaged in each way, looked for, and put back."""
    kinds = evidence.by_kind(ws)
    objects = [file for kind, files in kinds.items() if kind.startswith("object") for file in files]
    for kind, files in kinds.items():
        if kind == "run.json":
            files = files[:2] + random.Random(env.seed).sample(files[2:-2], min(RUNS, len(files[2:-2]))) + files[-2:]
        tried, found, same = collections.Counter(), collections.Counter(), collections.Counter()
        with part.group(f"{kind}: found by cache verify") as group:
            for file in files:
                ways = list(damage.ways(file, objects if file in objects else files, env.seed))
                if kind == "head.json":
                    how = damage.rewritten(file, older_head)
                    ways.append(damage.Damage("a swap", "put back to what it was many runs ago", [file], how))
                for way in ways:
                    with way.how:
                        is_seen = is_found(ws, way.files)
                    if way.says_the_same and not is_seen:
                        same[way.kind] += 1
                        continue
                    tried[way.kind] += 1
                    found[way.kind] += is_seen
                    group.case(f"{file.relative_to(ws.cache)}: {way.what}", [] if is_seen else ["cache verify did not find it"])
            group.aside = ", ".join(f"{name} {found[name]}/{tried[name]}" for name in damage.KINDS)
            if same:
                group.aside += f"; {sum(same.values())} lost white space alone"
    with part.group("all is put back") as group:
        group.case("cache verify", ws.damage())


def sample(ws, env):
    """(kind of file, way to damage it): some of each kind, and the largest file of a model."""
    rng, took = random.Random(env.seed), evidence.seconds(ws)
    cases, kinds = [], evidence.by_kind(ws)
    for kind, files in kinds.items():
        cheap = [file for file in files if took[file] < CHEAP]
        for name in damage.KINDS:
            fit = [way for file in rng.sample(cheap, len(cheap)) for way in damage.ways(file, cheap, env.seed)
                   if way.kind == name and not way.says_the_same]
            cases += [(kind, way) for way in fit[:env.rounds or REPAIRS]]
    # Of the two models the fine-tuned one is made again sooner.
    for kind, name in (("object, file of a folder", "a flipped bit"), ("object, listing", "a removal")):
        soonest = min(took[file] for file in kinds[kind])
        file = max((file for file in kinds[kind] if took[file] == soonest), key=lambda file: file.stat().st_size)
        cases.append((kind, next(way for way in damage.ways(file, [], env.seed) if way.kind == name)))
    return cases


def mend(part, ws, expected, env):
    """A sample is damaged where it is, so that the memo vouches for what was there before, and the next run meets it."""
    count = collections.Counter()
    with part.group("met by the next run: not served, and made again") as group:
        for kind, way in sample(ws, env):
            with way.how:
                again = ws.run()
                problems = expected.differences(ws, again)
                # A record of the past can't be made again: it stays reported.
                problems += ws.damage() if kind != "run.json" else []
            ran = sorted(stage for stage, outcome in again.outcomes.items() if outcome == "ran")
            if not ran and kind not in ("run.json", "head.json", "object, pipeline text"):
                problems.append("no stage was executed again")
            files = " and ".join(str(file.relative_to(ws.cache)) for file in way.files)
            group.case(f"{kind} {files}: {way.what}; cistage run {' '.join(PIPELINE)} (ran: {', '.join(ran)})", problems)
            count[kind] += 1
        group.aside = ", ".join(f"{kind} {n}" for kind, n in count.items())


def answers(ws):
    """What a run and the queries say, but for the name and the times of the run."""
    ran = ws.run()
    name = next(event["run"] for event in ran.events if event["event"] == "run-finished")
    record = json.loads((ws.cache / "runs" / name / "run.json").read_text())
    queries = {"plan": ("plan", *PIPELINE), "audit": ("audit", "results/metrics.json", "--format", "json")}
    said = {name: ws.call(*query) for name, query in queries.items()}
    return {"run": (ran.code, ran.outcomes, ran.digests), "the run's look for leaks": record["leakage"],
            **{name: (answer.code, answer.stdout) for name, answer in said.items()}}


def index(part, ws, env):
    """The index may say what it likes: it is asked for speed alone."""
    folder, aside = ws.cache / "index", ws.folder / "index.aside"
    shutil.copytree(folder, aside)
    base = answers(ws)

    def put_back():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(aside, folder)

    put_back()
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    with part.group("a damaged file of the index changes no answer") as group:
        for file in files:
            # The run before may have left other files.
            put_back()
            for way in list(damage.ways(file, [other for other in files if other.parent == file.parent], env.seed)):
                put_back()
                # The program may have moved the whole index out of the way.
                with contextlib.suppress(FileNotFoundError), way.how:
                    now = answers(ws)
                changed = [name for name in base if now[name] != base[name]]
                group.case(f"{file.relative_to(ws.cache)}: {way.what}",
                           [f"{name}: {str(now[name])[:300]} for {str(base[name])[:300]}" for name in changed])
    put_back()


def events(part, ws):
    """The events of a run are a log, and no evidence: what is said of them is told, not counted."""
    file = min(ws.cache.glob("runs/*/events.jsonl"))
    said = {}
    for way in damage.ways(file, [], 0):
        with way.how:
            said.setdefault(way.kind, ws.call("cache", "verify").code)
    part.note(f"events.jsonl is a log: with {', '.join(f'{kind} in it cache verify ends with {n}' for kind, n in said.items())}")
