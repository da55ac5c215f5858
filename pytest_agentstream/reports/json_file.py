"""Every verdict as one JSON document."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_agentstream.judging import CaseResult
    from pytest_agentstream.running import Facts

FORMAT = 1


def write_json(path: Path, results: Mapping[str, CaseResult], facts: Facts) -> None:
    """Write `{"format", "session", "results"}`; results are ordered by slug."""
    ordered = [asdict(results[slug]) for slug in sorted(results)]
    document = {"format": FORMAT, "session": asdict(facts), "results": ordered}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
