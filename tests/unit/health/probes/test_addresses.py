"""Which addresses may be probed, compared with what Python says of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyper_registry.health.probes.addresses import Address, Allowed, plain

_EVERYTHING = ("0.0.0.0/0", "::/0")
_SPECIAL = (
    "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::/128", "::1/128", "fe80::/10",
    "ff00::/8", "fd00:ec2::254/128",
)  # fmt: skip


def _inside(network: str) -> st.SearchStrategy[Address]:
    found = ip_network(network)
    return st.ip_addresses(network=found)


_addresses = st.one_of(st.ip_addresses(), *map(_inside, _SPECIAL))
_networks = st.lists(
    st.one_of(
        st.tuples(_addresses, st.integers(0, 32)).map(
            lambda one: str(ip_network((int(one[0]) % 2**32, one[1]), strict=False))
        ),
        st.tuples(st.ip_addresses(v=6), st.integers(0, 128)).map(
            lambda one: str(ip_network((one[0], one[1]), strict=False))
        ),
        st.sampled_from((*_SPECIAL, *_EVERYTHING)),
    ),
    max_size=4,
)


def _allows(networks: list[str], address: Address) -> bool:
    """The rule, said with what Python knows of networks."""
    around = [ip_network(one) for one in _SPECIAL if address in ip_network(one)]
    for one in networks:
        network = ip_network(one)
        if address not in network:
            continue
        if all(network.subnet_of(special) for special in around):  # type: ignore[arg-type]
            return True
    return False


_STRANGE = ["::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fd20:ce::254/128"]
_STRANGE_4 = ["100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "255.255.255.255/32"]


def _is_strange(address: Address) -> bool:
    """Whether it is in a range that has examples of its own below."""
    return any(address in ip_network(one) for one in (*_STRANGE, *_STRANGE_4))


@given(_networks, _addresses)
@example(["0.0.0.0/0"], IPv4Address("169.254.169.254"))
@example(["127.0.0.0/8"], IPv4Address("127.0.0.1"))
def test_allowed_is_what_is_in_a_network(networks: list[str], address: Address) -> None:
    """An address in a network is allowed; a special one only by a network within its range."""
    address = plain(address)
    if not _is_strange(address):
        assert (Allowed(networks).refusal(address) == "") is _allows(networks, address)


@given(_networks, st.ip_addresses(v=4))
@example(["127.0.0.0/8"], IPv4Address("127.0.0.1"))
@example(["::/0"], IPv4Address("10.0.0.1"))
def test_ipv4_within_ipv6_is_ipv4(networks: list[str], address: IPv4Address) -> None:
    """Both ways to write it are allowed and refused alike, and connected to alike."""
    mapped = IPv6Address(f"::ffff:{address}")
    allowed = Allowed(networks)
    assert allowed.refusal(mapped) == allowed.refusal(address)
    assert plain(mapped) == address


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.8.8.8", "169.254.169.254", "169.254.170.2",
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "239.255.255.250",
        "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%7", "fd00:ec2::254", "fd20:ce::254",
        "ff02::1", "::169.254.169.254", "::ffff:169.254.169.254", "::ffff:127.0.0.1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a9fe::1",
    ],
)  # fmt: skip
def test_everything_is_without_what_is_special(address: str) -> None:
    """Whoever allows the whole internet has not allowed this machine, its cloud or its link."""
    assert Allowed(_EVERYTHING).refusal(ip_address(address))
    by_name = str(plain(ip_address(address.partition("%")[0])))
    assert not Allowed([by_name]).refusal(ip_address(address))


def test_without_networks_nothing_is_allowed() -> None:
    """That is how it is until somebody says otherwise; the refusal says what to say."""
    assert "--probe-allow" in Allowed().refusal(ip_address("10.0.0.1"))
    refusal = Allowed(["10.0.0.0/8"]).refusal(ip_address("169.254.169.254"))
    assert "169.254.169.254 is a link-local address" in refusal
    assert "--probe-allow 169.254.0.0/16" in refusal


def test_the_innermost_special_range_counts() -> None:
    """Whoever names a special range has not named another one that lies within it."""
    allowed = Allowed(["::/96"])
    assert not allowed.refusal(ip_address("::10.0.0.1"))
    assert allowed.refusal(ip_address("::1"))
    assert allowed.refusal(ip_address("::"))


def test_a_network_that_is_written_as_ipv6() -> None:
    """`::ffff:10.0.0.0/104` is 10.0.0.0/8."""
    allowed = Allowed(["::ffff:10.0.0.0/104"])
    assert [str(network) for network in allowed.networks] == ["10.0.0.0/8"]
    assert not allowed.refusal(ip_address("10.1.2.3"))


@pytest.mark.parametrize("network", ["", "localhost", "10.0.0.1/8", "10.0.0.0/33", "::/129"])
def test_what_is_no_network_is_refused(network: str) -> None:
    """Also one that names a host and a prefix: what was meant is not certain."""
    with pytest.raises(ValueError, match=r".+"):
        Allowed([network])
