"""What a command makes of what goes wrong."""

import ast
import errno
from pathlib import Path

import pytest

import jaxsound
from jaxsound.errors import UserError, command

MISSING = FileNotFoundError(errno.ENOENT, "No such file or directory", "clips/a.wav")
ELSEWHERE = ("launch/sweep.py", "jaxsound/evaluation/runs.py")


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (UserError("the fold 9 is none of 1 to 5"), 2, "error: the fold 9 is none of 1 to 5\n"),
        (MISSING, 2, "error: clips/a.wav: No such file or directory\n"),
        (OSError("a disk\nis full"), 2, "error: a disk is full\n"),
        (ConnectionResetError(), 2, "error: ConnectionResetError\n"),
        (KeyboardInterrupt(), 130, "\nstopped; nothing was written\n"),
        (SystemExit(1), 0, ""),
    ],
)
def test_one_line_and_a_status(raised, status, said, capsys):
    @command("stopped; nothing was written")
    def main() -> int:
        raise raised

    assert main() == status
    captured = capsys.readouterr()
    assert captured.err == said
    assert not captured.out


def test_what_goes_well_and_what_is_a_defect_pass_through():
    @command()
    def main(what: object) -> int:
        if isinstance(what, BaseException):
            raise what
        return int(str(what))

    assert main(3) == 3
    with pytest.raises(ZeroDivisionError):
        main(ZeroDivisionError())
    with pytest.raises(SystemExit, match="2"):
        main(SystemExit(2))


def test_every_command_is_one():
    root = Path(jaxsound.__file__).parents[1]
    own = (path for path in (root / "jaxsound").rglob("*.py") if "__main__" in path.read_text())
    mains = {
        path.relative_to(root).as_posix(): node
        for path in [*own, *(root / name for name in ELSEWHERE)]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    }
    assert len(mains) > 10
    for name, node in mains.items():
        assert [ast.unparse(d).partition("(")[0] for d in node.decorator_list] == ["command"], name
