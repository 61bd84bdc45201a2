"""What becomes of dreams that run freely for a thousand steps."""

from worldmodel.evaluate.sections.drift.data import DriftConfig
from worldmodel.evaluate.sections.drift.section import drift

__all__ = ["DriftConfig", "drift"]
