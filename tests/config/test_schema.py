"""The schema's own promises: every option has its sentence, every number its bounds, every table is frozen."""

import typing

import msgspec
import pytest

from config import kinds, schema
from config.convert import hints, split
from config.schema import Certificate, Config, Listen, Site, Table

TABLES = [one for one in vars(schema).values() if isinstance(one, type) and issubclass(one, Table) and one is not Table]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_option_has_one_sentence(table):
    for name, annotated in hints(table).items():
        _, meta = split(annotated)
        assert meta.description, f"{table.__name__}.{name}"
        assert meta.description.endswith("."), f"{table.__name__}.{name}"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_number_is_bounded_and_every_kind_has_a_check(table):
    for name, annotated in hints(table).items():
        bare, meta = split(annotated)
        if bare is int:
            assert meta.ge is not None, name
            assert meta.le is not None, name
        kind = meta.extra["kind"]
        assert not kind or kind in kinds.CHECKS, name


def test_a_configuration_is_frozen_and_has_defaults_throughout():
    config = Config()
    with pytest.raises(AttributeError):
        config.cache = None
    assert config.limits.head == 64 * 2**10
    assert all(not isinstance(value, msgspec.UnsetType) for value in vars_of(config))


def vars_of(table: Table) -> list[typing.Any]:
    return [getattr(table, name) for name in table.__struct_fields__]


def test_a_site_with_a_certificate_speaks_tls_everywhere_but_on_port_80():
    pair = (Certificate(cert="c", key="k"),)
    http, https, other = Listen("", 80), Listen("", 443), Listen("", 8443)
    site = Site(listen=(http, https, other), tls=pair)
    assert [site.speaks_tls(one) for one in site.listen] == [False, True, True]
    chosen = Site(listen=(http, other), tls=pair, tls_ports=(80,))
    assert [chosen.speaks_tls(one) for one in chosen.listen] == [True, False]
    assert not Site(listen=(https,)).speaks_tls(https)
