"""Which addresses may be probed: those of allowed networks, and special ones only by name."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "an unspecified address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address, as those of cloud metadata are"),
        ("100.100.100.200/32", "a cloud metadata address"),
        ("168.63.129.16/32", "a cloud metadata address"),
        ("192.0.0.192/32", "a cloud metadata address"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("::/128", "an unspecified address"),
        ("::1/128", "a loopback address"),
        ("fe80::/10", "a link-local address"),
        ("fd00:ec2::254/128", "a cloud metadata address"),
        ("fd20:ce::254/128", "a cloud metadata address"),
        ("ff00::/8", "a multicast address"),
        # What these lead to is an IPv4 address that would not be judged.
        ("::/96", "an address for IPv4 within IPv6"),
        ("64:ff9b::/96", "an address for IPv4 within IPv6"),
        ("64:ff9b:1::/48", "an address for IPv4 within IPv6"),
        ("2001::/32", "an address for IPv4 within IPv6"),
        ("2002::/16", "an address for IPv4 within IPv6"),
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")


class Allowed:
    """The networks that may be probed. Raises ValueError for what is no network.

    A network includes an address of a special range (loopback, link-local, cloud metadata,
    unspecified, multicast, IPv4 within IPv6) only if it lies within that range itself.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self.networks = tuple(_unmapped(ip_network(network)) for network in networks)

    def refusal(self, address: Address) -> str:
        """Why an address may not be probed; '' if it may. IPv4 within `::ffff:` is IPv4."""
        address = plain(address)
        including = [network for network in self.networks if address in network]
        special = _special(address)
        if special is None:
            return "" if including else f"{address} is in no network of --probe-allow"
        around, what = special
        if any(_is_within(network, around) for network in including):
            return ""
        return f"{address} is {what}: only --probe-allow {around} or a part of it allows that"


def plain(address: Address) -> Address:
    """The address as it is connected to: IPv4 that is written as IPv6 is IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _special(address: Address) -> tuple[Network, str] | None:
    """The smallest special range that an address is in."""
    around = [one for one in _SPECIAL if address in one[0]]
    return max(around, key=lambda one: one[0].prefixlen, default=None)


def _is_within(network: Network, around: Network) -> bool:
    return network.prefixlen >= around.prefixlen and network.network_address in around


def _unmapped(network: Network) -> Network:
    mapped = plain(network.network_address)
    if network.prefixlen < _MAPPED.prefixlen or not isinstance(mapped, IPv4Address):
        return network
    return network if network.version == 4 else _as_ipv4(mapped, network.prefixlen)


def _as_ipv4(address: IPv4Address, prefix: int) -> IPv4Network:
    return IPv4Network((address, prefix - _MAPPED.prefixlen))
