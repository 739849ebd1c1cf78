"""What an audit says: findings, from those that invalidate a result to those worth knowing."""

import dataclasses
import re
from typing import Any

INVALID, WARNING, NOTE = "invalid", "warning", "note"
LEVELS = (INVALID, WARNING, NOTE)  # worst first


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found, with every instance of it.

    level: "invalid" (a result on this data says something other than it seems to), "warning"
    (it may) or "note". code: a name for programs. title: what was found, in one sentence.
    meaning: what that does to a result, and what would mend it. details: the instances, each a
    dict that JSON can hold, whose "line" is the sentence that the text report shows.
    """

    level: str
    code: str
    title: str
    meaning: str
    details: tuple[dict[str, Any], ...]

    @property
    def count(self) -> int:
        return len(self.details)


def listed(
    level: str, code: str, title: str, meaning: str, details: list[dict[str, Any]], tail: str = ""
) -> list[Finding]:
    """A finding, or none where there are no details.

    In the title "{n}" stands for how many there are, and "[one|many]" for the words that agree
    with it; `tail` follows as it is.
    """
    if not details:
        return []
    count = len(details)
    words = re.sub(r"\[(.*?)\|(.*?)\]", r"\1" if count == 1 else r"\2", title)
    return [Finding(level, code, words.format(n=count) + tail, meaning, tuple(details))]
