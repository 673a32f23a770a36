"""Where a tunnel or request may lead: an address that was judged, whatever the name or its spelling."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Home
    from tests.egress.conftest import Internet

Travel = Callable[..., "Home"]
EVERYWHERE = "p, all, plugin:puppet, network, write, *, -, allow, test\n"
SPELLINGS = (  # of this host, or of nothing; a rule for `*` names none of them
    "127.0.0.1:{p}",
    "127.1:{p}",
    "2130706433:{p}",
    "0x7f000001:{p}",
    "0x7f.0.0.1:{p}",
    "0177.0.0.1:{p}",
    "0:{p}",
    "0.0.0.0:{p}",
    "127.0.0.1.:{p}",
    "[::1]:{p}",
    "[::]:{p}",
    "[::ffff:127.0.0.1]:{p}",
    "[::ffff:7f00:1]:{p}",
    "[64:ff9b::127.0.0.1]:{p}",
    "[64:ff9b::7f00:1]:{p}",
    "[2002:7f00:1::]:{p}",
    "[fe80::1%25lo]:{p}",
    "[::1%lo]:{p}",
    "[::127.0.0.1]:{p}",
    "169.254.169.254:80",
    "[fd00:ec2::254]:80",
    "localhost:{p}",
    "inside.test:{p}",
    "metadata.test:{p}",
    "mixed.test:{p}",
    "x@127.0.0.1:{p}",
    "good.test@127.0.0.1:{p}",
    "good.test#@127.0.0.1:{p}",
    "good.test%00:{p}",
    "①②⑦.⓪.⓪.①:{p}",
    "good.test :{p}",
    "good.test:0",
    "good.test:65536",
    "good.test:+80",
    "good.test:",
    ":{p}",
    "[good.test]:{p}",
)


def names(internet: "Internet") -> None:
    internet.names |= {
        "localhost": [["127.0.0.1"]],
        "inside.test": [["10.0.0.1"]],
        "metadata.test": [["169.254.169.254"]],
        "mixed.test": [["93.184.216.34", "127.0.0.1"]],
    }


def test_a_rule_for_every_host_leads_to_no_address_of_this_one(travel: Travel, internet: "Internet") -> None:
    home = travel(EVERYWHERE)
    names(internet)
    targets = [each.replace("{p}", str(internet.echo)) for each in SPELLINGS]
    plain = [
        ["raw", f"GET http://{each}/ HTTP/1.1\r\nHost: {each}\r\n\r\n"]
        for each in (text.replace("{p}", str(internet.http)) for text in SPELLINGS if text.isascii())
    ]
    told = home.person("alice", "execute").run(
        "puppet", *[["connect", each] for each in targets if each.isascii()], *plain
    )
    for deed, answer in zip([*filter(str.isascii, targets), *plain], told, strict=True):
        assert isinstance(answer, str), (deed, answer)
        assert answer.split(" ", 2)[1] in {"400", "403"}, (deed, answer)
    assert internet.asked == []
    assert internet.echoed == []


@pytest.mark.parametrize("host", ["127.0.0.1", "good.test", "GOOD.TEST."])
def test_a_rule_that_names_host_and_port_leads_there(travel: Travel, internet: "Internet", host: str) -> None:
    home = travel()
    assert home.person("alice", "execute").run("puppet", ["connect", f"{host}:{internet.echo}"]) == ["hello"]


def test_a_grant_that_names_a_private_host_is_not_an_operators_rule(travel: Travel, internet: "Internet") -> None:
    home = travel("", wants=(f"network_write good.test:{internet.echo}",))
    (told,) = home.person("alice", "execute").run("puppet", ["connect", f"good.test:{internet.echo}"])
    assert told.startswith("HTTP/1.1 403 ")
    (record,) = home.records(event_type="permission_violation")
    assert record["details"]["host"] == f"good.test:{internet.echo}"
    home.write_rules(record["details"]["would_allow"] + "\n")
    home.put_in_force()
    assert home.person("alice", "execute").run("puppet", ["connect", f"good.test:{internet.echo}"]) == ["hello"]


def test_a_name_that_changes_its_address_is_judged_by_the_one_that_is_dialled(
    travel: Travel, internet: "Internet"
) -> None:
    home = travel(EVERYWHERE)
    # Public first, this host ever after: whoever looked twice would be led in.
    internet.names["turning.test"] = [["203.0.113.7"], ["127.0.0.1"]]
    told = home.person("alice", "execute").run(
        "puppet", ["connect", f"turning.test:{internet.echo}"], ["connect", f"turning.test:{internet.echo}"]
    )
    assert internet.looked_up == ["turning.test", "turning.test"]
    assert [each.split(" ", 2)[1] for each in told] == ["403", "403"]
    assert internet.echoed == []


def test_the_gateways_own_listener_is_out_of_reach_by_any_rule(travel: Travel, internet: "Internet") -> None:
    home = travel()
    target = f"good.test:{internet.echo}"
    assert home.person("alice", "execute").run("puppet", ["connect", target]) == ["hello"]
    home.house.ports.add(internet.echo)
    (told,) = home.person("alice", "execute").run("puppet", ["connect", target])
    assert told.startswith("HTTP/1.1 403 ")
    (record,) = home.records(event_type="permission_violation")
    assert "would_allow" not in record["details"]


def test_ports_are_part_of_what_is_allowed(travel: Travel, internet: "Internet") -> None:
    home = travel("p, web, plugin:puppet, network, write, 127.0.0.1, -, allow, test\n")
    told = home.person("alice", "execute").run("puppet", ["connect", f"127.0.0.1:{internet.echo}"])
    assert "no_rule" in told[0]
    (decision,) = home.decided(subject="plugin:puppet", kind="network")
    assert decision["scope"] == f"127.0.0.1:{internet.echo}"
