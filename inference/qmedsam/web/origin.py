"""Which requests are served: by their `Host`, and by the page that they come from.

A page of another site may send requests to this machine, or have its own name point to it. Browsers
say so in headers; other programs send none of them, and are not what this is against.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

READING = {"GET", "HEAD", "OPTIONS"}  # methods that change nothing


def is_loopback(name: str) -> bool:
    """Return whether a name or address is this machine's alone."""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def find_objection(method: str, headers: Mapping[str, str], *, host: str) -> str:
    """Return why a request is not served, in a sentence; empty if it is.

    Args:
        method: of the request.
        headers: of the request, by names in lower case.
        host: address that is listened on. If it is this machine's alone, requests must name it.
    """
    asked = headers.get("host", "")
    if is_loopback(host) and not is_loopback(_name(asked)):
        return f"This page is that of localhost, not of {asked[:80]!r}."
    if method in READING:
        return ""
    origin = headers.get("origin")
    is_foreign = origin is not None and _address(origin) != asked.lower()
    if is_foreign or headers.get("sec-fetch-site") == "cross-site":
        return "Only the page of this server may change what is open."
    return ""


def _name(host: str) -> str:
    """Return a host without its port; empty if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _address(origin: str) -> str:
    """Return host and port of an origin as browsers write them; empty if it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
