"""The peers' own virtual environment: what they need must not mix with what nnpar is developed with."""

import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"


def install(folder: Path, requirements: Path = REQUIREMENTS) -> tuple[Path, dict[str, str]]:
    """Make the environment, if it is not there, and install what it lacks.

    Parameters
    ----------
    folder : path
    requirements : path
        One package with its version in each line.

    Returns
    -------
    python : path
        The environment's.
    missing : dict
        Requirements that cannot be installed here, and why.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
    wanted = requirements.read_text(encoding="utf-8").split()
    if _pip(python, wanted) is None:
        return python, {}
    reasons = {requirement: _pip(python, [requirement]) for requirement in wanted}
    return python, {requirement: reason for requirement, reason in reasons.items() if reason is not None}


def _pip(python: Path, requirements: list[str]) -> str | None:
    """Why they cannot be installed; None if they are."""
    print(f"installing {' '.join(requirements)}", file=sys.stderr)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    finished = subprocess.run(command, stderr=subprocess.PIPE, stdout=sys.stderr, text=True)
    if finished.returncode == 0:
        return None
    errors = [line for line in finished.stderr.splitlines() if line.startswith("ERROR")]
    return errors[-1] if errors else f"pip ended with status {finished.returncode}"
