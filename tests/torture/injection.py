"""Errors and kills at the N-th call of a system call, by strace, in the program and in all that it starts."""
import pathlib
import shutil
import subprocess



def missing():
    """Why nothing can be injected here, or None."""
    if shutil.which("strace") is None:
        return "there is no strace"
    tried = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"strace can't trace: {tried.stderr.strip()}"


def under(call, what, log):
    """The command that starts another with `what` injected into `call`, and says in `log` where it was.

    strace counts the calls of each thread for itself: the N-th call is that of the first thread that gets so far.
    """
    # Not --seccomp-bpf: with it, strace 6.1 forgets to count.
    return ["strace", "-f", "-qq", "-s", "64", "-o", str(log), "-e", f"trace={call}", "-e", f"inject={call}:{what}"]


def injected(log):
    """The lines of the log of the calls that were tampered with."""
    path = pathlib.Path(log)
    return [line for line in path.read_text(errors="replace").splitlines() if "(INJECTED)" in line] if path.exists() else []


def occurrences(dense, growth=1.3):
    """The numbers N to try: all up to `dense`, then fewer and fewer."""
    n = 1
    while True:
        yield n
        n = n + 1 if n < dense else max(n + 1, int(n * growth))
