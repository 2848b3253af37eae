"""Counts what was tried and what was found, says it line by line, and keeps it for the report."""
import collections
import re
import time

# Of violations that read the same but for numbers, so many are printed. All are in the JSON.
PRINTED = 3


class Part:
    """One part of the suite. A case is tried once; however much is wrong with it, it is one violation."""

    def __init__(self, name):
        self.name, self.tried, self.violations, self.skipped, self.notes = name, 0, [], [], []
        self.groups, self.began, self.seconds = [], time.monotonic(), 0.0
        print(name, flush=True)

    def group(self, title):
        return Group(self, title)

    def skip(self, what, why):
        self.skipped.append(f"{what}: {why}")
        print(f"  SKIPPED {what}: {why}", flush=True)

    def note(self, text):
        self.notes.append(text)
        print(f"  note: {text}", flush=True)

    def control(self, what, noticed):
        """A fault that was put there on purpose: the suite is worth nothing where it does not see it."""
        with self.group(f"control: {what}") as group:
            group.case(what, [] if noticed else ["the suite did not notice a fault of its own making"])

    def end(self):
        self.seconds = time.monotonic() - self.began
        print(f"{self.name}: {self.tried} tried, {len(self.violations)} violations, {self.seconds:.0f} s", flush=True)

    def to_json(self):
        return {"tried": self.tried, "violations": self.violations, "skipped": self.skipped, "notes": self.notes,
                "groups": self.groups, "seconds": round(self.seconds, 1)}


class Group:
    """Cases of one kind, which share a line."""

    def __init__(self, part, title):
        self.part, self.title, self.tried, self.bad, self.aside = part, title, 0, 0, ""
        self.kinds = collections.Counter()

    def __enter__(self):
        return self

    def case(self, what, problems):
        """One thing tried; `what` says how to try it again. Gives whether all was well."""
        self.tried += 1
        problems = [problem for problem in problems if problem]
        if problems:
            self.bad += 1
            self.part.violations.append({"group": self.title, "case": what, "problems": problems})
            kind = re.sub(r"[0-9a-f]{8,}|[\d.]+", "#", " ".join(problems))
            self.kinds[kind] += 1
            if self.kinds[kind] <= PRINTED:
                print(f"  VIOLATION {self.title}: {what}", flush=True)
                for problem in problems:
                    print(f"      {' '.join(problem.split())[:400]}", flush=True)
        return not problems

    def __exit__(self, *error):
        self.part.tried += self.tried
        self.part.groups.append({"title": self.title, "tried": self.tried, "violations": self.bad, "aside": self.aside})
        aside = f" ({self.aside})" if self.aside else ""
        print(f"  {self.title}: {self.tried} tried, {self.bad} violations{aside}", flush=True)
