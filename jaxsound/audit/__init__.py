"""What is wrong with a data set: `python -m jaxsound.audit`. See docs/audit.md."""

from jaxsound.audit import checks, duplicates, leaks, shortcuts
from jaxsound.audit.clips import Survey, survey
from jaxsound.audit.findings import LEVELS, Finding
from jaxsound.audit.sources import Catalogue


def audit(catalogue: Catalogue, threads: int | None = None) -> tuple[Survey, list[Finding]]:
    """Reads every clip once and returns what was measured and what was found, worst first."""
    surveyed = survey(catalogue, threads)
    findings = [
        *leaks.shared_sound(surveyed, duplicates.find(surveyed, threads)),
        *leaks.crossings(surveyed),
        *checks.names(surveyed),
        *shortcuts.shortcuts(surveyed),
        *checks.files(surveyed),
        *checks.balance(surveyed),
        *checks.formats(surveyed),
    ]
    return surveyed, sorted(findings, key=lambda finding: LEVELS.index(finding.level))
