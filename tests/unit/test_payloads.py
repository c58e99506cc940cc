"""What a batch's record tells comes back as it was, and what earlier releases have written is still understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakehouse.runtime.payloads import (
    AutoLoaderFiles,
    Discard,
    Messages,
    Payload,
    Refusal,
    Release,
    Replay,
    decode,
    encode,
)

offsets = st.dictionaries(st.text(), st.dictionaries(st.text(), st.integers(0)))
payloads = st.one_of(
    st.builds(Messages, st.integers(0), offsets, st.dictionaries(st.text(), st.lists(st.integers(0), max_size=2))),
    st.builds(AutoLoaderFiles, st.text(), st.integers(0)),
    st.builds(Release),
    st.builds(Discard, st.text(), st.text()),
    st.builds(Replay, st.text()),
    st.builds(Refusal, st.text()),
)


@given(payloads)
def test_what_is_written_is_read(payload: Payload) -> None:
    assert decode(encode(payload)) == payload


@pytest.mark.parametrize(
    ("detail", "payload"),
    [
        (None, None),
        ('{"kafka": {"ends": {"t": {"0": 7}}, "epoch": 2}}', Messages(2, {"t": {"0": 7}})),
        (
            '{"kafka": {"ends": {"t": {"0": 7}}, "epoch": 1, "lost": {"t/0": [3, 7]}}}',
            Messages(1, {"t": {"0": 7}}, {"t/0": [3, 7]}),
        ),
        (
            "auto-loader 1b2c3d4e-0000-4000-8000-000000000000 12",
            AutoLoaderFiles("1b2c3d4e-0000-4000-8000-000000000000", 12),
        ),
        ("released", Release()),
        ("replay", Replay("")),
        ("replay of orders", Replay("orders")),
        ("discarded by ada: a test: upload", Discard("ada", "a test: upload")),
        (
            "batch 3 of shop_orders: 40.0% of the rows are bad",
            Refusal("batch 3 of shop_orders: 40.0% of the rows are bad"),
        ),
    ],
)
def test_what_earlier_releases_have_written(detail: str | None, payload: Payload | None) -> None:
    assert decode(detail) == payload
