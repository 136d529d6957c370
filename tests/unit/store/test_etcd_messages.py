"""The bytes on the wire, against ones worked out by hand from etcd's field numbers."""

from ucloud.model.decision import NotNewer, Unchanged
from ucloud.store.etcd import comparison
from ucloud.store.etcd_messages import MESSAGES


def test_a_comparison_with_revision_zero_is_sent() -> None:
    equal, mod, key = b"\x08\x00", b"\x10\x02", b"\x1a\x0c/ucloud/v1/a"
    assert comparison(Unchanged("a", 0)).SerializeToString() == equal + mod + key + b"\x30\x00"


def test_a_comparison_over_a_prefix_ends_behind_its_last_key() -> None:
    less, mod, key, end = b"\x08\x02", b"\x10\x02", b"\x1a\x0d/ucloud/v1/a/", b"\x82\x04\x0d/ucloud/v1/a0"
    assert comparison(NotNewer("a/", 6)).SerializeToString() == less + mod + key + b"\x30\x07" + end


def test_a_message_survives_the_wire() -> None:
    kv = MESSAGES["KeyValue"](key=b"k", create_revision=1, mod_revision=2**40, value=b"v", lease=3)
    answer = MESSAGES["RangeResponse"](header=MESSAGES["Header"](revision=7), kvs=[kv, kv], more=True)
    assert MESSAGES["RangeResponse"].FromString(answer.SerializeToString()) == answer
