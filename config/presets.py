"""What a preset adds to a site, and the name of a site that has none: a site as it takes effect. Pure.

The tomcat preset: what carries Tomcat's session id is never stored, whatever else the site lists, and `;jsessionid=` is
no part of the key. The rest that Tomcat wants is so without preset: origins with a `route` keep the sessions whose id
ends in it (jvmRoute), and X-Forwarded-For, -Proto, -Host and -Port are written as its RemoteIpValve reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

if TYPE_CHECKING:
    from config.schema import Site

TOMCAT_COOKIES = ("JSESSIONID", "JSESSIONIDSSO")
TOMCAT_ARGUMENTS = ("jsessionid",)


def settle(site: Site, number: int) -> Site:
    """The site with its name and its preset applied; `number` counts sites from 1. Settling twice changes nothing."""
    return apply_preset(replace(site, name=name_site(site, number)))


def name_site(site: Site, number: int) -> str:
    """The name given, else the first host, else `site-N`."""
    return site.name or (site.hosts[0] if site.hosts else f"site-{number}")


def apply_preset(site: Site) -> Site:
    match site.preset:
        case "none":
            return site
        case "tomcat":
            return replace(
                site,
                session_cookies=_joined(site.session_cookies, TOMCAT_COOKIES),
                session_arguments=_joined(site.session_arguments, TOMCAT_ARGUMENTS),
            )
        case unknown:
            assert_never(unknown)


def _joined(written: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*written, *added]))
