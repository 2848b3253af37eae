"""What an undisturbed run gives, and how any other run is compared with it, byte for byte."""


class Reference:
    def __init__(self, workspace, args=(), publish=()):
        self.args, self.publish = args, publish
        answer = workspace.run(*args)
        if answer.code != 0:
            raise SystemExit(f"the undisturbed run failed: {answer.stderr}")
        self.digests, self.objects = answer.digests, workspace.objects()
        self.published = workspace.published(publish)

    def differences(self, workspace, answer):
        """What a run that should have succeeded gave otherwise: digests, bytes that are served, published files."""
        found = answer.failure()
        if found:
            return found
        if answer.digests != self.digests:
            found.append(f"digests differ: {answer.digests} for {self.digests}")
        # Compared with the bytes themselves: the program's own hashing is not trusted here.
        for name, data in workspace.objects().items():
            if self.objects.get(name, data) != data:
                found.append(f"object {name} has other bytes than in the undisturbed run")
        for output, digest in answer.digests.items():
            if not workspace.object(digest).is_file():
                found.append(f"{output} was served, and its object {digest} is not there")
        if workspace.published(self.publish) != self.published:
            found.append("published files differ")
        return found

    def go_on(self, workspace, args=None):
        """What is wrong once the next run, without any flag, has gone on from what happened here."""
        found = workspace.damage()
        found += self.differences(workspace, workspace.run(*(self.args if args is None else args)))
        return found + workspace.damage()
