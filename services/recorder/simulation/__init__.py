"""A simulated robot: servos behind real pseudo-terminals that speak the protocol byte for byte."""
