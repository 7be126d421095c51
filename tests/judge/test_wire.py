"""What crosses between judge and candidate: all that a suite needs, and nothing that could hurt the judge."""

import io
import json
import math
import struct
import tracemalloc

import pytest
import safetensors
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

from grader.candidate import tensors, wire
from grader.candidate.channel import Channel, Closed
from grader.candidate.envelope import seal, unseal
from grader.candidate.wire import ModuleRef, Opaque, WireError, pack, unpack

FUZZ = settings(deadline=None, database=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
)  # fmt: skip


def to_candidate(value):
    return unpack(pack({"value": value}, strided=True), trusted=True)["value"]


def to_judge(value):
    return unpack(pack({"value": value}), trusted=False)["value"]


WAYS = pytest.mark.parametrize("cross", [to_candidate, to_judge])


def numbers(*shape, dtype=torch.float32):
    count = math.prod(shape)
    if dtype is torch.bool:
        return (torch.arange(count) % 3 == 0).reshape(shape)
    return (torch.arange(count) - (0 if dtype is torch.uint8 else 3)).to(dtype).reshape(shape)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


# --- tensors -------------------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (0,), (2, 0, 3), (1, 1, 1, 2)])
def test_every_dtype_and_shape_arrives_as_it_was(cross, dtype, shape):
    tensor = numbers(*shape, dtype=dtype)

    arrived = cross(tensor)

    assert same(arrived, tensor)


@WAYS
def test_numbers_that_are_no_numbers_arrive(cross):
    tensor = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])

    arrived = cross(tensor)

    assert arrived.isnan().tolist() == [True, False, False, False]
    assert arrived[1:].tolist() == [float("inf"), -float("inf"), 0.0]
    assert math.copysign(1.0, arrived[3].item()) == -1.0


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(0, 2),
        lambda x: x[:, ::2, 1:],
        lambda x: x[1, 2:],
        lambda x: x.unsqueeze(1).expand(2, 5, 3, 4),
        lambda x: x.flatten().unfold(0, 3, 1),
        lambda x: x.permute(2, 0, 1).flip(0)[1],
        lambda x: x[..., 0],
    ],
    ids=["transposed", "sliced", "offset", "expanded", "overlapping", "permuted", "a column"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64, torch.bfloat16])
def test_a_view_arrives_with_its_strides_at_the_candidate_and_packed_at_the_judge(view, dtype):
    tensor = view(numbers(2, 3, 4, dtype=dtype))

    there, back = to_candidate(tensor), to_judge(tensor)

    assert same(there, tensor)
    assert there.stride() == tensor.stride()
    assert same(back, tensor)
    assert back.is_contiguous()


def test_a_conjugated_or_negated_view_arrives_as_its_values():
    tensor = torch.complex(numbers(3, 4), numbers(3, 4) + 1)

    for view in tensor.conj(), tensor.conj().imag, tensor.mT.conj()[1:, ::2]:
        for cross in to_candidate, to_judge:
            assert same(cross(view), view.resolve_conj().resolve_neg())


@WAYS
def test_what_arrives_is_memory_of_its_own(cross):
    tensor = numbers(4)

    arrived = cross(tensor)
    arrived += 1

    assert tensor.tolist() == [-3, -2, -1, 0]


@WAYS
def test_one_tensor_passed_twice_arrives_as_one_and_two_views_as_two(cross):
    tensor = numbers(2, 3)

    first, second, view = cross([tensor, tensor, tensor[:]])

    assert first is second
    assert view is not first


@WAYS
def test_the_wish_for_a_gradient_crosses_and_the_graph_does_not(cross):
    leaf = numbers(3).requires_grad_()

    arrived = cross([leaf, leaf * 2, numbers(3), numbers(2, dtype=torch.complex64).requires_grad_()])

    assert [tensor.requires_grad for tensor in arrived] == [True, True, False, True]
    assert all(tensor.is_leaf for tensor in arrived)


@WAYS
def test_a_parameter_arrives_as_a_tensor(cross):
    arrived = cross(nn.Parameter(numbers(2)))

    assert type(arrived) is torch.Tensor
    assert arrived.requires_grad


@WAYS
def test_a_meta_tensor_keeps_shape_and_dtype(cross):
    arrived = cross(torch.empty(3, 2**30, dtype=torch.bfloat16, device="meta"))

    assert (arrived.shape, arrived.dtype, arrived.device.type) == ((3, 2**30), torch.bfloat16, "meta")


@WAYS
@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        (torch.eye(2).to_sparse(), "sparse_coo tensor"),
        (torch.zeros(2, dtype=torch.float8_e4m3fn), "float8_e4m3fn tensor"),
    ],
)
def test_a_tensor_of_another_kind_arrives_as_its_name(cross, tensor, name):
    assert cross(tensor) == Opaque(name)


# --- everything else -----------------------------------------------------------------------------------------------

LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from([torch.float32, torch.bool, torch.device("cpu"), torch.device("meta"), torch.device("cuda:1")])
    | st.builds(ModuleRef, st.integers(0, 9)) | st.builds(Opaque, st.text(max_size=8))
)  # fmt: skip
KEYS = st.text(max_size=4) | st.integers(-3, 3) | st.tuples(st.integers(0, 3), st.booleans())
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
@settings(FUZZ, max_examples=150)
def test_plain_values_arrive_as_they_were(value):
    for cross in to_candidate, to_judge:
        arrived = cross(value)

        assert arrived == value
        assert repr(arrived) == repr(value)  # True is not 1, and a tuple not a list


@WAYS
def test_tensors_arrive_where_they_stood_in_nested_containers(cross):
    value = {"a": [numbers(2), (numbers(3), {"deep": numbers(1)})], "b": ()}

    arrived = cross(value)

    assert arrived.keys() == value.keys()
    assert same(arrived["a"][0], value["a"][0])
    assert isinstance(arrived["a"][1], tuple)
    assert same(arrived["a"][1][1]["deep"], value["a"][1][1]["deep"])
    assert arrived["b"] == ()


@WAYS
def test_a_module_crosses_as_its_number_or_not_at_all(cross):
    module = nn.Linear(1, 1)

    numbered = unpack(pack({"value": [module]}, module_ref=lambda known: 7 if known is module else 0), trusted=False)

    assert numbered["value"] == [ModuleRef(7)]
    assert cross(module) == Opaque("Linear")
    assert cross(object) == Opaque("type")
    assert cross({1, 2}) == Opaque("set")
    assert cross(Opaque("Thing")) == Opaque("Thing")


# --- limits when packing -------------------------------------------------------------------------------------------


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [nested(40), [0] * (wire.MAX_NODES + 1), 2**64, -(2**70), "x" * (wire.MAX_HEADER + 1)],
    ids=["too deep", "too many", "too large an integer", "too small an integer", "too long a text"],
)
def test_what_is_too_much_does_not_leave(value):
    with pytest.raises(WireError):
        pack({"value": value})


def test_a_list_that_holds_itself_does_not_leave():
    value = []
    value.append(value)

    with pytest.raises(WireError):
        pack({"value": value})


@pytest.mark.parametrize("strided", [True, False])
def test_tensors_that_are_too_large_are_refused_before_they_are_copied(strided):
    wide = torch.zeros(1, dtype=torch.uint8).expand(wire.MAX_FRAME)
    half = torch.zeros(1).expand(wire.MAX_FRAME // 8 + 1, 1)
    before = "a tensor of shape"

    tracemalloc.start()
    try:
        for value in [wide], [half.clone(), half.clone()[:]]:
            if strided and value[0].stride() == (0,):
                continue  # 1 byte with a stride of 0
            with pytest.raises(WireError, match=before):
                pack({"value": value}, strided=strided)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < wire.MAX_FRAME


# --- frames that break the rules -----------------------------------------------------------------------------------


def frame(header, tensors=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<I", len(text)) + text + (safetensors_of(tensors) if tensors else b"")


def safetensors_of(tensors):
    table, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def spec(dtype="F32", shape=(2,), **more):
    return {"dtype": dtype, "shape": list(shape), "grad": False, **more}


def message(*specs, value=None):
    return {"tensors": list(specs), "message": {"t": "dict", "v": [["value", value]]}}


TWO = {"0": ("F32", [2], bytes(8))}
POINT = {"t": "tensor", "v": 0}


def test_the_hand_made_frame_of_these_tests_is_a_good_one():
    arrived = unpack(frame(message(spec(), value=POINT), TWO), trusted=False)

    assert arrived["value"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x00",
        struct.pack("<I", 99) + b"{}",
        struct.pack("<I", wire.MAX_HEADER + 1) + b"x" * 64,
        frame(b"not json"),
        frame(b"\xff\xfe\xfd"),
        frame(b"[" * 100_000),
        frame(b"9" * 5_000),
        frame([]),
        frame({}),
        frame({"tensors": {}, "message": 3}),
        frame({"tensors": [], "message": {"t": "list", "v": []}}),
        frame({"tensors": [0], "message": None}),
        frame({"tensors": [spec()] * (tensors.MAX_TENSORS + 1), "message": None}),
        frame(message(value={"t": "code", "v": "1"})),
        frame(message(value={"t": "tensor", "v": 0})),
        frame(message(value={"t": "tensor", "v": -1})),
        frame(message(value={"t": "tensor", "v": "0"})),
        frame(message(value={"t": "module", "v": "one"})),
        frame(message(value={"t": "dtype", "v": "float3"})),
        frame(message(value={"t": "dtype", "v": "load"})),
        frame(message(value={"t": "device", "v": "moon"})),
        frame(message(value={"t": "dict", "v": [[{"t": "list", "v": []}, 1]]})),
        frame(message(value={"t": "dict", "v": [[1, 2, 3]]})),
        frame(message(value={"t": "list", "v": 3})),
        frame(message(value={"v": 3})),
        frame(message(value=[1])),
        frame(message(value=2**64)),
        frame(message(value=1)) + b"junk",
        frame(message(spec(), value=POINT)),
        frame(message(spec("F64"), value=POINT), TWO),
        frame(message(spec("C64", [1]), value=POINT), TWO),
        frame(message(spec("F8"), value=POINT), TWO),
        frame(message(spec(shape=[3]), value=POINT), TWO),
        frame(message(spec(shape=[-2]), value=POINT), TWO),
        frame(message(spec(shape=[2, -1]), value=POINT), TWO),
        frame(message(spec(shape=["two"]), value=POINT), TWO),
        frame(message(spec(shape=[1e400]), value=POINT), TWO),
        frame(message(spec(shape=[1] * 40), value=POINT), TWO),
        frame(message(spec(stride=[0]), value=POINT), TWO),
        frame(message({"dtype": "F32", "shape": [2]}, value=POINT), TWO),
        frame(message(spec(shape=[2**41], meta=True), value=POINT)),
        frame(message(spec(shape=[0, 2**40, 2**40], meta=True), value=POINT)),
        frame(message(spec(shape=[2**21, 2**20], meta=True), value=POINT)),
        frame(message(spec(), value=POINT)) + struct.pack("<Q", 2**40) + b"{}",
        frame(message(spec(), value=POINT)) + struct.pack("<Q", wire.MAX_HEADER + 1) + b" " * 64,
        frame(message(spec(), value=POINT)) + safetensors_of({"0": ("F32", [2], bytes(4))}),
        frame(message(spec(), value=POINT)) + safetensors_of({"0": ("F32", [2**62], bytes(8))}),
        frame(message(spec(), value=POINT)) + safetensors_of({"0": ("F9", [2], bytes(8))}),
    ],
)
def test_a_frame_that_breaks_a_rule_is_refused(bad):
    with pytest.raises(WireError):
        unpack(bad, trusted=False)


def test_a_byte_that_is_no_bool_becomes_one():
    odd = frame(message(spec("BOOL", [3]), value=POINT), {"0": ("BOOL", [3], b"\x00\x01\x02")})

    arrived = unpack(odd, trusted=False)["value"]

    assert arrived.view(torch.uint8).tolist() == [0, 1, 1]


def test_a_graph_cannot_be_wished_for_an_integer():
    wish = frame(message(spec("I32") | {"grad": True}, value=POINT), {"0": ("I32", [2], bytes(8))})

    assert not unpack(wish, trusted=False)["value"].requires_grad


def test_strides_are_followed_for_the_judge_alone():
    sent = pack({"value": numbers(3, 2).mT}, strided=True)

    assert unpack(sent, trusted=True)["value"].stride() == (1, 2)
    with pytest.raises(WireError):
        unpack(sent, trusted=False)


# --- fuzz ----------------------------------------------------------------------------------------------------------

GOOD = [
    pack({"value": [numbers(2, 3), numbers(1, dtype=torch.complex64), torch.empty(2, device="meta")], "ran": {"f": 3}}),
    pack({"error": {"type": "ValueError", "bases": ["ValueError"], "message": "no", "line": 3}, "changed": [0]}),
    pack({"value": {"a": (numbers(2, dtype=torch.bool), torch.float32, ModuleRef(1))}, "names": []}),
]
PEAK = 24 * 2**20  # bytes; the header alone may hold 4 MiB of text


def assert_harmless(data):
    tracemalloc.start()
    try:
        arrived = unpack(data, trusted=False)
    except WireError:
        arrived = {}
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert isinstance(arrived, dict)
    assert peak < PEAK


@given(st.binary(max_size=300))
@example(struct.pack("<I", 2) + b"{}" + struct.pack("<Q", 8) + b"{}      ")
@FUZZ
def test_random_bytes_are_a_message_or_refused(data):
    assert_harmless(data)


@given(st.binary(max_size=80), st.binary(max_size=80))
@FUZZ
def test_random_headers_and_bodies_are_a_message_or_refused(header, body):
    assert_harmless(struct.pack("<I", len(header)) + header + body)


@given(st.sampled_from(GOOD), st.data())
@FUZZ
def test_a_good_frame_with_some_bytes_changed_is_a_message_or_refused(good, data):
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        what = data.draw(st.sampled_from(["set", "cut", "double"]))
        if what == "set":
            changed[place] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del changed[place : place + data.draw(st.integers(1, 8))]
        else:
            changed[place:place] = changed[place : place + data.draw(st.integers(1, 8))]
        if not changed:
            break

    assert_harmless(bytes(changed))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats()
    | st.sampled_from(["tensor", "list", "dict", "module", "dtype", "device", "object", "F32", "BOOL", "C64", "t"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries({"t": inner, "v": inner})
        | st.fixed_dictionaries({"dtype": inner, "shape": inner, "grad": inner}, optional={"meta": inner})
    ),
    max_leaves=10,
)  # fmt: skip


@given(JSON, JSON, st.booleans())
@FUZZ
def test_a_header_of_the_right_form_with_wrong_parts_is_a_message_or_refused(specs, value, with_data):
    header = {"tensors": specs, "message": {"t": "dict", "v": [["value", value]]}}

    assert_harmless(frame(header, TWO if with_data else None))


@given(JSON)
@FUZZ
def test_a_tensor_that_is_described_wrongly_is_refused_or_has_as_many_numbers_as_came(shape):
    data = frame(message(spec() | {"shape": shape}, value=POINT), TWO)

    try:
        arrived = unpack(data, trusted=False)["value"]
    except WireError:
        return

    assert arrived.numel() == 2


HASH = 2**61 - 1  # hash of an integer is its rest by this


def tuples_of_one_hash(count):
    """Return pairs of numbers whose second undoes what the first has done to the hash."""
    first, second, start = 11400714785074694791, 14029467366897019727, 2870177450012600261  # as CPython has them
    for i in range(1, 5 * count):
        state = (start + i * second) % 2**64
        state = (state << 31 | state >> 33) * first % 2**64
        undo = (12345 - state) * pow(second, -1, 2**64) % 2**64
        undo -= 2**64 * (undo >= 2**63)
        if abs(undo) < HASH:
            yield (i, undo)


ALIKE = {
    "numbers": [HASH * (i + 10) for i in range(40_000)],
    "modules": [{"t": "module", "v": HASH * (i + 10)} for i in range(40_000)],
    "tuples": [{"t": "tuple", "v": list(pair)} for pair in tuples_of_one_hash(20_000)],
}


@pytest.mark.parametrize("keys", ALIKE.values(), ids=ALIKE.keys())
@pytest.mark.timeout(10)
def test_keys_that_were_made_to_collide_are_refused(keys):
    pairs = [[key, 0] for key in keys]

    with pytest.raises(WireError):
        unpack(frame(message(value={"t": "dict", "v": pairs})), trusted=False)


def test_keys_of_all_kinds_arrive():
    value = {(i, j): i for i in range(50) for j in range(-50, 50)} | dict.fromkeys(range(-5000, 5000)) | {None: 1.5}

    assert to_judge(value) == value


def test_the_layout_of_a_frame_with_many_tensors_is_not_kept():
    before = tensors._lay_out_again.cache_info().currsize

    for size in range(5):
        to_judge([torch.zeros(0, size, 977) for _ in range(tensors.MAX_KEPT + 1)])

    assert tensors._lay_out_again.cache_info().currsize == before


# --- envelopes -----------------------------------------------------------------------------------------------------


def test_an_envelope_arrives_with_its_number_and_its_frames():
    frames = [b"", b"one", bytes(1000)]

    assert unseal(seal(-5, frames)) == (-5, frames)
    assert unseal(seal(-5, frames), 3) == (-5, frames)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        seal(1, [b"one"])[:-1],
        seal(1, [b"one"]) + b"x",
        seal(1, []),
        seal(1, [b"one", b""]),
        struct.pack("<qI", 1, 2**32 - 1),
    ],
)
def test_another_envelope_than_was_asked_for_is_refused(data):
    with pytest.raises(WireError):
        unseal(data, 1)


@pytest.mark.timeout(10)
def test_millions_of_empty_frames_are_refused_unread():
    count = 40_000_000

    with pytest.raises(WireError):
        unseal(struct.pack("<qI", 1, count) + bytes(4 * count), 2)


# --- channels ------------------------------------------------------------------------------------------------------


def test_frames_arrive_whole_and_in_order():
    stream = io.BytesIO()
    channel = Channel(stream, stream)
    frames = [b"", b"one", bytes(100_000)]

    for one in frames:
        channel.send(one)
    stream.seek(0)

    assert [channel.receive() for _ in frames] == frames


@pytest.mark.parametrize("data", [b"", b"\x05", struct.pack("<I", 5) + b"four"])
def test_a_stream_that_ends_is_closed(data):
    with pytest.raises(Closed):
        Channel(io.BytesIO(data), io.BytesIO()).receive()


def test_a_frame_announced_too_long_is_refused_before_it_is_read():
    stream = io.BytesIO(struct.pack("<I", wire.MAX_FRAME + 1))

    with pytest.raises(WireError):
        Channel(stream, io.BytesIO()).receive()


def test_writing_to_a_closed_stream_is_closed():
    stream = io.BytesIO()
    channel = Channel(io.BytesIO(), stream)
    channel.close()

    with pytest.raises(Closed):
        channel.send(b"late")


def test_safetensors_itself_reads_what_is_packed():
    packed = pack({"a": numbers(2, 3), "b": numbers(2, dtype=torch.bfloat16)})
    (length,) = struct.unpack_from("<I", packed)

    read = dict(safetensors.deserialize(packed[4 + length :]))

    assert {name: (entry["dtype"], entry["shape"]) for name, entry in read.items()} == {
        "0": ("F32", [2, 3]),
        "1": ("BF16", [2]),
    }
