"""What is recorded: when (triggers), what (quantities), where (memory or disk)."""

from particles.record.quantities import QUANTITIES
from particles.record.quantity import Moment, Quantity
from particles.record.recorder import Recorder
from particles.record.triggers import at_times, every, log_spaced

__all__ = ["QUANTITIES", "Moment", "Quantity", "Recorder", "at_times", "every", "log_spaced"]
