"""The index deleted before each command, filled with garbage, and kept locked by another process.

Every command works, and answers as it does with a sound index; `cache rebuild-index` brings back what queries need.
"""
import contextlib
import fcntl
import json
import random
import shutil

import pipelines
import states
from reference import Reference

# Not `cache du`: the index is a part of what it measures.
QUERIES = (("plan", "p.yaml", *states.NEW), ("plan", "p.yaml", *states.OLD, "--set", "round=9"), ("audit", "c.o"),
           ("audit", "res/o.txt", "--downstream"), ("runs",), ("show", "NEWEST"), ("metrics",), ("cache", "verify"),
           ("why", "p.yaml", "b", "--set", "salt=7"), ("diff", "OLDEST", "NEWEST"))


def deleted(ws, rng):
    shutil.rmtree(ws.cache / "index")


def garbage(ws, rng):
    for file in (ws.cache / "index").rglob("*"):
        if file.is_file():
            file.write_bytes(rng.randbytes(max(file.stat().st_size, 9000)))


def emptied(ws, rng):
    for file in (ws.cache / "index").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def folders(ws, rng):
    """A folder where each file should be."""
    for file in list((ws.cache / "index").glob("*")):
        if file.is_file():
            file.unlink()
            file.mkdir()


def a_file(ws, rng):
    shutil.rmtree(ws.cache / "index")
    (ws.cache / "index").write_text("not a folder")


def of_another_cache(ws, rng):
    """An index that is sound, and belongs to other records."""
    other = ws.copy(ws.folder.with_name("other"))
    other.run("--set", "salt=5")
    shutil.rmtree(ws.cache / "index")
    shutil.copytree(other.cache / "index", ws.cache / "index")


def sound(ws, rng):
    pass


@contextlib.contextmanager
def locked(*files):
    """Holds kernel locks on files, as another process at work with them would."""
    with contextlib.ExitStack() as stack:
        for file in files:
            held = stack.enter_context(open(file, "a"))
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def answers(ws, prepare, rng):
    """What each query says, the index ill-treated before each of them."""
    runs = sorted(path.name for path in ws.cache.glob("runs/2*"))
    named = {"NEWEST": runs[-1], "OLDEST": runs[0]}
    said = {}
    for query in QUERIES:
        prepare(ws, rng)
        answer = ws.call(*[named.get(word, word) for word in query], "--format", "json")
        said[" ".join(query)] = (answer.code, answer.stdout)
    return said


def run(part, env):
    rng = random.Random(env.seed)
    template = states.fresh(env, "template")
    template.run(*states.OLD)
    expected = Reference(template, states.NEW, pipelines.PUBLISHED)
    base = answers(template, sound, rng)
    part.control("answers tell two caches apart", base != answers_of_another(env, rng))
    for prepare in (sound, deleted, garbage, emptied, folders, a_file, of_another_cache):
        with part.group(f"the index {prepare.__name__.replace('_', ' ')}") as group:
            case(group, env, template, expected, base, prepare, rng, locks=())
    for name in (("index/db",), ("locks/memo.lock",), ("index/db", "locks/memo.lock")):
        with part.group(f"{' and '.join(name)} locked by another process") as group:
            case(group, env, template, expected, base, sound, rng, locks=name)
    rebuild(part, env, template, expected, rng)


def answers_of_another(env, rng):
    ws = states.fresh(env, "elsewhere")
    ws.run("--set", "salt=3")
    return answers(ws, sound, rng)


def case(group, env, template, expected, base, prepare, rng, locks):
    ws = template.copy(env.work / "w")

    def again(ws, rng):
        shutil.rmtree(ws.cache / "index", ignore_errors=True)
        (ws.cache / "index").unlink(missing_ok=True)
        shutil.copytree(template.cache / "index", ws.cache / "index")
        prepare(ws, rng)

    treat = sound if locks else again
    with locked(*(ws.cache / name for name in locks)):
        for query, said in answers(ws, treat, rng).items():
            group.case(f"cistage {query}", [] if said == base[query] else [f"says {said} for {base[query]}"])
        treat(ws, rng)
        hits = ws.run(*states.NEW)
        problems = expected.differences(ws, hits) + panics(hits)
        if set(hits.outcomes.values()) != {"hit"}:
            problems.append(f"what was there is not served: {hits.outcomes}")
        group.case("cistage run, of hits", problems)
        treat(ws, rng)
        # Other keys, equal bytes.
        fresh = ws.run(*states.NEW, "--set", "round=1")
        group.case("cistage run, of new work", expected.differences(ws, fresh) + panics(fresh) + ws.damage())
        treat(ws, rng)
        gone = ws.call(*states.GC)
        group.case("cistage cache gc --apply", gone.failure() + panics(gone) + ws.damage())
        treat(ws, rng)
        group.case("cistage run, of what was given up", expected.go_on(ws, states.NEW))


def panics(answer):
    return [f"it panicked: {answer.stderr[-300:]}"] if "panicked at" in answer.stderr else []


def rebuild(part, env, template, expected, rng):
    """After `cache rebuild-index` the index holds the makers of all outputs again, whatever was in its place."""
    outputs = json.loads(template.call("cache", "rebuild-index", "--format", "json").stdout)["outputs"]
    with part.group("cache rebuild-index") as group:
        for prepare in (sound, deleted, garbage, emptied, folders, a_file, of_another_cache):
            ws = template.copy(env.work / "w")
            prepare(ws, rng)
            said = ws.call("cache", "rebuild-index", "--format", "json")
            group.case(f"the index {prepare.__name__.replace('_', ' ')}",
                       said.failure() + panics(said) + made_anew(ws, said, outputs))
        ws = template.copy(env.work / "w")
        # An index of nothing, so that what is found there afterwards was written there.
        deleted(ws, rng)
        (ws.cache / "index").mkdir()
        with locked(ws.cache / "index/db"):
            said = ws.call("cache", "rebuild-index", "--format", "json")
            group.case("the index locked by another process: rebuilt, or said that it is not",
                       [] if said.code else made_anew(ws, said, outputs))


def made_anew(ws, said, outputs):
    problems = []
    if said.code == 0 and json.loads(said.stdout)["outputs"] != outputs:
        problems.append(f"{said.stdout} for {outputs} outputs")
    file = ws.cache / "index/db"
    stored = file.read_bytes() if file.is_file() else b""
    known = sum(digest.removeprefix("blake3:").encode() in stored for digest in all_outputs(ws))
    if known == 0:
        problems.append(f"it says {said.stdout.strip()}, and the index holds none of the outputs ({len(stored)} bytes)")
    return problems


def all_outputs(ws):
    records = [json.loads(file.read_text()) for file in ws.cache.glob("actions/??/*.json")]
    return {output["digest"] for record in records for output in record["outputs"].values()}
