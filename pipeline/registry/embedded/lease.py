"""The lease on the carried MLflow: of all jobs that would change it, one at a time may.

A registry has no compare-and-set, only tags that are read and written. That is enough for Fischer's algorithm of mutual
exclusion: whoever finds the tag `lease` free writes its own claim there, waits SETTLE seconds, and holds the lease if its
claim still stands. Its timing assumption: a claim reaches the registry within SETTLE seconds of the reading that it rests
on. Each claimant measures that, and a claim that took longer is given up. What slips through all the same is stopped when
the state is saved, which is refused unless lease and state are as the job knows them.

The holder rewrites the lease every BEAT seconds, alternating between two contents, so that a registry does not fill up with
versions. A lease that an observer sees unchanged for DEAD seconds, by its own clock, is dead and may be taken: clocks of
different machines are never compared.
"""

import time
import uuid
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BusyError
from pipeline.registry.embedded import oci
from pipeline.registry.embedded.oci import Lost, Refused, Repository

TAG = "lease"
ANSWER_SECONDS = 10  # a registry that takes longer over so small a thing is lost
SOON = (0.2, 0.4)  # seconds until the next tries: Debian's registry answers 500 while a tag is being written
FAULTS = 6  # answers missing in a row, then we give up waiting


@dataclass(frozen=True)
class Timing:
    """All intervals, in seconds."""

    settle: float = 3
    beat: float = 20
    poll: float = 5
    dead: float = 90
    tell: float = 15
    patience: float = 45 * 60
    longest: float = 6 * 3600


TIMING = Timing()


def content(holder: str, who: str, beat: str) -> bytes:
    """What the tag holds: holder, who that is for people, and which of the two beats; an empty holder is nobody."""
    return oci.manifest([], {"slipway.holder": holder, "slipway.who": who, "slipway.beat": beat})


FREE = ("", "nobody", "free")


class Claimant:
    """One job's view of the lease: who it is, and since when it has seen which content."""

    def __init__(self, repository: str, who: str, holder: str | None = None, timing: Timing = TIMING):
        self.holder, self.who, self.timing = holder or uuid.uuid4().hex, who, timing
        self.store = Repository(repository, ANSWER_SECONDS, SOON)
        self.seen: tuple[str, float] = ("", 0.0)
        self.other = "another job"

    def acquire(self) -> None:
        """Wait for the lease and take it; raises BusyError after `patience`, Refused or Lost when the registry fails."""
        patient = Repository(self.store.name)
        patient.prepare()
        self.store.client.auth = patient.client.auth  # a token for writing: getting one now would delay the claim
        deadline, told, faults = time.monotonic() + self.timing.patience, 0.0, 0
        while True:
            try:
                if self._try():
                    return
                faults = 0
            except Lost as error:
                self.seen, faults = ("", 0.0), faults + 1  # a holder that cannot be seen is not dead
                self.holder = uuid.uuid4().hex  # a claim whose fate is unknown counts as somebody else's
                if faults >= FAULTS:
                    raise
                print(f"  {error.what}; trying again in {self.timing.poll} s", flush=True)
            if time.monotonic() > deadline:
                raise BusyError(
                    f"{self.other} still holds the MLflow of {self.store.name}",
                    f"wait for it to end, or end it; what it leaves behind is free after {self.timing.dead:g} s",
                )
            if faults == 0 and time.monotonic() - told > self.timing.tell:
                print(f"waiting: {self.other} holds the MLflow", flush=True)
                told = time.monotonic()
            time.sleep(self.timing.poll)

    def _try(self) -> bool:
        """Claim the lease if it is free or dead; True when the claim still stands after `settle`."""
        began = time.monotonic()
        now = self._read()
        self.other = now.get("slipway.who", "nobody")
        if now.get("slipway.holder") and not self._dead(began):
            return False
        self.store.put(TAG, content(self.holder, self.who, "tick"))
        took = time.monotonic() - began
        if took > self.timing.settle:
            print(
                f"  {self.store.name} took {took:.1f} s over a claim, too long to rely on it: trying again", flush=True
            )
            self.release()
            return False
        time.sleep(self.timing.settle)
        return self.ours()

    def _read(self) -> dict[str, str]:
        """What the lease says now ({} when there is none), and remember since when it has said so."""
        found = self._found()
        digest = found[0] if found else "none"
        if digest != self.seen[0]:
            self.seen = (digest, time.monotonic())
        return (found[1].get("annotations") or {}) if found else {}

    def _found(self) -> tuple[str, dict[str, Any]] | None:
        try:
            return self.store.get(TAG)
        except Refused:
            # Some registries refuse to read what is not there yet. Who may write can make it, and then read.
            self.store.put("opened", content(*FREE))
            return self.store.get(TAG)

    def _dead(self, now: float) -> bool:
        return now - self.seen[1] > self.timing.dead

    def ours(self) -> bool:
        """Whether the lease says now that we hold it."""
        return self._read().get("slipway.holder") == self.holder

    def beat(self) -> bool:
        """Show that we live; False, and nothing written, when the lease is no longer ours."""
        now = self._read()
        if now.get("slipway.holder") != self.holder:
            return False
        self.store.put(TAG, content(self.holder, self.who, "tock" if now.get("slipway.beat") == "tick" else "tick"))
        return True

    def release(self) -> bool:
        """Free the lease; False, and nothing written, when it is no longer ours."""
        if not self.ours():
            return False
        self.store.put(TAG, content(*FREE))
        return True
