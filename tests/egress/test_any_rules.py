"""One rule, two walls, for hosts and programs: under rules drawn at random a cell reaches what they say, no more."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.conftest import Home
    from tests.egress.conftest import Internet

Travel = Callable[..., "Home"]
HOSTS = ("good.test", "deep.good.test", "other.test")
# As rules name them; {h} and {e} are the ports of the web server and of the echo.
SCOPES = (
    "*", "*.test", "*.good.test", "good.test", "good.test:{h}", "good.test:{e}", "deep.good.test:{h}",
    "deep.good.test:{e}", "other.test:{h}", "127.0.0.1:{h}",
)  # fmt: skip
LEVELS = ("read", "write", "execute")
PROGRAMS = ("/usr/bin/true", "/usr/bin/false", "/usr/bin/env", "/bin/true")
PROGRAM_SCOPES = ("*", "/usr/bin/*", "/usr/bin/true", "/usr/bin/env", "/usr/*", "/bin/true")
TRY = """\
import ctypes
import os
import socket
import struct

libc = ctypes.CDLL(None, use_errno=True)


def direct(host, port):
    handle = libc.socket(2, 1, 0)
    if handle < 0:
        return -ctypes.get_errno()
    address = struct.pack("=H", 2) + struct.pack("!H", port) + bytes(map(int, host.split("."))) + bytes(8)
    return 0 if libc.connect(handle, address, len(address)) == 0 else -ctypes.get_errno()


def relayed(method, target, host):
    with socket.create_connection(("127.0.0.1", 3128), 15) as line:
        line.sendall(f"{method} {target} HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Length: 0\\r\\n\\r\\n".encode()
                     if method == "POST" else f"{method} {target} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
        return int(line.recv(65536).split(b" ", 2)[1])


def by_ctx(ctx, method, url):
    try:
        return ctx.http.request(method, url).status
    except Exception as error:
        return type(error).__name__


def programs(ctx, each):
    try:
        return len(ctx.system.run([each]))
    except Exception as error:
        return type(error).__name__


def started(path):
    try:
        child = os.fork()
    except OSError as error:
        return -error.errno
    if child == 0:
        libc.execve(path.encode(), (ctypes.c_char_p * 2)(path.encode(), None), None)
        os._exit(ctypes.get_errno())
    return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def execute(ctx, payload):
    return {
        "direct": [direct(*each) for each in payload["direct"]],
        "relayed": [relayed(*each) for each in payload["relayed"]],
        "ctx": [by_ctx(ctx, *each) for each in payload["ctx"]],
        "run": [programs(ctx, each) for each in payload["programs"]],
        "started": [started(each) for each in payload["programs"]],
    }
"""


@dataclass(frozen=True)
class Rule:
    """An allow or a deny that was drawn."""

    effect: str
    level: str
    scope: str

    def reaches(self, level: str) -> bool:
        asked, ruled = LEVELS.index(level), LEVELS.index(self.level)
        return ruled >= asked if self.effect == "allow" else ruled <= asked


def drawn(scopes: tuple[str, ...], levels: tuple[str, ...]) -> st.SearchStrategy[tuple[Rule, ...]]:
    one = st.builds(
        Rule,
        effect=st.sampled_from(("allow", "allow", "deny")),
        level=st.sampled_from(levels),
        scope=st.sampled_from(scopes),
    )
    return st.lists(one, max_size=5, unique=True).map(tuple)


def names(scope: str, host: str, port: int) -> bool:
    """Tell whether a rule's scope covers a host and port, thought up from the contract's words alone."""
    if scope == "*":
        return True
    if scope.startswith("*."):
        return host.endswith(scope[1:]) and port in {80, 443}
    return scope == f"{host}:{port}" or (scope == host and port in {80, 443})


def may(rules: tuple[Rule, ...], level: str, host: str, port: int) -> bool:
    """Tell whether a host on this machine may be reached: allowed, not denied, and named to the letter."""
    over = [each for each in rules if each.reaches(level) and names(each.scope, host, port)]
    literal = any(each.effect == "allow" and each.scope == f"{host}:{port}" for each in over)
    return literal and all(each.effect == "allow" for each in over)


def may_run(rules: tuple[Rule, ...], program: str) -> bool:
    over = [each for each in rules if each.reaches("execute") and lies(program, each.scope)]
    return bool(over) and all(each.effect == "allow" for each in over)


def lies(program: str, scope: str) -> bool:
    return scope in {"*", program} or (scope.endswith("/*") and program.startswith(scope[:-1]))


NETWORK = drawn(SCOPES, ("read", "write"))
SYSTEM = drawn(PROGRAM_SCOPES, ("read", "execute"))


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@example(
    network=(Rule("allow", "write", "good.test:{h}"), Rule("deny", "write", "*.test"), Rule("allow", "read", "*")),
    system=(Rule("allow", "execute", "/usr/bin/*"), Rule("deny", "execute", "/usr/bin/env")),
)
@example(
    network=(Rule("allow", "write", "good.test:{h}"), Rule("allow", "write", "good.test:{e}")),
    system=(Rule("allow", "execute", "/usr/bin/true"),),
)
@given(network=NETWORK, system=SYSTEM)
def test_what_is_reached_is_what_the_rules_say(
    travel: Travel, internet: "Internet", network: tuple[Rule, ...], system: tuple[Rule, ...]
) -> None:
    home = the_home(travel, internet)
    ports = {"h": internet.http, "e": internet.echo}
    rules = tuple(Rule(each.effect, each.level, each.scope.format(**ports)) for each in network)
    lines = [("network", each) for each in rules] + [("system", each) for each in system]
    home.rules(
        "".join(
            f"p, drawn-{number}, plugin:tries, {kind}, {each.level}, {each.scope}, -, {each.effect}, drawn\n"
            for number, (kind, each) in enumerate(lines)
        )
    )
    plain = [(method, host, internet.http) for host in HOSTS for method in ("GET", "POST")]
    tunnels = [(host, port) for host in HOSTS for port in ports.values()]
    before = len(internet.asked)
    told = go(home, plain, tunnels, [("127.0.0.1", internet.http), ("127.0.0.1", internet.echo)])
    wanted = [may(rules, "read" if method == "GET" else "write", host, port) for method, host, port in plain]
    assert [each == 200 for each in told["relayed"][: len(plain)]] == wanted, (rules, told)
    assert [each == 200 for each in told["ctx"]] == wanted, (rules, told)
    through = [may(rules, "write", host, port) for host, port in tunnels]
    assert [each == 200 for each in told["relayed"][len(plain) :]] == through, (rules, told)
    assert len(internet.asked) - before == 2 * sum(wanted), "what was refused reached nobody"
    assert all(each < 0 for each in told["direct"]), "no connection leaves a cell but through the relay"
    # /bin/true is /usr/bin/true by a link, and what a link leads to is what is decided on.
    runs = [may_run(system, "/usr/bin/true" if each == "/bin/true" else each) for each in PROGRAMS]
    assert [isinstance(each, int) for each in told["run"]] == runs, (system, told)
    assert all(each < 0 for each in told["started"]), "nothing can be executed in a cell itself"
    event(f"{sum(wanted)} requests, {sum(through)} tunnels, {sum(runs)} programs")


def the_home(travel: Travel, internet: "Internet") -> "Home":
    """Give one home for all that is drawn."""
    made: Any = getattr(internet, "home", None)
    if made is None:
        for host in HOSTS:
            internet.names[host] = [["127.0.0.1"]]
        made = travel("")
        made.install("tries", TRY, wants=("network_read nothing.test",))
        object.__setattr__(internet, "home", made)
    home: Home = made
    return home


def go(
    home: "Home", plain: list[tuple[str, str, int]], tunnels: list[tuple[str, int]], direct: list[tuple[str, int]]
) -> dict[str, Any]:
    payload = {
        "direct": direct,
        "relayed": [[method, f"http://{host}:{port}/", f"{host}:{port}"] for method, host, port in plain]
        + [["CONNECT", f"{host}:{port}", f"{host}:{port}"] for host, port in tunnels],
        "ctx": [[method, f"http://{host}:{port}/"] for method, host, port in plain],
        "programs": PROGRAMS,
    }
    answer = home.person("alice", "execute").start("POST", "/v1/plugins/tries/execute", {"payload": payload}).result(60)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert told["success"], told
    output: dict[str, Any] = told["output"]
    return output
