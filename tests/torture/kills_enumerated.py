"""Kill -9 at the N-th call of each system call that changes files, for N = 1, 2, … until the command ends untouched.

The kill strikes the program, its workers, or the programs that they start: whichever makes its N-th call first.
"""
import pipelines
import states
from injection import missing, occurrences, under
from reference import Reference

ALL = float("inf")
# Of these every N is tried; of the others every one up to a dozen, and then fewer.
EVERY = ("fsync", "fdatasync", "rename", "renameat2", "link", "linkat", "unlink", "flock")
OTHERS = ("openat", "write", "mkdir", "unlinkat", "rmdir", "ftruncate", "fchmod", "chmod", "utimensat", "symlink")


def run(part, env):
    if why := missing():
        return part.skip("kills at the N-th system call", why)
    expected = Reference(states.fresh(env, "undisturbed"), states.NEW, pipelines.PUBLISHED)
    for state in [*states.prefixes(env), states.mending(env), states.collecting(env)]:
        with part.group(f"kill -9 at the N-th call, {state.title}") as group:
            reached = {call: enumerate_kills(group, env, state, call, expected) for call in EVERY + OTHERS}
            group.aside = ", ".join(f"{call} {n}" for call, n in reached.items() if n)
        # Where nothing is ever struck, nothing is tested.
        part.control(f"{state.title} can be killed", reached["rename"] > 0 and reached["openat"] > 5)


def enumerate_kills(group, env, state, call, expected):
    """Gives the last N at which something was killed."""
    last = 0
    for n in occurrences(dense=ALL if call in EVERY else 12):
        ws = state.workspace.copy(env.work / "killed")
        what = f"signal=KILL:when={n}"
        answer = ws.call(*state.command, under=under(call, what, env.work / "strace.log"))
        untouched = answer.code == 0
        problems = [] if answer.code is not None else answer.failure()
        if state.sound:
            problems += ws.damage()
        problems += expected.differences(ws, ws.run(*states.NEW)) + ws.damage()
        group.case(f"strace -f -e inject={call}:{what} cistage {' '.join(state.command)}", problems)
        if untouched:
            return last
        last = n
