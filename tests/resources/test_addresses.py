import ipaddress

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.resources.addresses import Reach, is_this_host, reach_of


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("8.8.8.8", "global"),
        ("2606:4700:4700::1111", "global"),
        ("64:ff9b::8.8.8.8", "global"),
        ("::ffff:8.8.8.8", "global"),
        ("127.0.0.1", "private"),
        ("127.255.255.254", "private"),
        ("::1", "private"),
        ("::ffff:127.0.0.1", "private"),
        ("64:ff9b::127.0.0.1", "private"),
        ("64:ff9b::10.0.0.1", "private"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("169.254.1.1", "private"),
        ("198.18.0.1", "private"),
        ("fe80::1", "private"),
        ("fd12::1", "private"),
        ("2001:db8::1", "private"),
        ("169.254.169.254", "never"),
        ("::ffff:169.254.169.254", "never"),
        ("64:ff9b::169.254.169.254", "never"),
        ("100.100.100.200", "never"),
        ("168.63.129.16", "never"),
        ("fd00:ec2::254", "never"),
        ("fe80::a9fe:a9fe", "never"),
        ("0.0.0.0", "never"),  # noqa: S104 (as a target)
        ("0.1.2.3", "never"),
        ("::", "never"),
        ("::127.0.0.1", "never"),
        ("::ffff:0.0.0.0", "never"),
        ("::ffff:0:127.0.0.1", "never"),
        ("2002:7f00:1::", "never"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "never"),
        ("64:ff9b:1::7f00:1", "never"),
        ("224.0.0.1", "never"),
        ("ff02::1", "never"),
        ("255.255.255.255", "never"),
        ("fe80::1%1", "never"),
        ("fec0::1", "never"),
    ],
)
def test_reach_of_an_address(text: str, reach: str) -> None:
    assert reach_of(ipaddress.ip_address(text)) is Reach(reach)


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_reaches_no_farther_than_itself(inner: ipaddress.IPv4Address) -> None:
    for prefix in ("::ffff:", "64:ff9b::"):
        assert reach_of(ipaddress.ip_address(f"{prefix}{inner}")) is reach_of(inner)
    for prefix in ("::", "::ffff:0:", "64:ff9b:1::"):
        assert reach_of(ipaddress.ip_address(f"{prefix}{inner}")) is not Reach.GLOBAL
    assert reach_of(ipaddress.IPv6Address((0x2002 << 112) | (int(inner) << 80))) is Reach.NEVER


@given(st.ip_addresses())
def test_only_what_the_registries_call_global_is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if reach_of(address) is Reach.GLOBAL:
        assert address.is_global or str(address).startswith(("::ffff:", "64:ff9b::"))


def test_every_address_of_this_machine_is_this_host() -> None:
    own = [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family.name in {"AF_INET", "AF_INET6"}
    ]
    for text in [*own, "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"]:  # noqa: S104 (as a target)
        assert is_this_host(ipaddress.ip_address(text.partition("%")[0])), text
    assert not is_this_host(ipaddress.ip_address("192.0.2.1"))
