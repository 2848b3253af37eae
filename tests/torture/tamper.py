"""Every object, record and file of the index of a real run is damaged, one at a time: a flipped bit, a cut, a removal, a swap.

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
from reference import Reference
from workspace import Workspace

PIPELINES = pathlib.Path(__file__).parents[2] / "pipelines"
PIPELINE = ("run", "pipelines/dream2022.yaml", "--profile", "demo", "--format", "json")
PUBLISHED = ("results",)
# Seconds: stages that take longer are made again once only.
CHEAP = 2.0
REPAIRS = 2
DAMAGES = ("a flipped bit", "a cut", "a removal", "a swap")


class Flagship(Workspace):
    def run(self, *args, **how):
        return self.call(*PIPELINE, *args, limit=1800)


def made(env):
    """The workspace of a run of the flagship pipeline on made-up rows, run twice: a chain of runs needs two links."""
    ws = Flagship(env.program, env.work / "flagship")
    ws.folder.mkdir()
    shutil.copytree(PIPELINES, ws.folder / "pipelines")
    return ws


def run(part, env):
    rng = random.Random(env.seed)
    ws = made(env)
    expected = Reference(ws, (), PUBLISHED)
    hits = ws.run()
    files = by_kind(ws)
    part.control("a file that was not damaged is not called damaged",
                 not ws.damage() and not found(ws, files["record"][0]) and set(hits.outcomes.values()) == {"hit"})
    mend(part, ws, files, expected, rng, env.rounds or REPAIRS)
    index(part, ws, expected, rng)
    search(part, ws, by_kind(ws), rng)
    events(part, ws)


def by_kind(ws):
    """All files of the cache that are evidence, by what they are."""
    kinds = collections.defaultdict(list)
    roles = {}
    for file in sorted(ws.cache.glob("actions/??/*.json")):
        kinds["record"].append(file)
        record = json.loads(file.read_text())
        roles[record["key"]] = "manifest"
        if record.get("log"):
            roles[record["log"]["digest"]] = "log"
        for output in record["outputs"].values():
            roles[output["digest"]] = "listing" if output["layout"] == "tree" else "output"
            if output["layout"] == "tree":
                lines = ws.object(output["digest"]).read_text().splitlines()
                roles |= {f"blake3:{line.split()[0]}": "file of a folder" for line in lines}
    for file in sorted(ws.cache.glob("runs/*/run.json")):
        kinds["run.json"].append(file)
        roles[json.loads(file.read_text())["text"]] = "pipeline text"
    kinds["head.json"] = [ws.cache / "runs/head.json"]
    for file in sorted(ws.cache.glob("objects/??/*")):
        kinds["object: " + roles.get(f"blake3:{file.parent.name}{file.name}", "nobody's")].append(file)
    return dict(sorted(kinds.items()))


def names(file):
    """How `cache verify` may call a file: by its path, or by its digest."""
    if file.name in ("run.json", "head.json"):
        return [f"runs/{file.parent.name}/{file.name}" if file.name == "run.json" else "runs/head.json", file.parent.name]
    return [f"{file.parent.parent.name}/{file.parent.name}/{file.name}", file.parent.name + file.stem]


def found(ws, *damaged):
    """Whether `cache verify` ends with 3 and names all that is damaged."""
    said = ws.call("cache", "verify")
    return said.code == 3 and all(any(name in said.stdout for name in names(file)) for file in damaged)


def damages(files, file, rng):
    """(kind, what, how to do it, whether the file says the same afterwards) for one file."""
    before = file.read_bytes()
    changes = [("a flipped bit", *change) for change in damage.flips(file, rng)]
    changes += [("a cut", *change) for change in damage.cuts(file)]
    for kind, what, data in changes:
        yield kind, what, damage.rewritten(file, data), [file], damage.reads_the_same(before, data)
    yield "a removal", "removed", damage.removed(file), [file], False
    others = [other for other in files if other.read_bytes() != before]
    if others:
        other = rng.choice(others)
        yield "a swap", f"swapped with {other.parent.name}/{other.name}", damage.swapped(file, other), [file, other], False


def search(part, ws, kinds, rng):
    """Each file is damaged in each way, looked for, and put back."""
    for kind, files in kinds.items():
        with contextlib.ExitStack() as stack:
            groups = {name: stack.enter_context(part.group(f"{kind}, {name}: found")) for name in DAMAGES}
            same = collections.Counter()
            for file in files:
                for name, what, damaged, where, reads_the_same in damages(files, file, rng):
                    with damaged:
                        seen = found(ws, *where)
                    if reads_the_same and not seen:
                        same[name] += 1
                        continue
                    groups[name].case(f"{file.relative_to(ws.cache)}: {what}", [] if seen else ["cache verify did not find it"])
            for name, count in same.items():
                groups[name].aside = f"{count} more say the same without their last line break"
    with part.group("all is put back") as group:
        group.case("cache verify", ws.damage())


def stages(ws):
    """The stages that need a file, the longest first, by the file's path; with their seconds."""
    seconds = {}
    for file in ws.cache.glob("actions/??/*.json"):
        record = json.loads(file.read_text())
        mine = [file, ws.object(record["key"])] + [ws.object(output["digest"]) for output in record["outputs"].values()]
        for output in record["outputs"].values():
            if output["layout"] == "tree":
                mine += [ws.object(line.split()[0]) for line in ws.object(output["digest"]).read_text().splitlines()]
        for each in mine:
            seconds.setdefault(each, {})[record["stage"]] = record["cost"]["wall_seconds"]
    return seconds


def mend(part, ws, kinds, expected, rng, repairs):
    """A sample is damaged, and the next run is made to meet it, with a memo that vouches for what was there before."""
    needed = stages(ws)

    def is_cheap(file):
        return sum(needed.get(file, {}).values()) < CHEAP

    sample = [(kind, file) for kind, files in kinds.items() for file in rng.sample(files, len(files)) if is_cheap(file)]
    models = [file for file in kinds["object: file of a folder"] if set(needed.get(file, {})) == {"finetune"}]
    big = max(models, key=lambda file: file.stat().st_size)
    with part.group("damage that the next run meets: not served, and made again") as group:
        tried = collections.Counter()
        for kind, file in [("the largest file of the fine-tuned model", big), *sample]:
            for name, what, damaged, _, reads_the_same in list(damages(kinds.get(kind, [file]), file, rng)):
                is_big = file == big
                if tried[kind, name] >= repairs or reads_the_same or (is_big and name != "a flipped bit"):
                    continue
                if is_big and tried[kind, name]:
                    continue
                # A swap touches a second file, which may belong to a stage that takes long.
                if name == "a swap" and kind.startswith("object"):
                    continue
                tried[kind, name] += 1
                with damaged:
                    again = ws.run()
                    problems = expected.differences(ws, again)
                    # A record of the past is not made again: it stays reported.
                    if kind not in ("run.json",):
                        problems += ws.damage()
                ran = sorted(stage for stage, outcome in again.outcomes.items() if outcome == "ran")
                if not kind.startswith(("run.json", "head.json", "object: pipeline text")) and not ran:
                    problems.append("no stage was executed again")
                group.case(f"{kind} {file.relative_to(ws.cache)}: {what}; cistage run (ran {', '.join(ran) or 'nothing'})",
                           problems)
        group.aside = ", ".join(f"{kind}: {n}" for kind, n in sum_by_kind(tried).items())


def sum_by_kind(tried):
    total = collections.Counter()
    for (kind, _), n in tried.items():
        total[kind] += n
    return total


def answers(ws):
    """What a run and the queries say, but for names and times of runs."""
    ran = ws.run()
    run_id = next((e["run"] for e in ran.events if e["event"] == "run-finished"), "none")
    file = ws.cache / "runs" / run_id / "run.json"
    leakage = json.loads(file.read_text())["leakage"] if file.is_file() else None
    plan = ws.call("plan", *PIPELINE[1:])
    audit = ws.call("audit", "results/metrics.json", "--leakage", "--format", "json")
    return {"run": (ran.code, ran.outcomes, ran.digests), "leakage": leakage, "plan": plan.stdout,
            "audit": (audit.code, audit.stdout)}


def index(part, ws, expected, rng):
    """The index may say what it likes: it is asked for speed alone."""
    folder = ws.cache / "index"
    aside = ws.folder / "index.aside"
    shutil.copytree(folder, aside)
    base = answers(ws)
    files = [file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file()]
    with part.group("a damaged file of the index changes no answer") as group:
        for name in files:
            likes = [folder / other for other in files if (other.parent == name.parent) and other != name]
            shutil.rmtree(folder)
            shutil.copytree(aside, folder)
            for _, what, damaged, _, _ in list(damages(likes, folder / name, rng)):
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(aside, folder)
                with contextlib.suppress(OSError), damaged:
                    now = answers(ws)
                    group.case(f"index/{name}: {what}",
                               [f"{key} says {str(now[key])[:300]} for {str(base[key])[:300]}" for key in base if now[key] != base[key]])
    shutil.rmtree(folder)
    aside.rename(folder)


def events(part, ws):
    """The events of a run are a log, and no evidence: what is said of them is told, not counted."""
    file = sorted(ws.cache.glob("runs/*/events.jsonl"))[0]
    said = {}
    for what, damaged in (("flipped", damage.rewritten(file, b"[" + file.read_bytes()[1:])), ("removed", damage.removed(file))):
        with damaged:
            said[what] = ws.call("cache", "verify").code
    part.note(f"events.jsonl is no evidence: cache verify ends with {said['flipped']} where it is changed, "
              f"{said['removed']} where it is removed")
