"""Which requests are served."""

from __future__ import annotations

import pytest

from qmedsam.web.origin import find_objection

LOCAL = "localhost:8000"


@pytest.mark.parametrize("listened", ["localhost", "127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("asked", "is_served"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]", True),
        ("[::1]:8000", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("localhost@evil.example", False),
        ("192.0.2.1", False),
        ("[::2]", False),
        ("[", False),
        ("", False),
    ],
)
def test_what_this_machine_alone_may_ask_for_is_asked_for_by_its_name(listened, asked, is_served):
    objection = find_objection("GET", {"host": asked}, host=listened)
    assert (objection == "") == is_served
    assert is_served or "localhost" in objection


@pytest.mark.parametrize("listened", ["0.0.0.0", "::", "192.0.2.1", "scanner.example"])
def test_any_name_will_do_where_others_are_listened_to(listened):
    assert find_objection("GET", {"host": "scanner.example:8000"}, host=listened) == ""


@pytest.mark.parametrize(
    ("headers", "is_served"),
    [
        ({}, True),
        ({"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, False),
        ({"origin": "http://localhost"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://["}, False),
        ({"origin": ""}, False),
        ({"sec-fetch-site": "cross-site"}, False),
    ],
)
@pytest.mark.parametrize("listened", ["127.0.0.1", "0.0.0.0"])
def test_pages_of_other_sites_change_nothing(headers, is_served, listened):
    asked = {"host": LOCAL, **headers}
    for method in ("POST", "PUT", "DELETE"):
        assert (find_objection(method, asked, host=listened) == "") == is_served
    assert find_objection("GET", asked, host=listened) == ""
