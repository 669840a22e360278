"""What the supervisor has read reaches children unchanged, and nobody can change it on the way."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import parcel
from proxy.parcel import Parcel


@given(st.binary(), st.dictionaries(st.text(max_size=9), st.binary(max_size=50), max_size=4))
def test_a_parcel_survives_its_bytes(text, files):
    one = Parcel(text, "tandem.toml", files, "/etc/tandem", "/run/tandem")
    assert parcel.decode(parcel.encode(one)) == one


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_sealed_memory_holds_its_content_for_every_reader(size):
    content = os.urandom(size)
    fd = parcel.seal("test", content)
    assert parcel.unseal(fd) == parcel.unseal(fd) == content
    os.close(fd)


def test_sealed_memory_cannot_be_changed():
    fd = parcel.seal("test", b"key")
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)
