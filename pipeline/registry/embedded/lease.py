"""The lease on the embedded MLflow: a lock, so that one job at a time may change it.

An image registry has no compare-and-set, only tags that are read and written. That is enough for Fischer's algorithm of
mutual exclusion: a job that finds the tag `lease` free writes its claim there, waits SETTLE seconds, and holds the
lease if its claim is still there. The timing assumption: a claim reaches the registry within SETTLE seconds after the
reading on which it is based. Each claimant measures that, and gives up a claim that took longer. What slips through all
the same is caught when the state is saved, which is refused unless lease and state are as the job knows them.

The holder rewrites the lease every BEAT seconds (the heartbeat), alternating between two contents, so that a registry
does not fill up with versions. A lease that an observer sees unchanged for DEAD seconds, by its own clock, is dead and
may be taken: clocks of different machines are never compared.
"""

import time
import uuid
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BusyError
from pipeline.registry.embedded import oci
from pipeline.registry.embedded.oci import Lost, Refused, Repository

TAG = "lease"
ANSWER_SECONDS = 10  # a registry that takes longer for so small an object counts as unreachable
SOON = (0.2, 0.4)  # seconds until the next tries: Debian's registry responds with 500 while a tag is being written
FAULTS = 6  # failures in a row after which we stop waiting


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
    """The tag's content: holder, its description for people, and the heartbeat's parity; an empty holder means free."""
    return oci.manifest([], {"slipway.holder": holder, "slipway.who": who, "slipway.beat": beat})


FREE = ("", "nobody", "free")


class Claimant:
    """One job's view of the lease: its own id, the content seen last, and since when."""

    def __init__(self, repository: str, who: str, holder: str | None = None, timing: Timing = TIMING):
        self.holder, self.who, self.timing = holder or uuid.uuid4().hex, who, timing
        self.store = Repository(repository, ANSWER_SECONDS, SOON)
        self.seen: tuple[str, float] = ("", 0.0)
        self.other = "another job"

    def acquire(self) -> None:
        """Wait for the lease and take it; raises BusyError after `patience` seconds, Refused or Lost when the registry fails."""
        patient = Repository(self.store.name)
        patient.prepare()
        self.store.client.auth = patient.client.auth  # a token for writing: requesting one now would delay the claim
        deadline, told, faults = time.monotonic() + self.timing.patience, 0.0, 0
        while True:
            try:
                if self._try():
                    return
                faults = 0
            except Lost as error:
                self.seen, faults = ("", 0.0), faults + 1  # a holder that cannot be observed is not dead
                self.holder = uuid.uuid4().hex  # a claim with unknown outcome counts as somebody else's
                if faults >= FAULTS:
                    raise
                print(f"  {error.what}; trying again in {self.timing.poll} s", flush=True)
            if time.monotonic() > deadline:
                raise BusyError(
                    f"{self.other} still holds the MLflow of {self.store.name}",
                    f"wait for it to end, or stop it; its lease expires after {self.timing.dead:g} s",
                )
            if faults == 0 and time.monotonic() - told > self.timing.tell:
                print(f"waiting: {self.other} holds the MLflow", flush=True)
                told = time.monotonic()
            time.sleep(self.timing.poll)

    def _try(self) -> bool:
        """Claim the lease if it is free or dead; True when the claim is still there after `settle` seconds."""
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
        """Read the lease ({} when there is none), and note since when it has been the same."""
        found = self._found()
        digest = found[0] if found else "none"
        if digest != self.seen[0]:
            self.seen = (digest, time.monotonic())
        return (found[1].get("annotations") or {}) if found else {}

    def _found(self) -> tuple[str, dict[str, Any]] | None:
        try:
            return self.store.get(TAG)
        except Refused:
            # Some registries refuse to read what does not exist yet. With write access we can create it, and then read.
            self.store.put("opened", content(*FREE))
            return self.store.get(TAG)

    def _dead(self, now: float) -> bool:
        return now - self.seen[1] > self.timing.dead

    def ours(self) -> bool:
        """Whether the lease is ours at this moment."""
        return self._read().get("slipway.holder") == self.holder

    def beat(self) -> bool:
        """Send a heartbeat; False, without writing, when the lease is no longer ours."""
        now = self._read()
        if now.get("slipway.holder") != self.holder:
            return False
        self.store.put(TAG, content(self.holder, self.who, "tock" if now.get("slipway.beat") == "tick" else "tick"))
        return True

    def release(self) -> bool:
        """Free the lease; False, without writing, when it is no longer ours."""
        if not self.ours():
            return False
        self.store.put(TAG, content(*FREE))
        return True
