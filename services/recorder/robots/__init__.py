"""The arms: packets, registers, the servo bus, calibration, connecting and configuring."""
