"""The work: shards taken one by one under claims, until all of them are in the store, whoever made them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.claims import Claims
from pipeline.plan import Shard
from pipeline.progress import Reporter
from pipeline.store import Store, StoredShard

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""Time between two looks at shards that others are making."""

Make = Callable[[Shard], StoredShard]


@dataclass
class WorkDone:
    """What came of a list of shards.

    Attributes:
        made: by this process.
        found: made by others while this process was at work.
        waited_s: spent waiting for others.
    """

    made: list[tuple[Shard, StoredShard]] = field(default_factory=list)
    found: list[tuple[Shard, StoredShard]] = field(default_factory=list)
    waited_s: float = 0.0

    @property
    def num_jobs(self) -> int:
        """Jobs run by this process."""
        return sum(len(shard.units) for shard, _ in self.made)


def work(
    store: Store,
    shards: Sequence[Shard],
    claims: Claims,
    make: Make,
    reporter: Reporter,
    *,
    wait: bool = True,
    meanwhile: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> WorkDone:
    """Make shards that nobody makes or has made.

    Args:
        store: where they belong.
        shards: to be made, in this order as far as others leave them.
        claims: of this process, in this store.
        make: makes and stores one.
        reporter: told of shards.
        wait: until others have made what they claimed, or have died and left it; otherwise leave it to them.
        meanwhile: called before each shard and at each look at those of others.
        sleep: waits for a time in seconds.

    Raises:
        AtlasError: whatever ``make`` or the store raises; the claim on the shard is given back.
    """
    done, left = WorkDone(), list(shards)
    while left:
        others = []
        for shard in left:
            meanwhile()
            if not _attend(store, shard, claims, make, reporter, done):
                others.append(shard)
        if not wait or not others:
            break
        if len(others) == len(left):
            if not done.waited_s:
                log.info("waiting for %d shards that others make, the first is %s", len(others), others[0])
            sleep(LOOK_S)
            done.waited_s += LOOK_S
        left = others
    return done


def _attend(store: Store, shard: Shard, claims: Claims, make: Make, reporter: Reporter, done: WorkDone) -> bool:
    """Make a shard, or see that it is done; False if another is at it.

    It is looked for before it is claimed, since of the shards of a large order most are others'; and again under the
    claim, since another may have finished it in between.
    """
    if _is_found(store, shard, reporter, done):
        return True
    claim = claims.take(shard.claim_path)
    if claim is None:
        return False
    with claim:
        if _is_found(store, shard, reporter, done):
            return True
        reporter.begin_shard(shard)
        done.made.append((shard, make(shard)))
        reporter.end_shard(shard)
    return True


def _is_found(store: Store, shard: Shard, reporter: Reporter, done: WorkDone) -> bool:
    """Whether another has made a shard; tells of it."""
    stored = store.look(shard.key, shard.units)
    if stored is None:
        return False
    log.info("%s was made by another process", shard)
    done.found.append((shard, stored))
    reporter.found_shard(shard, stored)
    return True
