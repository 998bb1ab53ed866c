"""The text of ``pipeline verify``: a line for each output, and one for each of its files that differs."""

from __future__ import annotations

from pipeline.errors import printable
from pipeline.outputs.audit import Audit
from pipeline.units import bytes_text, count_text

__all__ = ["audit_text"]


def audit_text(audit: Audit) -> str:
    """Return the lines of one output."""
    size = f"{count_text(len(audit.manifest.files), 'file')}, {bytes_text(audit.manifest.nbytes)}"
    if not audit.differences:
        return printable(f"{audit.path}: as committed ({size})")
    n, now = len(audit.differences), ", accepted as it is now" if audit.accepted else ""
    verb = count_text(n, "file differs", "files differ")
    lines = [f"{audit.path}: {verb} from what was committed ({size}){now}"]
    lines += [f"  {each}" for each in audit.differences]
    if audit.accepted:
        lines.append("  The next run of the pipeline that writes this output replaces it")
    return "\n".join(map(printable, lines))
