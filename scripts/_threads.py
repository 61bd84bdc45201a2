"""Imported before torch by every script: idle threads sleep, so that a training shares its machine."""

from worldmodel.kernels.threads import wait_asleep

wait_asleep()
