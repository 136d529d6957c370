"""Proves from a disk alone that no guest of a VM wrote to it after a later one had begun.

Guests of `tiny` with `USER_DATA` (counter.sh) write a record twice a second: epoch and boots as they read them from SMBIOS,
its number, the boot's random id, and what stood in the lane before theirs when they began. Each (epoch, boots) has a lane of
its own, a ring of 128 sectors, so nobody ever writes over what another wrote: a guest that writes too late leaves its record
in its lane, where the number is then higher than a later guest had found it. The lanes are full of zeros before they are
used, so that a write goes where it is meant to, whatever two qemus believe of the disk.

For test_failover.py and the soak; `findings` answers sentences, none if all is well.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

USER_DATA = Path(__file__).with_suffix(".sh").read_bytes()
DISK_MIB = 64
SECTOR_BYTES = 512
LANES, LANE_SECTORS = 128, 128
LANES_AT_BYTES = 801 * 65536  # behind the file system of `tiny`


class Record(NamedTuple):
    """before: the lane before this one that was not empty when its guest began, -1 for none; before_number: of its last
    record."""

    epoch: int
    boots: int
    number: int
    boot: str
    before: int
    before_number: int

    @property
    def lane(self) -> int:
        """Each run of a VM has a higher epoch or more boots than the one before, unless that crashed."""
        return self.epoch + self.boots - 2


Lanes = Mapping[int, Sequence[Record]]


def read(disk: Path) -> bytes:
    """The lanes of a qcow2 file, whether a guest has it or not."""
    skip = f"skip={LANES_AT_BYTES // 65536}"
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "lanes"
        subprocess.run(["qemu-img", "dd", "-U", "-O", "raw", "bs=64k", skip, f"if={disk}", f"of={copy}"], check=True)
        return copy.read_bytes()[: LANES * LANE_SECTORS * SECTOR_BYTES]


def parse(raw: bytes) -> tuple[dict[int, list[Record]], list[str]]:
    """Records by lane and number; sectors that are no such records, in words."""
    lanes, strange = dict[int, list[Record]](), []
    for position in range(len(raw) // SECTOR_BYTES):
        sector = raw[position * SECTOR_BYTES : (position + 1) * SECTOR_BYTES]
        if not any(sector):
            continue
        try:
            epoch, boots, number, boot, before, before_number = sector.decode("ascii").split()
            record = Record(int(epoch), int(boots), int(number), boot, int(before), int(before_number))
        except ValueError:
            strange.append(f"sector {position} holds no record: {sector[:60]!r}")
            continue
        if position != record.lane * LANE_SECTORS + record.number % LANE_SECTORS:
            strange.append(f"sector {position} is not where {record} belongs")
        lanes.setdefault(record.lane, []).append(record)
    return {lane: sorted(lanes[lane], key=lambda record: record.number) for lane in sorted(lanes)}, strange


def findings(raw: bytes) -> list[str]:
    lanes, found = parse(raw)
    return [*found, *(finding for lane in lanes for finding in [*within(lanes[lane]), *too_late(lanes, lane)]), *order(lanes)]


def epochs(raw: bytes) -> list[int]:
    """That wrote anything, in the order in which they came."""
    lanes, _ = parse(raw)
    return [epoch for epoch, _ in groupby(lanes[lane][-1].epoch for lane in lanes)]


def last(raw: bytes) -> Record | None:
    """Of the run that came last."""
    lanes, _ = parse(raw)
    return lanes[max(lanes)][-1] if lanes else None


def within(lane: Sequence[Record]) -> Iterator[str]:
    """It is one run's, of which nothing is missing; it crashed before it began again."""
    newest = lane[-1]
    if len({(record.epoch, record.boots) for record in lane}) > 1:
        yield f"two runs share lane {newest.lane}, such as {lane[0]} and {newest}"
    kept = range(max(1, newest.number - LANE_SECTORS + 1), newest.number + 1)
    if [record.number for record in lane] != list(kept):
        missing = sorted(set(kept) - {record.number for record in lane})
        yield f"of epoch {newest.epoch} boots {newest.boots} the records {missing or 'beyond the last'} are missing"
    if len([boot for boot, _ in groupby(record.boot for record in lane)]) != len({record.boot for record in lane}):
        yield f"two guests of epoch {newest.epoch} boots {newest.boots} wrote in turns"


def too_late(lanes: Lanes, lane: int) -> Iterator[str]:
    """Who wrote to an earlier lane after the guests of this one had begun."""
    for record in {record.boot: record for record in lanes[lane]}.values():
        for earlier in [other for other in lanes if record.before <= other < lane]:
            known = record.before_number if earlier == record.before else 0
            newest = lanes[earlier][-1]
            if newest.number > known:
                yield (
                    f"epoch {newest.epoch} boots {newest.boots} wrote {newest.number - known} times "
                    f"after epoch {record.epoch} boots {record.boots} had begun"
                )
            if newest.number < known:
                yield f"epoch {record.epoch} boots {record.boots} has seen {known} records of {newest}, of which some are lost"
        if record.before >= 0 and record.before not in lanes:
            yield f"all that epoch {record.epoch} boots {record.boots} has seen of lane {record.before} is lost"


def order(lanes: Lanes) -> Iterator[str]:
    newest = [records[-1] for _, records in sorted(lanes.items())]
    for earlier, later in pairwise(newest):
        if later.epoch < earlier.epoch or later.boots < earlier.boots:
            yield f"{later} comes after {earlier}"
