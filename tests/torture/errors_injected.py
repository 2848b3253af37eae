"""System calls that fail: EIO, ENOSPC and EACCES at the N-th call of each kind, once and for good, for N = 1, 2, …

The command fails clearly, or succeeds where the call did not matter; the cache is never damaged, and the next run,
undisturbed, ends as if nothing had happened. `close` is left out: strace leaves the descriptor open, as no kernel does.
"""
import re

import pipelines
import states
from injection import injected, missing, occurrences, under
from reference import Reference
from workspace import Answer

CALLS = ("openat", "write", "fsync", "fdatasync", "rename", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir",
         "rmdir", "ftruncate", "fchmod", "chmod", "utimensat", "flock", "symlink")
# Every N up to so many, and then fewer: the program tells few errors apart.
ERRORS = {"EIO": 8, "ENOSPC": 3, "EACCES": 3}
# Shorter than elsewhere: of the calls of a kind, many may hang alike.
LIMIT = 10.0
# Said by the dynamic loader: the program never began.
NOT_STARTED = "error while loading shared libraries"


def judge(answer, could_speak=True):
    """What is wrong with how a command ended whose system calls failed."""
    said = answer.stderr
    if answer.code is None:
        return answer.failure()
    if answer.code < 0:
        return [f"a signal ended it: {-answer.code}"]
    if "panicked at" in said:
        return [f"it panicked: {said[-300:]}"]
    if answer.code not in (0, 1, 2):
        return [f"it ended with {answer.code}: {said[-300:]}"]
    if answer.code != 0 and could_speak and not re.search(r"error|failed|can't", said):
        return [f"it ended with {answer.code}, and did not say why: {said[-300:]!r}"]
    return []


def spoke(log_lines):
    """Whether nothing that it wrote to its user was among the calls that failed."""
    return not any(re.search(r" write\([12],", line) for line in log_lines)


def control(part):
    part.control("a panic, a signal, silence", all(map(judge, [
        Answer(101, "", "thread 'main' panicked at src/main.rs"), Answer(-6, "", "error"), Answer(1, "", ""),
        Answer(None, "", "")])))


def run(part, env):
    control(part)
    if why := missing():
        return part.skip("errors at the N-th system call", why)
    expected = Reference(states.fresh(env, "undisturbed"), states.NEW, pipelines.PUBLISHED)
    first = next(states.prefixes(env))
    for state in (first, states.collecting(env)):
        total = 0
        for error in ERRORS:
            for mode, lasting in (("once", ""), ("for good", "+")):
                with part.group(f"{error} {mode}, {state.title}") as group:
                    reached = {call: enumerate_errors(group, env, state, call, error, lasting, expected) for call in CALLS}
                    group.aside = ", ".join(f"{call} {n}" for call, n in reached.items() if n)
                    total += sum(reached.values())
        part.control(f"{state.title} can be disturbed", total > 0)


def enumerate_errors(group, env, state, call, error, lasting, expected):
    """Gives the last N at which something failed."""
    last = 0
    log = env.work / "strace.log"
    for n in occurrences(ERRORS[error], growth=1.5):
        ws = state.workspace.copy(env.work / "failing")
        what = f"error={error}:when={n}{lasting}"
        answer = ws.call(*state.command, under=under(call, what, log), limit=LIMIT)
        lines = injected(log)
        if not lines:
            return last
        last = n
        if NOT_STARTED in answer.stderr and answer.code == 127:
            continue
        problems = judge(answer, spoke(lines)) + ws.damage()
        if answer.code == 0 and answer.finished:
            problems += expected.differences(ws, answer)
        problems += expected.differences(ws, ws.run(*states.NEW)) + ws.damage()
        group.case(f"strace -f -e inject={call}:{what} cistage {' '.join(state.command)}", problems)
