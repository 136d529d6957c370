"""The checker of disks sees every way in which a guest may have written when it should not."""

from collections.abc import Iterable

from tests.e2e.counter import LANE_SECTORS, LANES, SECTOR_BYTES, Record, epochs, findings, last

SIZE_BYTES = LANES * LANE_SECTORS * SECTOR_BYTES


def forged(*records: Record, old: bytes = bytes(SIZE_BYTES)) -> bytes:
    raw = bytearray(old)
    for record in records:
        at = (record.lane * LANE_SECTORS + record.number % LANE_SECTORS) * SECTOR_BYTES
        raw[at : at + SECTOR_BYTES] = f"{' '.join(map(str, record)):511}\n".encode()
    return bytes(raw)


def run(
    epoch: int, boots: int, numbers: Iterable[int], *, boot: str = "", before: int = -1, before_number: int = 0
) -> list[Record]:
    return [Record(epoch, boots, number, boot or f"{epoch}.{boots}", before, before_number) for number in numbers]


FIRST = run(1, 1, range(1, 11))
SECOND = run(2, 1, range(1, 6), before=0, before_number=10)
GOOD = forged(*FIRST, *SECOND)


def test_one_after_the_other_is_well() -> None:
    assert findings(bytes(SIZE_BYTES)) == []
    assert last(bytes(SIZE_BYTES)) is None
    assert findings(GOOD) == []
    assert epochs(GOOD) == [1, 2]
    assert last(GOOD) == SECOND[-1]


def test_epochs_in_which_nobody_wrote_are_well() -> None:
    later = run(7, 2, range(1, 4), before=0, before_number=10)
    assert findings(forged(*FIRST, *later)) == []
    assert epochs(forged(*FIRST, *later)) == [1, 7]


def test_a_ring_that_has_come_round_is_well() -> None:
    long = run(1, 1, range(1, 3 * LANE_SECTORS))
    assert findings(forged(*long, *run(2, 1, [1], before=0, before_number=long[-1].number))) == []


def test_a_guest_that_crashed_goes_on_in_its_lane() -> None:
    assert findings(forged(*FIRST, *run(1, 1, range(11, 13), boot="again"))) == []


def test_a_write_after_the_next_had_begun_is_seen() -> None:
    [found] = findings(forged(*run(1, 1, [11]), old=GOOD))
    assert found == "epoch 1 boots 1 wrote 1 times after epoch 2 boots 1 had begun"


def test_a_ring_hides_no_late_write() -> None:
    assert findings(forged(*run(1, 1, range(11, 11 + LANE_SECTORS)), old=GOOD))


def test_a_first_write_after_a_later_one_had_begun_is_seen() -> None:
    """Of a guest that stood still before it wrote anything, while the next one found nothing of it."""
    third = run(3, 1, range(1, 3), before=0, before_number=10)
    late = run(2, 1, [1], before=0, before_number=10)
    assert findings(forged(*FIRST, *third)) == []
    assert "epoch 2 boots 1 wrote 1 times after epoch 3 boots 1 had begun" in findings(forged(*FIRST, *third, *late))


def test_a_write_before_the_first_record_of_the_next_is_seen() -> None:
    """What counts is when that one began to read."""
    assert findings(forged(*FIRST, *run(2, 1, [1], before=0, before_number=9)))


def test_what_was_written_and_is_gone_is_seen() -> None:
    assert findings(forged(*FIRST[:-1], *SECOND)) == [
        f"epoch 2 boots 1 has seen 10 records of {FIRST[-2]}, of which some are lost"
    ]
    assert findings(forged(*FIRST[:4], *FIRST[5:]))[0].endswith("the records [5] are missing")
    assert findings(forged(*SECOND)) == ["all that epoch 2 boots 1 has seen of lane 0 is lost"]


def test_two_runs_of_one_lane_are_seen() -> None:
    assert "two runs share lane 1" in findings(forged(*FIRST, *run(1, 2, range(1, 3)), *run(2, 1, range(3, 5))))[0]


def test_two_guests_of_one_epoch_that_write_in_turns_are_seen() -> None:
    found = findings(forged(*FIRST[:4], *run(1, 1, [5], boot="other"), *FIRST[5:]))
    assert found == ["two guests of epoch 1 boots 1 wrote in turns"]


def test_an_epoch_that_goes_back_is_seen() -> None:
    assert any(
        "comes after" in found for found in findings(forged(*run(2, 1, [1]), *run(1, 3, [1], before=1, before_number=1)))
    )


def test_what_is_no_record_and_what_is_elsewhere_is_seen() -> None:
    torn = bytearray(GOOD)
    torn[:4] = b"torn"
    assert "sector 0 holds no record" in findings(bytes(torn))[0]
    moved = GOOD[SECTOR_BYTES:] + bytes(SECTOR_BYTES)
    assert "is not where" in findings(moved)[0]
