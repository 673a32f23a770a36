"""Run Casbin's own tests with our enforcer in place of `casbin.Enforcer`.

Each test that passes with stock Casbin must pass with ours. The tests come from Casbin's source distribution;
the example files they read are not in it, so those that node-casbin ships under the same names are used, and
what stock Casbin fails for want of one is left out and counted. Without a registry nothing is run, which is said.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

SOURCE = ("casbin==1.43.0", "casbin-1.43.0.tar.gz", "d2e90ce8e72f912877851e94d37999f32c558c6ba7aba0437d483275262e86e0")
EXAMPLES = ("casbin@5.51.1", "casbin-5.51.1.tgz", "a63318c82a1597b60af74b5fad85b7c44728e056977af5fde0c565d415e0471f")
MODULES = ("test_enforcer", "test_management_api", "test_rbac_api", "test_filter")
TIMEOUT_S = 600


def main() -> int:
    """Run the tests with stock Casbin, then with ours, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            fetch(Path(folder))
        except (OSError, subprocess.SubprocessError) as error:
            say(f"test-casbin: NOT RUN, Casbin's own tests could not be fetched: {error}")
            return 0
        stock, ours = (outcome(Path(folder), which) for which in ("stock", "ours"))
    passed = {name for name, ok in stock.items() if ok}
    broken = sorted(name for name in passed if not ours.get(name, False))
    for name in broken:
        say(f"test-casbin: {name} passes with stock Casbin and fails with ours")
    left_out = len(stock) - len(passed)
    say(f"test-casbin: {len(passed) - len(broken)} of {len(passed)} of Casbin's own tests pass with our enforcer"
        f" ({left_out} left out: stock Casbin fails them for want of an example file)")  # fmt: skip
    return 1 if broken or not passed else 0


def fetch(folder: Path) -> None:
    """Fetch tests and examples by their hashes.

    Raises:
        OSError: they could not be had, or are not what they should be.
    """
    wanted, name, digest = SOURCE
    pip = [os.environ.get("PYTHON", "python3"), "-m", "pip", "download", "--quiet", "--no-deps"]
    run([*pip, "--no-binary", "casbin", "--dest", str(folder), wanted], folder)
    unpack(folder / name, digest, folder)
    shutil.move(folder / "casbin-1.43.0" / "tests", folder / "tests")
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("no npm, which has the example files")
    wanted, name, digest = EXAMPLES
    run([npm, "pack", "--silent", wanted], folder)
    unpack(folder / name, digest, folder)
    shutil.move(folder / "package" / "examples", folder / "examples")


def unpack(archive: Path, digest: str, folder: Path) -> None:
    """Unpack an archive that has this hash."""
    data = archive.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise OSError(f"{archive.name} is not what it should be")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(folder, filter="data")


def outcome(folder: Path, which: str) -> dict[str, bool]:
    """Give by name whether each test passes."""
    done = run([sys.executable, __file__, which], folder)
    found: dict[str, bool] = json.loads(done.splitlines()[-1])
    return found


def run(command: list[str], folder: Path) -> str:
    """Run a command in a folder and give what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603 (our own commands)
    if done.returncode:
        raise OSError(f"{Path(command[0]).name}: {done.stderr.strip()[-300:]}")
    return done.stdout


def judge(which: str) -> None:
    """Run the tests of this folder and print what became of each."""
    import casbin  # noqa: PLC0415 (only the child needs it)

    if which == "ours":
        from gateway.policy.enforcer import GateEnforcer  # noqa: PLC0415 (same)

        casbin.Enforcer = GateEnforcer
    sys.path.insert(0, str(Path.cwd()))
    suite = unittest.defaultTestLoader.loadTestsFromNames([f"tests.{name}" for name in MODULES])
    names = [test.id() for test in tests_of(suite)]
    result = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    bad = {test.id() for test, _ in [*result.failures, *result.errors, *result.skipped]}
    sys.stdout.write("\n" + json.dumps({name: name not in bad for name in names}) + "\n")


def tests_of(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    """Give every test of a suite."""
    found: list[unittest.TestCase] = []
    for each in suite:
        found += tests_of(each) if isinstance(each, unittest.TestSuite) else [each]
    return found


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        judge(sys.argv[1])
    else:
        sys.exit(main())
