"""Sizes of memory, as people write them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_circuits import sizes
from sae_circuits.errors import OptionError
from sae_circuits.sizes import UNITS, device_bytes, in_bytes, said


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (1, 1),
        ("7", 7),
        ("7B", 7),
        ("8GiB", 8 << 30),
        ("512MB", 512_000_000),
        (" 2.5 gb ", 2_500_000_000),
        ("1TiB", 1 << 40),
        ("0.5KiB", 512),
    ],
)
def test_a_size_is_read(memory, expected):
    assert in_bytes(memory) == expected


@given(st.integers(1, 10**6), st.sampled_from(sorted(UNITS)))
def test_every_unit_counts_in_bytes(n, unit):
    assert in_bytes(f"{n}{unit}") == in_bytes(f"{n} {unit.lower()}") == n * UNITS[unit]


def test_a_share_is_of_the_machine_or_of_its_container(tmp_path, monkeypatch):
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(sizes, "LIMITS", (limit, tmp_path / "none"))
    assert in_bytes("100%") == device_bytes() == whole
    assert in_bytes("25%") == int(0.25 * whole)
    limit.write_text("max\n")
    assert device_bytes() == whole
    limit.write_text(f"{1 << 20}\n")
    assert in_bytes("50%") == 1 << 19
    limit.write_text(f"{2 * whole}\n")
    assert device_bytes() == whole


@pytest.mark.parametrize(
    "memory", ["much", "", "8 gibs", "-1GiB", "0", 0, -5, True, "0%", "101%", "GiB", "%"]
)
def test_what_is_no_size_is_refused_with_the_remedy(memory):
    with pytest.raises(OptionError, match=r"is no size: give bytes, .*'512MiB', or a share"):
        in_bytes(memory)


def test_too_little_is_refused_with_the_least():
    with pytest.raises(OptionError, match="memory='1KiB': give 64 MiB or more"):
        in_bytes("1KiB", least=64 << 20)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (100 << 20, "100 MiB"),
        ((1 << 30) - 1, "1 GiB"),
        (int(9.1 * 2**30), "9.1 GiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_a_size_is_said_in_the_unit_that_fits(size, expected):
    assert said(size) == expected
