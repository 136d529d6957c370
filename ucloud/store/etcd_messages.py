"""The messages of etcd's protocol that ucloud sends and reads, built when this module is imported.

Names and numbers are those of etcd's rpc.proto and kv.proto (3.4 and later), in a package of our own, so that no other
etcd library in the process clashes with them. proto2, because there a number that is 0 is sent too: a comparison with
revision 0 means something. Enums are int32, which is the same on the wire. What isn't used isn't here.
"""

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "ucloud.etcd"

TABLE = """
Header: uint64 member_id 2, int64 revision 3
KeyValue: bytes key 1, int64 create_revision 2, int64 mod_revision 3, bytes value 5, int64 lease 6
RangeRequest: bytes key 1, bytes range_end 2, int64 limit 3, int64 revision 4
RangeResponse: Header header 1, KeyValue* kvs 2, bool more 3
PutRequest: bytes key 1, bytes value 2, int64 lease 3
DeleteRangeRequest: bytes key 1
RequestOp: RangeRequest request_range 1, PutRequest request_put 2, DeleteRangeRequest request_delete_range 3
ResponseOp: RangeResponse response_range 1
Compare: int32 result 1, int32 target 2, bytes key 3, int64 mod_revision 6, bytes range_end 64
TxnRequest: Compare* compare 1, RequestOp* success 2
TxnResponse: Header header 1, bool succeeded 2, ResponseOp* responses 3
CompactionRequest: int64 revision 1, bool physical 2
CompactionResponse: Header header 1
Event: int32 type 1, KeyValue kv 2
WatchCreateRequest: bytes key 1, bytes range_end 2, int64 start_revision 3, int64 watch_id 7
WatchProgressRequest:
WatchRequest: WatchCreateRequest create_request 1, WatchProgressRequest progress_request 3
WatchResponse: Header header 1, int64 watch_id 2, bool created 3, bool canceled 4, int64 compact_revision 5, \
string cancel_reason 6, Event* events 11
LeaseGrantRequest: int64 TTL 1
LeaseGrantResponse: int64 ID 2, int64 TTL 3
LeaseKeepAliveRequest: int64 ID 1
LeaseKeepAliveResponse: int64 ID 2, int64 TTL 3
LeaseRevokeRequest: int64 ID 1
LeaseRevokeResponse: Header header 1
StatusRequest:
StatusResponse: Header header 1, string version 2, int64 dbSize 3, uint64 leader 4, string* errors 8
MemberListRequest:
Member: uint64 ID 1, string name 2, string* peerURLs 3, string* clientURLs 4
MemberListResponse: Header header 1, Member* members 2
"""

EQUAL, LESS = 0, 2  # Compare.result
MOD = 2  # Compare.target
DELETE = 1  # Event.type
PROGRESS_WATCH_ID = -1  # the answer to a progress request is about all watches of a stream

FIELD = re.compile(r"(?P<type>\w+)(?P<repeated>\*?) (?P<name>\w+) (?P<number>\d+)")
Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "bool": Field.TYPE_BOOL,
    "bytes": Field.TYPE_BYTES,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "string": Field.TYPE_STRING,
    "uint64": Field.TYPE_UINT64,
}


def build(table: str) -> dict[str, Any]:
    """The message classes that the table names."""
    file = descriptor_pb2.FileDescriptorProto(name="ucloud/etcd.proto", package=PACKAGE, syntax="proto2")
    for line in table.strip().splitlines():
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for match in FIELD.finditer(fields):
            field = message.field.add(name=match["name"], number=int(match["number"]))
            field.label = Field.LABEL_REPEATED if match["repeated"] else Field.LABEL_OPTIONAL
            if match["type"] in SCALARS:
                field.type = SCALARS[match["type"]]
            else:
                field.type, field.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{match['type']}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{message.name}"))
        for message in file.message_type
    }


MESSAGES = build(TABLE)
